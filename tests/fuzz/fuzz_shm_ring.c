/* The words of a ring in shared memory whose other end writes what it likes into its own half: an
 * input says how far its reading end claims to be and what it puts where we read next.
 *
 * What we hand out lies in the ring; where we write is room that the other has given back, so that
 * what was committed and not taken stays as it was, whatever the other claims. */
#include "fuzz.h"

#include <string.h>

#include "base/bytes.h"
#include "dev/dev.h"
#include "dev/shm_ring.h"

enum { MAX_STEPS = 300, MAX_KEPT = 512 };

struct reader {
    const uint8_t *p;
    size_t left;
};

/* An entry that was announced. */
struct kept {
    uint64_t pos; /* of its first byte */
    uint8_t *at;
    uint32_t len;
    uint8_t fill;
};

static struct smt_shm_out out;
static struct smt_shm_in in;
static uint8_t *ours, *theirs;
static struct kept kept[MAX_KEPT];
static unsigned n_kept, first_kept;

static uint64_t take(struct reader *r, unsigned n_bytes)
{
    uint64_t v = 0;
    for (; n_bytes > 0 && r->left > 0; n_bytes--, r->left--)
        v = v << 8 | *r->p++;
    return v;
}

/* Both ends of a packet are marked; all of it would take the time of a hundred steps. The other may
 * claim to have read half of one. */
static void kept_check(void)
{
    for (unsigned i = first_kept; i < n_kept; i++) {
        const struct kept *k = &kept[i];
        FUZZ_CHECK(k->pos < out.taken || k->at[0] == k->fill);
        FUZZ_CHECK(k->pos + k->len <= out.taken || k->at[k->len - 1] == k->fill);
    }
}

static void send(struct reader *r, bool by_copy)
{
    static uint8_t packet[SMT_DEV_MAX_PACKET];
    uint32_t len = 1 + (uint32_t)take(r, 2);
    if (n_kept == MAX_KEPT || len > SMT_DEV_MAX_PACKET)
        return;
    uint64_t taken = out.taken;
    uint8_t *place = smt_shm_out_reserve(&out, len);
    FUZZ_CHECK(out.taken >= taken && out.taken <= out.sent);
    while (first_kept < n_kept && kept[first_kept].pos + kept[first_kept].len <= out.taken)
        first_kept++;
    if (place == NULL)
        return;
    FUZZ_CHECK(place >= ours + SMT_SHM_PAGE + SMT_SHM_WORD && place + len <= ours + SMT_SHM_HALF);
    uint8_t fill = (uint8_t)(n_kept * 37 + 1), *to = by_copy ? packet : place;
    to[0] = to[len - 1] = fill;
    smt_shm_out_commit(&out, by_copy ? packet : NULL);
    kept[n_kept++] = (struct kept){out.at + SMT_SHM_WORD, place, len, fill};
    kept_check();
}

static void look(bool goes_on)
{
    struct smt_shm_seen seen;
    int n = smt_shm_in_look(&in, &seen);
    FUZZ_CHECK(n == 0 || n == 1 || n == SMT_EPROTO);
    if (n != 1)
        return;
    FUZZ_CHECK(seen.len > 0 && seen.len <= SMT_DEV_MAX_PACKET);
    FUZZ_CHECK(seen.data >= theirs + SMT_SHM_PAGE && seen.data + seen.len <= theirs + SMT_SHM_HALF);
    if (goes_on) {
        smt_shm_in_next(&in, seen.len);
        smt_shm_in_tell(&in);
    }
}

/* An entry for where we read next, or some lines from it. */
static void word_put(struct reader *r, unsigned lines)
{
    uint64_t at = in.at + (uint64_t)lines * SMT_SHM_LINE;
    uint64_t word = ((at / SMT_SHM_LINE | 1u << 31) << 32) | (uint32_t)take(r, 4);
    memcpy(theirs + SMT_SHM_PAGE + (at & (SMT_SHM_RING - 1)), &word, sizeof(word));
}

static void taken_put(struct reader *r, bool is_near)
{
    uint64_t taken = take(r, is_near ? 3 : 8);
    if (is_near)
        taken = out.sent - (taken % (2 * SMT_SHM_RING)) * (SMT_SHM_LINE / 8) + SMT_SHM_LINE;
    memcpy(theirs + offsetof(struct smt_shm_page, taken), &taken, sizeof(taken));
}

static void step(struct reader *r)
{
    unsigned what = (unsigned)take(r, 1);
    switch (what & 7) {
    case 0:
    case 1:
        send(r, (what & 1) != 0);
        break;
    case 2:
    case 3:
        look((what & 1) != 0);
        break;
    case 4:
        word_put(r, what >> 3);
        break;
    case 5:
        taken_put(r, true);
        break;
    case 6:
        taken_put(r, false);
        break;
    default: /* to a place near the end of the ring */
        in.at += (what >> 3 & 3) * (SMT_SHM_RING / 4);
        in.at -= what >> 5 == 7 ? SMT_SHM_LINE : 0;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (ours == NULL) {
        ours = aligned_alloc(SMT_SHM_PAGE, SMT_SHM_HALF);
        theirs = aligned_alloc(SMT_SHM_PAGE, SMT_SHM_HALF);
        FUZZ_CHECK(ours != NULL && theirs != NULL);
        memset(ours, 0, SMT_SHM_HALF);
        memset(theirs, 0, SMT_SHM_HALF);
    }
    struct reader r = {data, size};
    memset(theirs, 0, SMT_SHM_PAGE);
    smt_shm_out_init(&out, ours);
    smt_shm_in_init(&in, theirs, ours);
    out.peer = (const struct smt_shm_page *)(const void *)theirs;
    n_kept = first_kept = 0;
    for (unsigned i = 0; i < MAX_STEPS && r.left > 0; i++)
        step(&r);
    return 0;
}
