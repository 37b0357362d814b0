/* Many seeds, each a short run with its own mix of links, limits, applications and misfortunes; and
 * runs in which the n-th allocation fails. SMT_SIM_SEEDS says how many (default 1,000),
 * SMT_SIM_SEED runs one. */
#include <stdio.h>

#include "base/mem.h"
#include "core/conn.h"
#include "core/state.h"
#include "pair.h"

static uint32_t up_to(struct smt_prng *rng, uint32_t n)
{
    return (uint32_t)smt_prng_below(rng, n + 1ull);
}

/* Half of the time 0, else up to n. */
static uint32_t maybe_up_to(struct smt_prng *rng, uint32_t n)
{
    return smt_prng_below(rng, 2) == 0 ? 0 : up_to(rng, n);
}

static struct sim_link random_link(struct smt_prng *rng)
{
    struct sim_link l = {.delay = 1000ull << smt_prng_below(rng, 11),
                         .drop = maybe_up_to(rng, 1500),
                         .dup = maybe_up_to(rng, 1000),
                         .reorder = maybe_up_to(rng, 3000),
                         .corrupt = maybe_up_to(rng, 300),
                         .ce = maybe_up_to(rng, 500)};
    l.reorder_ns = l.delay * (1 + smt_prng_below(rng, 20));
    return l;
}

static void random_host(struct smt_prng *rng, struct sim_host *h)
{
    static const uint32_t mtus[] = {1024, 1232, 1280, 1452, 1472, 4096, 8972};
    h->mtu = mtus[smt_prng_below(rng, SMT_ARRAY_LEN(mtus))];
    h->rate = 12500000ull << smt_prng_below(rng, 10);
    if (smt_prng_below(rng, 2) == 0)
        h->queue_len = 2 * h->mtu + up_to(rng, 100000);
    if (smt_prng_below(rng, 3) == 0) {
        h->down_rate = h->rate / 2;
        h->down_queue = 200000;
    }
    if (smt_prng_below(rng, 2) == 0)
        h->poll_ns = 1 + smt_prng_below(rng, 5000);
    if (smt_prng_below(rng, 3) == 0)
        h->config.max_open_rpcs = 1 + up_to(rng, 20);
    if (smt_prng_below(rng, 3) == 0)
        h->config.max_conn_bytes = (1 << 18) + up_to(rng, 1 << 20);
    if (smt_prng_below(rng, 4) == 0)
        h->config.max_bytes = (1 << 17) + up_to(rng, 1 << 19);
    if (smt_prng_below(rng, 3) == 0)
        h->config.accept_len = 1000 + up_to(rng, 100000);
    if (smt_prng_below(rng, 3) == 0)
        h->config.rekey_records = 200 + up_to(rng, 1000);
    if (smt_prng_below(rng, 4) == 0)
        h->config.tune.link_mbps = 100u << smt_prng_below(rng, 9);
    if (smt_prng_below(rng, 4) == 0)
        h->config.mtu = 1024 + up_to(rng, 3000);
    if (smt_prng_below(rng, 4) == 0)
        h->config.cached_keys = 4 + up_to(rng, 8);
    h->config.slices = smt_prng_below(rng, 4) > 0;
    if (smt_prng_below(rng, 4) > 0)
        h->run_max = 3000 + up_to(rng, 17000);
    if (h->queue_len > 0 && h->run_max > h->queue_len)
        h->run_max = (uint32_t)h->queue_len;
}

static struct sim_load_config random_load(struct smt_prng *rng)
{
    struct sim_load_config c = {.n_calls = 20 + up_to(rng, 150),
                                .window = 1 + up_to(rng, 40),
                                .max_len = 1u << smt_prng_below(rng, 18),
                                .max_resp = 1u << smt_prng_below(rng, 18),
                                .one_way = maybe_up_to(rng, 100),
                                .own_buffer = maybe_up_to(rng, 100),
                                .reject = maybe_up_to(rng, 10),
                                .cancel = maybe_up_to(rng, 30),
                                .cancel_ns = up_to(rng, 2000000),
                                .deadline = maybe_up_to(rng, 20),
                                .deadline_ns = 1 + up_to(rng, 50000000),
                                .serve_ns = maybe_up_to(rng, 3000000),
                                .hold_ns = maybe_up_to(rng, 3000000)};
    c.mutate = smt_prng_below(rng, 5) == 0;
    return c;
}

