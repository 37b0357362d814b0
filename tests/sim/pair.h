/* What nearly every run begins and ends with: two hosts, an application, a tidy end. */
#ifndef SMT_TESTS_PAIR_H
#define SMT_TESTS_PAIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_load.h"

struct pair {
    struct simnet *net;
    struct sim_app *app;
    struct sim_host *a, *b;
};

/* 5 % drop, 5 % duplicate, 20 % reorder, 1 % corrupt. */
static const struct sim_link lossy_link = {
    .delay = 10 * SMT_USEC,
    .drop = 500,
    .dup = 500,
    .reorder = 2000,
    .corrupt = 100,
    .reorder_ns = 200 * SMT_USEC,
};

/* Empty buffers that an engine may keep for the next message, and what pools grow by. */
enum { KEPT_BYTES = (64 << 20) + (16 << 20) };

static const struct sim_link clean_link = {.delay = 10 * SMT_USEC};

/* Hosts are made, not started: change their configs, then pair_start. */
static inline struct pair pair_new(uint64_t seed, const struct sim_link *link,
                                   enum checking_cipher cipher)
{
    struct simnet_config config = {.seed = seed,
                                   .n_hosts = 2,
                                   .aead = checking_aead(cipher),
                                   .link = *link,
                                   .pcap = getenv("SMT_SIM_PCAP")};
    struct pair p = {.net = simnet_new(&config)};
    p.a = &p.net->hosts[0];
    p.b = &p.net->hosts[1];
    p.app = sim_app_new(p.net);
    return p;
}

static inline void pair_start(struct pair *p)
{
    simnet_start(p->net);
}

/* A conn from a to b that is up; the other end at *back when asked for. */
static inline struct smt_conn *pair_connect(struct pair *p, struct smt_conn **back)
{
    struct smt_conn *c = simnet_connect_wait(p->a, p->b);
    if (back != NULL) {
        *back = simnet_peer_conn(p->b, c);
        SIM_CHECK(p->net, *back != NULL, "no other end");
    }
    return c;
}

static inline uint64_t pair_free(struct pair *p)
{
    uint64_t trace = p->net->trace;
    simnet_free(p->net);
    sim_app_free(p->app);
    return trace;
}

/* Messages of all lengths up to max_len both ways on a session, to their end: none fails. */
static inline void pair_load_both(struct pair *p, struct smt_conn *conn, struct smt_conn *back,
                                  uint32_t n_calls, uint32_t max_len)
{
    const struct sim_load_config config = {.n_calls = n_calls,
                                           .window = 16,
                                           .max_len = max_len,
                                           .max_resp = 1 << 14,
                                           .one_way = 20,
                                           .serve_ns = 50 * SMT_USEC};
    sim_app_load_on(p->app, p->a, conn, &config);
    sim_app_load_on(p->app, p->b, back, &config);
    sim_app_finish(p->app, p->net->now + 60 * SMT_SEC);
    const struct sim_app_stats *s = sim_app_stats(p->app);
    SIM_CHECK(p->net, s->failed == 0, "%llu failed", (unsigned long long)s->failed);
    SIM_CHECK(p->net, checking_aead_stats().violations == 0, "nonce reuse");
}

#endif
