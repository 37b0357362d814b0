/* Cutoffs computed from the traffic seen, in the library: no daemon, nothing to set.
 *
 * Lengths of incoming messages are counted in classes, eight an octave. The first look comes after
 * FIRST_LOOK of them, each further one when there are a third more, until `every` make one: early
 * enough where messages are long and few, and no look sees much less than the one before. From then
 * on the counts forget an eighth at each look. (Forgetting half made cutoffs of heavy-tailed
 * traffic move for ever.)
 *
 * A look walks the packets of one message of each class: those sent without a grant, and those at
 * the end, which go at the same priorities, are noted by how much was left when they leave. Their
 * share of all bytes, in levels, is how many levels they get, at least one and all but one at most.
 * The bytes are cut into one part more than that: what has most left shares the highest of the
 * scheduled levels, which the best granted message uses only when many are active. With few levels
 * this is what keeps the short messages apart from the heads of long ones. But where all granted
 * bytes have one level, of several, heads would stand behind whole windows of them (W2: messages of
 * 3 to 20 KB ten times the ideal instead of six), and it is not shared, unless there are hardly any
 * (W1).
 *
 * A length that is common may be more than a part by itself; then the parts behind it share what is
 * left, and those that would be empty are kept for lengths that were not seen yet. Control packets
 * are not counted: they go first anyway, and with long messages they would leave nothing else in
 * the highest level.
 *
 * Integer arithmetic only: the same traffic gives the same cutoffs everywhere. */
#include "core/cutoffs.h"

#include <string.h>

/* Headers, trailers and gap of a data packet, as on Ethernet under UDP. */
enum {
    PACKET_EXTRA = 155,
    FIRST_LOOK = 16,
    MEMORY_LOOKS = 8,
    MAX_STEPS = 64,
    FEW_GRANTED = 32, /* of so many bytes one granted is too few for a level of its own */
    GAP = 4,          /* between cutoffs for lengths that were not seen */
    FEW = 64,         /* messages that say little of a level's share */
    SOME = 1024,      /* messages that say little of the share of granted bytes */
};

const uint32_t smt_cutoffs_default[SMT_CUTOFFS_LEVELS] = {UINT32_MAX, 0, 0, 0,
                                                          UINT32_MAX, 15000, 2800, 200};

void smt_cutoffs_init(struct smt_cutoffs *c, unsigned n_prios, uint32_t limit)
{
    *c = (struct smt_cutoffs){.limit = limit, .look_at = FIRST_LOOK};
    memcpy(c->at, smt_cutoffs_default, sizeof(c->at));
    c->n_sched = n_prios > 4 ? (uint8_t)(n_prios - 4) : 1;
}

unsigned smt_cutoffs_class(uint32_t len)
{
    if (len < 8)
        return len;
    unsigned octave = 31 - (unsigned)__builtin_clz(len);
    unsigned class = (octave - 2) * 8 + (len >> (octave - 3) & 7);
    return class < SMT_CUTOFFS_CLASSES ? class : SMT_CUTOFFS_CLASSES - 1;
}

/* The largest length of a class. */
static uint32_t class_end(unsigned class)
{
    if (class < 8)
        return class;
    unsigned octave = class / 8 + 2;
    return ((8u + class % 8 + 1) << (octave - 3)) - 1;
}

void smt_cutoffs_renew(struct smt_cutoffs *c)
{
    if (++c->version == 0)
        c->version = 1;
}

struct weights {
    uint64_t of[SMT_CUTOFFS_CLASSES]; /* bytes on the wire by what was left */
    uint64_t sum, sched;
};

static void weigh(struct weights *w, uint32_t left, uint32_t data, uint64_t n)
{
    uint64_t wire = (uint64_t)(data + PACKET_EXTRA) * n;
    w->of[smt_cutoffs_class(left)] += wire;
    w->sum += wire;
}

/* The packets of n messages of `len` bytes. */
static void weigh_message(struct weights *w, uint32_t len, uint64_t n, uint32_t unsched,
                          uint32_t most_tail, uint32_t packet)
{
    uint32_t at = 0;
    for (unsigned i = 0; i < MAX_STEPS && at < len && at < unsched; i++) {
        uint32_t data = len - at < packet ? len - at : packet;
        weigh(w, len - at, data, n);
        at += data;
    }
    if (at >= len)
        return;
    uint32_t tail = len - at < most_tail ? len - at : most_tail;
    uint64_t n_middle = (len - at - tail) / packet;
    w->sched += n_middle * (packet + PACKET_EXTRA) * n;
    at = len - tail;
    for (unsigned i = 0; i < MAX_STEPS && at < len; i++) {
        uint32_t data = len - at < packet ? len - at : packet;
        weigh(w, len - at, data, n);
        at += data;
    }
}