struct misfortune {
    struct pair *p;
    unsigned kinds; /* 1 path MTU, 2 blackouts, 4 restarts of b */
    unsigned left;
};

static void revive(void *arg, struct simnet *net)
{
    simnet_revive(((struct misfortune *)arg)->p->b);
}

static void misfortune(void *arg, struct simnet *net)
{
    struct misfortune *m = arg;
    unsigned from = (unsigned)smt_prng_below(&net->rng, 2);
    struct sim_link *l = simnet_link(net, from, 1 - from);
    if (m->kinds & 1 && smt_prng_below(&net->rng, 2) == 0)
        l->mtu = 1024 + up_to(&net->rng, 8000);
    if (m->kinds & 2 && smt_prng_below(&net->rng, 2) == 0) {
        l->dark_from = net->now;
        l->dark_until = net->now + smt_prng_below(&net->rng, 30 * SMT_MSEC);
    }
    if (m->kinds & 4 && m->p->b->engine != NULL && smt_prng_below(&net->rng, 4) == 0) {
        simnet_kill(m->p->b);
        sim_app_host_killed(m->p->app, m->p->b);
        simnet_at(net, net->now + smt_prng_below(&net->rng, 20 * SMT_MSEC), revive, m);
    }
    if (--m->left > 0)
        simnet_at(net, net->now + smt_prng_below(&net->rng, 20 * SMT_MSEC), misfortune, m);
}

static void ignore_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
}

/* When all calls have ended: nothing is held against anybody's credit, and once the conns are
 * closed nothing is left of them, no timer either. */
static void check_all_returned(struct simnet *net)
{
    for (unsigned i = 0; i < net->n_hosts; i++) {
        struct smt_engine *e = net->hosts[i].engine;
        net->hosts[i].on_event = ignore_event;
        SMT_LIST_FOREACH_SAFE(it, tmp, &e->live) {
            struct smt_conn *c = SMT_CONTAINER_OF(it, struct smt_conn, all_link);
            SIM_CHECK(net, c->open_calls == 0 && c->out_bytes == 0 && c->held_bytes == 0,
                      "a conn of host %u at rest holds %u calls, %llu bytes out, %llu in", i,
                      c->open_calls, (unsigned long long)c->out_bytes,
                      (unsigned long long)c->held_bytes);
            smt_conn_close(c, net->now, 0, true);
        }
        simnet_poke(&net->hosts[i]);
    }
    simnet_settle(net, net->now + 30 * SMT_SEC);
    simnet_sleep(net, 30 * SMT_SEC);
    for (unsigned i = 0; i < net->n_hosts; i++) {
        struct smt_engine *e = net->hosts[i].engine;
        SIM_CHECK(net, smt_pool_n_live(&e->conns) == 0, "host %u: %u conns left", i,
                  smt_pool_n_live(&e->conns));
        SIM_CHECK(net, smt_engine_deadline(e) == SMT_NEVER && e->wheel.occupied == 0,
                  "host %u: a timer is left", i);
    }
}

