/* The faults of a tap, and the packets it holds.
 *
 * A held packet lies in `late` until enough others have passed it or its round is over, then in
 * `ready` until its time. Whether a fault happens is drawn for each fault in a fixed order, so one
 * packet's fate does not depend on when it came. */
#include "dev/tap_lane.h"

#include <string.h>

enum {
    LATE_MAX = 4, /* packets that may pass one that is held back */
    CORRUPT_MAX = 3,
};
#define MEMORY_MAX (256ull << 20)

int smt_tap_store_init(struct smt_tap_store *s)
{
    smt_bufpool_init(&s->bufs, MEMORY_MAX, MEMORY_MAX);
    return smt_pool_init(&s->nodes, sizeof(struct smt_tap_pkt), 256, 4 * SMT_TAP_LANE_MAX);
}

void smt_tap_store_fini(struct smt_tap_store *s)
{
    smt_bufpool_fini(&s->bufs);
    smt_pool_fini(&s->nodes);
}

struct smt_tap_pkt *smt_tap_pkt_new(struct smt_tap_store *s, const struct smt_addr *addr,
                                    size_t len)
{
    struct smt_tap_pkt *p = smt_pool_get(&s->nodes);
    if (p == NULL)
        return NULL;
    *p = (struct smt_tap_pkt){.addr = *addr, .len = (uint32_t)len};
    p->data = smt_bufpool_get(&s->bufs, len);
    if (p->data == NULL) {
        smt_pool_put(&s->nodes, p);
        return NULL;
    }
    return p;
}

void smt_tap_pkt_free(struct smt_tap_store *s, struct smt_tap_pkt *p)
{
    smt_bufpool_put(&s->bufs, p->data, p->len);
    smt_pool_put(&s->nodes, p);
}

void smt_tap_list_free(struct smt_tap_store *s, struct smt_list *list)
{
    struct smt_list *l;
    while ((l = smt_list_pop_head(list)) != NULL)
        smt_tap_pkt_free(s, SMT_CONTAINER_OF(l, struct smt_tap_pkt, link));
}

static struct smt_tap_pkt *pkt_copy(struct smt_tap_store *s, const struct smt_tap_pkt *p)
{
    struct smt_tap_pkt *copy = smt_tap_pkt_new(s, &p->addr, p->len);
    if (copy == NULL)
        return NULL;
    uint8_t *data = copy->data;
    *copy = *p;
    copy->data = data;
    memcpy(data, p->data, p->len);
    return copy;
}

static bool happens(struct smt_tap_lane *lane, uint32_t chance)
{
    return lane->has_faults && smt_prng_below(&lane->rng, SMT_TAP_CERTAIN) < chance;
}

/* One to three places change, by a bit or by a whole byte; the first one for certain. */
static void pkt_corrupt(struct smt_tap_lane *lane, struct smt_tap_pkt *p)
{
    uint64_t n = 1 + smt_prng_below(&lane->rng, CORRUPT_MAX);
    uint64_t first = smt_prng_below(&lane->rng, p->len);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = i == 0 ? first : smt_prng_below(&lane->rng, p->len);
        if (i > 0 && at == first)
            continue;
        uint64_t kind = smt_prng_below(&lane->rng, 16);
        p->data[at] ^= (uint8_t)(kind < 8 ? 1u << kind : 1 + smt_prng_below(&lane->rng, 255));
    }
}

void smt_tap_lane_release(struct smt_tap_lane *lane, uint64_t round)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &lane->late)
    {
        struct smt_tap_pkt *p = SMT_CONTAINER_OF(it, struct smt_tap_pkt, link);
        if (p->n_passes == 0 || p->round < round) {
            smt_list_remove(it);
            smt_list_push_tail(&lane->ready, it);
        }
    }
}

static void lane_put(struct smt_tap_lane *lane, const struct smt_tap_spec *spec,
                     struct smt_tap_pkt *p, uint64_t now)
{
    if (happens(lane, spec->corrupt))
        pkt_corrupt(lane, p);
    p->due = now + (lane->has_faults ? spec->delay_ns : 0);
    lane->n++;
    if (happens(lane, spec->reorder)) {
        p->n_passes = 1 + (uint32_t)smt_prng_below(&lane->rng, LATE_MAX);
        p->round = lane->round;
        smt_list_push_tail(&lane->late, &p->link);
        return;
    }
    smt_list_push_tail(&lane->ready, &p->link);
    SMT_LIST_FOREACH_SAFE(it, tmp, &lane->late)
    {
        SMT_CONTAINER_OF(it, struct smt_tap_pkt, link)->n_passes--;
    }
    smt_tap_lane_release(lane, 0);
}

void smt_tap_lane_accept(struct smt_tap_lane *lane, struct smt_tap_store *s,
                         const struct smt_tap_spec *spec, struct smt_tap_pkt *p, uint64_t now)
{
    bool is_dropped = happens(lane, spec->drop);
    bool is_twice = happens(lane, spec->dup);
    if (is_dropped || lane->n >= SMT_TAP_LANE_MAX) {
        smt_tap_pkt_free(s, p);
        return;
    }
    struct smt_tap_pkt *copy = is_twice ? pkt_copy(s, p) : NULL;
    lane_put(lane, spec, p, now);
    if (copy != NULL)
        lane_put(lane, spec, copy, now);
}

struct smt_tap_pkt *smt_tap_lane_first(const struct smt_tap_lane *lane, uint64_t now)
{
    struct smt_list *l = smt_list_first(&lane->ready);
    if (l == NULL)
        return NULL;
    struct smt_tap_pkt *p = SMT_CONTAINER_OF(l, struct smt_tap_pkt, link);
    return p->due <= now ? p : NULL;
}

void smt_tap_lane_remove(struct smt_tap_lane *lane, struct smt_tap_pkt *p)
{
    smt_list_remove(&p->link);
    lane->n--;
}

void smt_tap_lane_init(struct smt_tap_lane *lane, bool has_faults, uint64_t seed)
{
    smt_prng_seed(&lane->rng, seed);
    lane->has_faults = has_faults;
    smt_list_init(&lane->ready);
    smt_list_init(&lane->late);
}