/* Where the bytes are cut into n parts: ends[k], k < n - 1, in ascending order. */
static void cut(const struct weights *w, unsigned n, uint32_t *ends)
{
    uint64_t part = 0, left = w->sum;
    unsigned k = 0;
    for (unsigned i = 0; i < SMT_CUTOFFS_CLASSES && k < n - 1 && left > 0; i++) {
        part += w->of[i];
        if (part == 0 || part * (n - k) < left)
            continue;
        ends[k++] = class_end(i);
        left -= part;
        part = 0;
    }
    for (; k < n - 1; k++) {
        uint32_t usual = smt_cutoffs_default[SMT_CUTOFFS_LEVELS - 1 - k];
        uint32_t next = k > 0 && ends[k - 1] < UINT32_MAX / GAP ? ends[k - 1] * GAP : UINT32_MAX;
        ends[k] = next > usual ? next : usual;
    }
}

/* Does one of the levels in use carry much more or less than its part? */
static bool has_drifted(const struct smt_cutoffs *c, const struct weights *w, unsigned n_prios,
                        const uint32_t *ends, unsigned n_parts, uint32_t drift_pct)
{
    uint64_t is[SMT_CUTOFFS_LEVELS] = {0}, want[SMT_CUTOFFS_LEVELS] = {0};
    for (unsigned i = 0; i < SMT_CUTOFFS_CLASSES; i++) {
        unsigned k = 0;
        while (k < n_parts - 1 && ends[k] < class_end(i))
            k++;
        want[n_prios - 1 - k] += w->of[i];
        is[smt_cutoffs_level(c->at, class_end(i))] += w->of[i];
    }
    for (unsigned p = 0; p < SMT_CUTOFFS_LEVELS; p++) {
        uint64_t off = is[p] > want[p] ? is[p] - want[p] : want[p] - is[p];
        if (off * 100 * n_parts > w->sum * drift_pct)
            return true;
    }
    return false;
}

static void weigh_all(struct smt_cutoffs *c, struct weights *w, uint32_t unsched, uint32_t tail,
                      uint32_t packet, bool forget)
{
    for (unsigned i = 0; i < SMT_CUTOFFS_CLASSES; i++) {
        if (c->count[i] == 0)
            continue;
        uint32_t len = i == 0 ? 1 : class_end(i - 1) / 2 + class_end(i) / 2 + 1;
        weigh_message(w, len, c->count[i], unsched, tail, packet);
        if (forget)
            c->count[i] -= (c->count[i] + MEMORY_LOOKS - 1) / MEMORY_LOOKS;
    }
}

/* How many levels their share of all bytes deserves. One long message makes much of a share, so it
 * may be off by one level and a half, and by one more as long as little is known: `is` stays. */
static unsigned levels_of(const struct weights *w, unsigned n_prios, unsigned is, uint32_t n_known)
{
    uint64_t quarters = w->sum * n_prios * 4 / (w->sum + w->sched);
    uint64_t off = quarters > 4 * is ? quarters - 4 * is : 4 * is - quarters;
    if (off < 6 + 4ull * SOME / (n_known + SOME))
        return is;
    unsigned n = (unsigned)(quarters + 2) / 4;
    return n < 1 ? 1 : n > n_prios - 1 ? n_prios - 1 : n;
}

/* Into how many parts the bytes are cut for n levels. */
static unsigned parts_of(const struct weights *w, unsigned n, unsigned n_prios)
{
    bool apart = n > 1 && n_prios - n == 1 && w->sched * FEW_GRANTED > w->sum;
    return apart ? n : n + 1;
}

static uint32_t look_after(uint32_t n_known, uint32_t every)
{
    uint32_t n = n_known / 3 > FIRST_LOOK ? n_known / 3 : FIRST_LOOK;
    return n < every ? n : every;
}

bool smt_cutoffs_look(struct smt_cutoffs *c, unsigned n_prios, uint32_t unsched, uint32_t tail,
                      uint32_t packet, uint32_t drift_pct, uint32_t every)
{
    struct weights w = {.sum = 0};
    c->n_looks++;
    c->n_known += c->n_seen;
    c->n_seen = 0;
    bool forget = c->n_known / MEMORY_LOOKS >= every;
    weigh_all(c, &w, unsched, tail, packet, forget);
    if (forget)
        c->n_known -= c->n_known / MEMORY_LOOKS;
    c->look_at = look_after(c->n_known, every);
    if (n_prios < 2 || w.sum == 0)
        return false;
    unsigned is = n_prios - c->n_sched;
    unsigned n = levels_of(&w, n_prios, is, c->n_known);
    uint32_t ends[SMT_CUTOFFS_LEVELS];
    unsigned n_parts = parts_of(&w, n, n_prios);
    cut(&w, n_parts, ends);
    /* Few messages say little. */
    drift_pct += (uint32_t)((uint64_t)drift_pct * FEW / (c->n_known + 1));
    if (n == is && !has_drifted(c, &w, n_prios, ends, n_parts, drift_pct))
        return false;
    memset(c->at, 0, sizeof(c->at));
    c->at[0] = UINT32_MAX;
    c->n_sched = (uint8_t)(n_prios - n);
    for (unsigned k = 0; k < n_parts - 1; k++)
        c->at[n_prios - 1 - k] = ends[k];
    c->at[n_prios - n_parts] = UINT32_MAX;
    c->n_changes++;
    smt_cutoffs_renew(c);
    return true;
}
