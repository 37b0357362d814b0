/* Traffic between the two ends of a pair whose bytes follow from their number, so that nothing has
 * to be kept to check it: each end calls and sends, answers what the other asks, and books every
 * execution and every final event.
 *
 * A message of 8 bytes or more begins with its tag. Shorter ones cannot say who they are and are
 * counted by length. Looks inside the library for what memory it holds: link the archives. */
#ifndef SMT_TESTS_NET_LOAD_H
#define SMT_TESTS_NET_LOAD_H

#include "net.h"

struct load_config {
    uint64_t seed;
    uint32_t n_calls;  /* of each end that calls */
    uint32_t depth;    /* in flight of an end at once */
    uint32_t max_len;  /* requests and messages: log-uniform 0 … max_len, a power of two */
    uint32_t max_resp; /* responses: the same */
    unsigned one_way;  /* percent of calls */
    bool one_sided;    /* only the client calls */
    bool hold;         /* the server answers when all that can be in flight is there */
};

struct load_call {
    uint8_t *buf;
    uint32_t len;
    uint8_t n_executed, n_ended;
    bool is_one_way;
};

struct load_side {
    struct smt_ep *ep;
    struct smt_session **sessions; /* calls take turns */
    unsigned n_sessions;
    unsigned number;
    bool blocked; /* SMT_EAGAIN came, WRITABLE did not */
    struct load_call *calls;
    uint32_t n_calls, n_posted, n_ended, max_in_flight;
    uint32_t n_replies; /* lent */
    uint32_t short_posted[8], short_executed[8];
    struct smt_msg **held; /* requests not yet answered */
    uint64_t *held_tags;
    uint32_t n_held, n_unblocks;
    uint64_t n_bytes; /* received and checked */
};

struct load {
    struct load_config config;
    struct load_side side[2]; /* 0 client, 1 server */
    struct load_side *holder;
};

/* The bytes of message `tag`. */
void load_fill(uint64_t seed, uint64_t tag, uint8_t *p, size_t len);

/* Fails the test when they differ. */
void load_expect(uint64_t seed, uint64_t tag, const uint8_t *p, size_t len);

/* Sessions borrowed; the server's may be NULL when one_sided. */
void load_init(struct load *l, const struct load_config *config, const struct net_pair *pair,
               struct smt_session **sessions, unsigned n_sessions, struct smt_session **peers);
void load_fini(struct load *l);

/* Moves both ends once; sleeps a little when nothing happens. Returns whether all calls have ended
 * and all replies have arrived. */
bool load_step(struct load *l);

/* Steps until the end; `between` (may be NULL) is called after each. Fails the test after
 * patience_s, or when a call was not executed once or did not end once. */
void load_run(struct load *l, unsigned patience_s, void (*between)(void *arg), void *arg);

/* Polls both ends until neither holds anything: no call, no buffer, no grant. */
void load_rest(struct net_pair *pair);

/* The seed of this run, printed: SMT_TEST_SEED or the given one. */
uint64_t load_seed(uint64_t fallback);

/* n, or less of it under a sanitizer. */
uint32_t load_scale(uint32_t n);

#endif
