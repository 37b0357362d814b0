/* The ring of shm_ring.h: positions only grow, and are offsets modulo its length.
 *
 * A writer that is far behind nobody begins anew at the start of the ring before its end: what is
 * used stays about a MB and in the cache, and the rest is there for when it is needed.
 *
 * What a short packet costs is the lines that change CPUs. A store waits for all stores before it,
 * so the lines of an entry are asked for before it is filled, and given to the shared cache when it
 * has been (64 B round trip: 1.11 and 1.03 times as fast; medians of 30 rounds). */
#include "dev/shm_ring.h"

#include <string.h>

#include <smt/error.h>

#include "base/line.h"
#include "dev/dev.h"

enum {
    TURN_AFTER = 1280 << 10, /* least that is used before it begins anew */
    TURN_STEP = 64 << 10,
    TURN_ROOM = 1280 << 10, /* that must be free at the start */
    LEN_MASK = 0xffff,
    FLAG_SKIP = 1 << 30, /* the next entry is at the start of the ring */
    FLAG_LATE = 1 << 29,
    FIRST_LINE = SMT_SHM_LINE - SMT_SHM_WORD,
    SHORT_LEN = 8 * SMT_SHM_LINE, /* entries up to this long have their lines handed over */
    ANSWER_LEN = 3 * SMT_SHM_LINE, /* of the entry that answers a packet, mostly */
};

static_assert((int)SMT_DEV_MAX_PACKET <= (int)LEN_MASK, "a length fits its word");

static inline uint32_t offset_of(uint64_t at)
{
    return (uint32_t)(at & (SMT_SHM_RING - 1));
}

static inline uint64_t entry_len(uint32_t len)
{
    return (SMT_SHM_WORD + (uint64_t)len + SMT_SHM_LINE - 1) & ~(uint64_t)(SMT_SHM_LINE - 1);
}

/* Never zero. */
static inline uint32_t stamp_of(uint64_t at)
{
    return (uint32_t)(at / SMT_SHM_LINE) | 1u << 31;
}

static inline void word_put(uint8_t *ring, uint64_t at, uint32_t low)
{
    uint64_t word = (uint64_t)stamp_of(at) << 32 | low;
    __atomic_store_n((uint64_t *)(void *)(ring + offset_of(at)), word, __ATOMIC_RELEASE);
}

void smt_shm_out_init(struct smt_shm_out *o, uint8_t *half)
{
    *o = (struct smt_shm_out){.ring = half + SMT_SHM_PAGE, .turn_at = TURN_AFTER};
}

void smt_shm_in_init(struct smt_shm_in *in, const uint8_t *their_half, uint8_t *our_half)
{
    *in = (struct smt_shm_in){
        .ring = their_half + SMT_SHM_PAGE,
        .page = (struct smt_shm_page *)(void *)our_half,
    };
}

/* What the other says may be a lie, but not one that makes room where there is none. */
static void taken_look(struct smt_shm_out *o)
{
    if (o->peer == NULL)
        return;
    uint64_t taken = __atomic_load_n(&o->peer->taken, __ATOMIC_ACQUIRE);
    if (taken - o->taken > o->sent - o->taken)
        o->is_bad = true;
    else
        o->taken = taken;
}

/* The line behind the entry is needed too: it becomes zero. */
static inline bool fits(const struct smt_shm_out *o, uint64_t end)
{
    return end + SMT_SHM_LINE - o->taken <= SMT_SHM_RING;
}

/* Where an entry may be; SMT_NEVER: nowhere. */
static uint64_t place_find(struct smt_shm_out *o, uint64_t need)
{
    uint32_t off = offset_of(o->sent);
    uint64_t start = o->sent + SMT_SHM_RING - off;
    bool must_turn = off + need > SMT_SHM_RING;
    if (SMT_UNLIKELY(must_turn || off >= o->turn_at)) {
        taken_look(o);
        if (!o->is_bad && fits(o, start + need + (must_turn ? 0 : TURN_ROOM)))
            return start;
        o->turn_at = off + TURN_STEP;
        if (must_turn)
            return SMT_NEVER;
    }
    if (SMT_UNLIKELY(!fits(o, o->sent + need)))
        taken_look(o);
    return !o->is_bad && fits(o, o->sent + need) ? o->sent : SMT_NEVER;
}

