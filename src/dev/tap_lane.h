/* One direction of a tap: packets of its own memory, the faults, and what is held back. */
#ifndef SMT_DEV_TAP_LANE_H
#define SMT_DEV_TAP_LANE_H

#include "base/addr.h"
#include "base/bufpool.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/prng.h"
#include "dev/tap.h"

enum { SMT_TAP_LANE_MAX = 16384 /* packets held in one direction */ };

struct smt_tap_pkt {
    struct smt_list link;
    struct smt_addr addr; /* destination or source */
    uint8_t *data;
    uint32_t len;
    uint16_t ip_id;
    uint8_t ecn, prio;
    uint32_t n_passes; /* while late: that may still overtake it */
    uint64_t round;    /* while late: of the lane when it was held back */
    uint64_t due;
};

/* Memory of the packets of both lanes. */
struct smt_tap_store {
    struct smt_pool nodes;
    struct smt_bufpool bufs;
};

/* 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_tap_store_init(struct smt_tap_store *s);

/* Every packet must have come back. */
void smt_tap_store_fini(struct smt_tap_store *s);

/* NULL when there is no memory. */
SMT_MUST_CHECK struct smt_tap_pkt *smt_tap_pkt_new(struct smt_tap_store *s,
                                                   const struct smt_addr *addr, size_t len);
void smt_tap_pkt_free(struct smt_tap_store *s, struct smt_tap_pkt *p);
void smt_tap_list_free(struct smt_tap_store *s, struct smt_list *list);

struct smt_tap_lane {
    struct smt_prng rng;
    bool has_faults;
    struct smt_list ready; /* in the order to go, each at its time */
    struct smt_list late;  /* held back for others to pass */
    uint32_t n;            /* in both */
    uint64_t round;        /* counted up by the owner: a batch */
};

void smt_tap_lane_init(struct smt_tap_lane *lane, bool has_faults, uint64_t seed);

/* Takes a packet, which is the lane's from now on, and may vanish or become two. */
void smt_tap_lane_accept(struct smt_tap_lane *lane, struct smt_tap_store *s,
                         const struct smt_tap_spec *spec, struct smt_tap_pkt *p, uint64_t now);

/* Makes ready the late packets of rounds before `round`. */
void smt_tap_lane_release(struct smt_tap_lane *lane, uint64_t round);

/* The next packet whose time has come, still in its place; NULL when there is none. */
struct smt_tap_pkt *smt_tap_lane_first(const struct smt_tap_lane *lane, uint64_t now);
void smt_tap_lane_remove(struct smt_tap_lane *lane, struct smt_tap_pkt *p);

#endif