static uint64_t seed_run(uint64_t seed)
{
    struct smt_prng rng;
    smt_prng_seed(&rng, seed ^ 0x5eed);
    struct sim_link link = random_link(&rng);
    struct pair p =
        pair_new(seed, &link, smt_prng_below(&rng, 4) == 0 ? CHECKING_AES128_GCM : CHECKING_FAST);
    random_host(&rng, p.a);
    random_host(&rng, p.b);
    p.net->hs_pad = maybe_up_to(&rng, 5000);
    struct misfortune m = {.p = &p, .left = 8};
    m.kinds = smt_prng_below(&rng, 2) == 0 ? up_to(&rng, 7) : 0;
    bool restarts = (m.kinds & 4) != 0;
    for (unsigned i = 0; i < 2; i++)
        p.net->hosts[i].config.handshake_timeout = 60 * SMT_SEC;
    if (restarts)
        p.a->config.peer_timeout = 300 * SMT_MSEC;
    pair_start(&p);
    sim_app_set_incoming(p.app, (enum sim_incoming)smt_prng_below(&rng, SIM_MIX + 1), SMT_MSEC);
    unsigned n = 1 + up_to(&rng, 3);
    for (unsigned i = 0; i < n; i++) {
        struct sim_load_config config = random_load(&rng);
        bool from_a = restarts || smt_prng_below(&rng, 2) == 0;
        config.may_fail = config.reconnect = restarts;
        config.follow_hints = smt_prng_below(&rng, 2) == 0;
        sim_app_load(p.app, from_a ? p.a : p.b, from_a ? p.b : p.a, &config);
    }
    if (m.kinds != 0)
        simnet_at(p.net, p.net->now + SMT_MSEC, misfortune, &m);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    while (p.b->engine == NULL)
        simnet_sleep(p.net, SMT_MSEC);
    check_all_returned(p.net);
    return pair_free(&p);
}

static void sim_seeds(void **state)
{
    const char *text = getenv("SMT_SIM_SEEDS");
    uint64_t n = text != NULL ? strtoull(text, NULL, 0) : sim_scaled(1000);
    uint64_t first = sim_seed(0);
    if (first != 0)
        n = 1;
    else
        first = 1000;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t trace = seed_run(first + i);
        if (i % 10 == 0 && seed_run(first + i) != trace)
            fail_msg("seed %llu gives two traces", (unsigned long long)(first + i));
    }
}

/* One run, the n-th allocation fails: whatever comes of it, no crash, no leak, no call without its
 * end. */
static bool nomem_run(long n)
{
    struct pair p = pair_new(sim_seed(90), &lossy_link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 200 * SMT_MSEC;
    p.a->config.accept_len = p.b->config.accept_len = 50000;
    p.a->config.rekey_records = 100;
    smt_mem_fail_after(n);
    pair_start(&p);
    sim_app_set_incoming(p.app, SIM_ACCEPT_OWN, 0);
    struct sim_load_config config = {.n_calls = 300,
                                     .window = 150,
                                     .max_len = 1 << 16,
                                     .max_resp = 1 << 14,
                                     .one_way = 30,
                                     .own_buffer = 20,
                                     .serve_ns = 100 * SMT_USEC,
                                     .may_fail = true,
                                     .reconnect = true};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_load(p.app, p.b, p.a, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    bool struck = smt_mem_fail_after(-1) < 0;
    pair_free(&p);
    return struck;
}

static void sim_seeds_with_failing_allocations(void **state)
{
    long n = 0;
    while (nomem_run(n))
        n++;
    printf("    %ld allocations\n", n);
    assert_true(n > 10);
}

/* The n-th sealing fails: one call ends with it, or a control packet is lost; no number is used
 * twice, all goes on. */
static bool nocipher_run(long n)
{
    struct pair p = pair_new(sim_seed(91), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct sim_load_config config = {.n_calls = 30,
                                     .window = 10,
                                     .max_len = 1 << 15,
                                     .max_resp = 1 << 15,
                                     .one_way = 30,
                                     .may_fail = true};
    checking_aead_fail_after(n);
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_load(p.app, p.b, p.a, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    bool struck = checking_aead_fail_after(-1) < 0;
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->failed <= 1 && s->down == 0, "%llu calls failed",
              (unsigned long long)s->failed);
    pair_free(&p);
    return struck;
}

static void sim_seeds_with_failing_ciphers(void **state)
{
    long step = sim_scale() < 100 ? 17 : 1;
    for (long n = 0; nocipher_run(n); n += step)
        continue;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_seeds),
        cmocka_unit_test(sim_seeds_with_failing_allocations),
        cmocka_unit_test(sim_seeds_with_failing_ciphers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