/* The lines behind the first one up to `end`, where the word of the next entry is. The first is
 * looked at by the reader all the time: he would take it back at once. */
static inline void lines_own(const struct smt_shm_out *o, uint64_t at, uint64_t end)
{
    for (uint64_t line = at + SMT_SHM_LINE; line <= end; line += SMT_SHM_LINE)
        smt_line_own(o->ring + offset_of(line));
}

static inline void lines_share(const struct smt_shm_out *o, uint64_t at, uint64_t end)
{
    for (uint64_t line = at; line < end; line += SMT_SHM_LINE)
        smt_line_share(o->ring + offset_of(line));
}

void smt_shm_out_expect(const struct smt_shm_out *o)
{
    lines_own(o, o->sent, o->sent + ANSWER_LEN);
}

uint8_t *smt_shm_out_reserve(struct smt_shm_out *o, uint32_t len)
{
    assert(len > 0 && len <= SMT_SHM_RING / 4);
    o->at = place_find(o, entry_len(len));
    o->len = len;
    if (SMT_UNLIKELY(o->at == SMT_NEVER))
        return NULL;
    if (entry_len(len) <= SHORT_LEN)
        lines_own(o, o->at, o->at + entry_len(len));
    return o->ring + offset_of(o->at) + SMT_SHM_WORD;
}

void smt_shm_out_commit(struct smt_shm_out *o, const uint8_t *from)
{
    uint64_t next = o->at + entry_len(o->len);
    uint32_t low = o->len;
    if (SMT_UNLIKELY(next - o->taken > SMT_SHM_RING / 2)) {
        taken_look(o);
        if (next - o->taken > SMT_SHM_RING / 2)
            low |= FLAG_LATE;
    }
    __atomic_store_n((uint64_t *)(void *)(o->ring + offset_of(next)), 0, __ATOMIC_RELAXED);
    if (from != NULL) {
        /* The reader looks at the first line all the time: it is written last, at once. */
        uint8_t *to = o->ring + offset_of(o->at) + SMT_SHM_WORD;
        uint32_t first = o->len < FIRST_LINE ? o->len : FIRST_LINE;
        memcpy(to + first, from + first, o->len - first);
        memcpy(to, from, first);
    }
    word_put(o->ring, o->at, low);
    if (next - o->at <= SHORT_LEN)
        lines_share(o, o->at, next);
    if (SMT_UNLIKELY(o->at != o->sent)) {
        word_put(o->ring, o->sent, FLAG_SKIP);
        o->turn_at = TURN_AFTER;
    }
    o->sent = next;
}

int smt_shm_in_look(struct smt_shm_in *in, struct smt_shm_seen *out)
{
    for (unsigned turns = 0;; turns++) {
        uint32_t off = offset_of(in->at);
        uint64_t word =
            __atomic_load_n((const uint64_t *)(const void *)(in->ring + off), __ATOMIC_ACQUIRE);
        if ((uint32_t)(word >> 32) != stamp_of(in->at))
            return 0;
        uint32_t low = (uint32_t)word;
        if (SMT_UNLIKELY(low == FLAG_SKIP)) {
            if (off == 0 || turns > 0)
                return SMT_EPROTO;
            in->at += SMT_SHM_RING - off;
            continue;
        }
        uint32_t len = low & LEN_MASK;
        if (SMT_UNLIKELY(len == 0 || len > SMT_DEV_MAX_PACKET ||
                         off + SMT_SHM_WORD + len > SMT_SHM_RING))
            return SMT_EPROTO;
        *out = (struct smt_shm_seen){
            .data = in->ring + off + SMT_SHM_WORD,
            .len = len,
            .is_late = (low & FLAG_LATE) != 0,
        };
        return 1;
    }
}
