/* Cutoffs computed from the traffic seen, in the library: no daemon, nothing to set.
 *
 * Lengths of incoming messages are counted in classes, eight an octave, and halved at each look, so
 * that about two looks' worth of messages counts. A look walks the packets of one message of each
 * class: those sent without a grant, and those at the end, which go at the same priorities, are
 * noted by how much was left when they leave. Their share of all bytes, in levels, is how many
 * levels they get, at least one and all but one at most. The bytes are cut into one part more than
 * that: what has most left shares the highest of the scheduled levels, which the best granted
 * message uses only when many are active. With few levels this is what keeps the short messages
 * apart from the heads of long ones. Control packets are not counted: they go first anyway, and
 * with long messages they would leave nothing else in the highest level.
 *
 * Integer arithmetic only: the same traffic gives the same cutoffs everywhere. */
#include "core/cutoffs.h"

#include <string.h>

/* Headers, trailers and gap of a data packet, as on Ethernet under UDP. */
enum { PACKET_EXTRA = 155, FIRST_LOOK = 64, MAX_STEPS = 64 };

const uint32_t smt_cutoffs_default[SMT_CUTOFFS_LEVELS] = {UINT32_MAX, 0, 0, 0,
                                                          1000000, 15000, 2800, 200};

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
    uint64_t sum = 0;
    unsigned k = 0;
    for (unsigned i = 0; i < SMT_CUTOFFS_CLASSES && k < n - 1; i++) {
        sum += w->of[i];
        while (k < n - 1 && sum * n >= w->sum * (k + 1))
            ends[k++] = class_end(i);
    }
    while (k < n - 1)
        ends[k++] = UINT32_MAX;
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
                      uint32_t packet)
{
    for (unsigned i = 0; i < SMT_CUTOFFS_CLASSES; i++) {
        if (c->count[i] == 0)
            continue;
        uint32_t len = i == 0 ? 1 : class_end(i - 1) / 2 + class_end(i) / 2 + 1;
        weigh_message(w, len, c->count[i], unsched, tail, packet);
        c->count[i] -= c->count[i] / 2;
    }
}

bool smt_cutoffs_look(struct smt_cutoffs *c, unsigned n_prios, uint32_t unsched, uint32_t tail,
                      uint32_t packet, uint32_t drift_pct, uint32_t every)
{
    struct weights w = {.sum = 0};
    c->n_seen = 0;
    c->n_looks++;
    c->look_at = c->look_at * 2 < every ? c->look_at * 2 : every;
    weigh_all(c, &w, unsched, tail, packet);
    if (n_prios < 2 || w.sum == 0)
        return false;
    uint64_t all = w.sum + w.sched;
    unsigned n = (unsigned)((w.sum * n_prios + all / 2) / all);
    n = n < 1 ? 1 : n > n_prios - 1 ? n_prios - 1 : n;
    unsigned is = n_prios - c->n_sched;
    /* A share that lies about halfway between two numbers of levels stays where it is. */
    if (c->version != 0 && n != is && (n > is ? n - is : is - n) == 1 &&
        w.sum * n_prios * 4 > (4ull * is - 3) * all && w.sum * n_prios * 4 < (4ull * is + 3) * all)
        n = is;
    uint32_t ends[SMT_CUTOFFS_LEVELS];
    cut(&w, n + 1, ends);
    if (c->version != 0 && n == is && !has_drifted(c, &w, n_prios, ends, n + 1, drift_pct))
        return false;
    memset(c->at, 0, sizeof(c->at));
    c->at[0] = UINT32_MAX;
    for (unsigned k = 0; k < n; k++)
        c->at[n_prios - 1 - k] = ends[k];
    c->n_sched = (uint8_t)(n_prios - n);
    c->at[c->n_sched - 1] = UINT32_MAX;
    c->n_changes++;
    smt_cutoffs_renew(c);
    return true;
}
