/* Bytes that nobody meant: noise, damaged and cut copies of real packets, replays of all of a run,
 * packets of one session under the id of another. Nothing may come of them but counters. */
#include <stdio.h>

#include "base/bytes.h"
#include "fast_hash.h"
#include "pair.h"
#include "wire/wire.h"

struct recorded {
    struct smt_addr source;
    unsigned to;
    uint32_t len;
    uint8_t *data;
};

struct garbage {
    struct pair *p;
    struct recorded *all;
    size_t n, cap;
    uint64_t session_ids[2]; /* as each host is addressed by the other */
    uint64_t n_noise;
    uint64_t n_events; /* seen by the watch */
    bool watching;
};

static void record(struct garbage *g, const struct sim_packet *pkt)
{
    if (g->n == g->cap) {
        g->cap = g->cap > 0 ? g->cap * 2 : 1024;
        g->all = realloc(g->all, g->cap * sizeof(*g->all));
        assert_non_null(g->all);
    }
    struct recorded *r = &g->all[g->n++];
    *r = (struct recorded){.source = pkt->source, .to = pkt->to, .len = pkt->len};
    r->data = malloc(pkt->len + 1u);
    assert_non_null(r->data);
    memcpy(r->data, pkt->data, pkt->len);
}

static void garbage_free(struct garbage *g)
{
    for (size_t i = 0; i < g->n; i++)
        free(g->all[i].data);
    free(g->all);
}

static enum sim_verdict keep_copy(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    record(arg, pkt);
    return SIM_PASS;
}

static void watch(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct garbage *g = arg;
    g->n_events++;
    SIM_CHECK(host->net, !g->watching || ev->type == SMT_EE_NO_SESSION, "event %d came of garbage",
              ev->type);
}

static const struct sim_load_config small_load = {
    .n_calls = 300, .window = 16, .max_len = 1 << 15, .max_resp = 1 << 15, .one_way = 25};

/* ---- noise ---- */

static void noise(void *arg, struct simnet *net)
{
    struct garbage *g = arg;
    static const uint8_t kinds[] = {SMT_KIND_DATA,      SMT_KIND_EARLY, SMT_KIND_CTRL,
                                    SMT_KIND_HANDSHAKE, SMT_KIND_RETRY, SMT_KIND_NO_SESSION,
                                    SMT_KIND_VERSION};
    uint8_t bytes[2000];
    size_t len = smt_prng_below(&net->rng, sizeof(bytes));
    smt_prng_bytes(&net->rng, bytes, len);
    unsigned to = (unsigned)smt_prng_below(&net->rng, 2);
    struct smt_addr source = net->hosts[1 - to].addr;
    if (smt_prng_below(&net->rng, 4) == 0)
        source.ip[14] = 77;
    if (len >= SMT_DATA_HDR_LEN && smt_prng_below(&net->rng, 8) != 0) {
        uint8_t kind = kinds[smt_prng_below(&net->rng, sizeof(kinds))];
        bool wide = kind == SMT_KIND_DATA || kind == SMT_KIND_EARLY || kind == SMT_KIND_HANDSHAKE;
        smt_put_be16(bytes, source.port);
        smt_put_be16(bytes + 2, net->hosts[to].addr.port);
        bytes[12] = wide ? 0xb0 : 0x70;
        bytes[13] = kind;
        bytes[14] = smt_prng_below(&net->rng, 16) == 0 ? 3 : SMT_WIRE_VERSION;
        bytes[15] = (uint8_t)smt_prng_below(&net->rng, 3);
        memset(bytes + 16, 0, 4);
        if (smt_prng_below(&net->rng, 4) != 0)
            smt_put_be64(bytes + 20, g->session_ids[to]);
        if (wide) {
            smt_put_be64(bytes + 28,
                         smt_prng_below(&net->rng, 500) | (bytes[15] & 1 ? SMT_ID_ROLE : 0));
            smt_put_be32(bytes + 4, (uint32_t)smt_prng_below(&net->rng, 3) * 1400);
            smt_put_be32(bytes + 8, 1 << smt_prng_below(&net->rng, 31));
            smt_put_be32(bytes + 36, (uint32_t)smt_prng_below(&net->rng, 50));
            smt_put_be16(bytes + 40, (uint16_t)(len - SMT_DATA_HDR_LEN));
            smt_put_be16(bytes + 42, (uint16_t)(len - SMT_DATA_HDR_LEN));
        }
        /* Half of them get as far as the tag. */
        size_t hdr_len = wide ? SMT_DATA_HDR_LEN : SMT_CTRL_HDR_LEN;
        if (len >= hdr_len + SMT_RECORD_OVERHEAD && smt_prng_below(&net->rng, 2) == 0) {
            uint64_t no = kind == SMT_KIND_DATA ? smt_data_record_no(smt_get_be64(bytes + 28),
                                                                     smt_get_be32(bytes + 36))
                                                : smt_prng_below(&net->rng, 100000);
            smt_record_head_encode(bytes + hdr_len, no, len - hdr_len - SMT_RECORD_OVERHEAD);
        }
    }
    simnet_inject(net, &source, to, bytes, len, 0);
    if (--g->n_noise > 0)
        simnet_at(net, net->now + smt_prng_below(&net->rng, 4 * SMT_USEC), noise, g);
}

static void sim_garbage_noise(void **state)
{
    struct pair p = pair_new(sim_seed(80), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct garbage g = {.p = &p, .n_noise = sim_scaled(50000)};
    struct smt_conn *conn = pair_connect(&p, NULL);
    g.session_ids[0] = smt_conn_id(conn);
    g.session_ids[1] = smt_conn_peer_id(conn);
    struct sim_load_config config = small_load;
    config.n_calls = (uint32_t)sim_scaled(3000);
    sim_app_load_on(p.app, p.a, conn, &config);
    noise(&g, p.net);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, simnet_n_conns(p.a) == 1 && simnet_n_conns(p.b) == 1, "conns came of noise");
    SIM_CHECK(p.net,
              sim_counter(p.a->engine, "drop_auth") > 0 &&
                  sim_counter(p.b->engine, "drop_auth") > 0,
              "forgeries not counted");
    SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_malformed") > 0, "malformed not counted");
    pair_free(&p);
}

/* ---- damaged copies of real packets ---- */

static enum sim_verdict damaged_copies(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    uint8_t copy[SIM_MAX_PACKET];
    for (unsigned i = 0; i < 3; i++) {
        uint32_t len = pkt->len;
        memcpy(copy, pkt->data, len);
        unsigned what = (unsigned)smt_prng_below(&net->rng, 3);
        if (what == 0)
            copy[smt_prng_below(&net->rng, len)] ^= (uint8_t)(1u << smt_prng_below(&net->rng, 8));
        else if (what == 1)
            len = (uint32_t)smt_prng_below(&net->rng, len);
        else /* in the header, where it hurts */
            copy[smt_prng_below(&net->rng, len < 60 ? len : 60)] ^=
                (uint8_t)(1 + smt_prng_below(&net->rng, 255));
        simnet_inject(net, &pkt->source, pkt->to, copy, len,
                      smt_prng_below(&net->rng, 30 * SMT_USEC));
    }
    return SIM_PASS;
}

/* Copies come before and after the real one. Not in the handshake: its packets carry no tag, who
 * stands in the path can end it as he can end any TLS handshake. */
static void sim_garbage_damaged_copies(void **state)
{
    static const struct sim_link *links[] = {&clean_link, &lossy_link};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(links); i++) {
        struct pair p = pair_new(sim_seed(81), links[i], CHECKING_FAST);
        pair_start(&p);
        struct smt_conn *conn = pair_connect(&p, NULL);
        p.net->hook = damaged_copies;
        struct sim_load_config config = small_load;
        config.n_calls = (uint32_t)sim_scaled(2000);
        sim_app_load_on(p.app, p.a, conn, &config);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
        pair_free(&p);
    }
}

/* ---- replays ---- */

static void replay_all(struct garbage *g, uint64_t gap)
{
    struct simnet *net = g->p->net;
    for (size_t i = 0; i < g->n; i++)
        simnet_inject(net, &g->all[i].source, g->all[i].to, g->all[i].data, g->all[i].len,
                      1 + i * gap);
    simnet_sleep(net, g->n * gap + 100 * SMT_MSEC);
}

/* Every packet of a finished run comes again, then once more with all in disorder: no event, no
 * memory. */
static void sim_garbage_replay_of_a_whole_run(void **state)
{
    struct pair p = pair_new(sim_seed(82), &clean_link, CHECKING_FAST);
    struct garbage g = {.p = &p};
    p.net->hook = keep_copy;
    p.net->hook_arg = &g;
    pair_start(&p);
    sim_app_set_watch(p.app, watch, &g);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = small_load;
    config.n_calls = (uint32_t)sim_scaled(1000);
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    p.net->hook = NULL;
    uint64_t memory[2] = {smt_engine_memory(p.a->engine), smt_engine_memory(p.b->engine)};
    g.watching = true;
    replay_all(&g, 100);
    for (size_t i = g.n; i > 1; i--) {
        size_t k = smt_prng_below(&p.net->rng, i);
        struct recorded tmp = g.all[i - 1];
        g.all[i - 1] = g.all[k];
        g.all[k] = tmp;
    }
    replay_all(&g, 100);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    SIM_CHECK(p.net, simnet_n_conns(p.a) == 1 && simnet_n_conns(p.b) == 1, "conns came of replays");
    SIM_CHECK(p.net, smt_engine_memory(p.a->engine) <= memory[0] + 4096, "memory a");
    SIM_CHECK(p.net, smt_engine_memory(p.b->engine) <= memory[1] + 4096, "memory b");
    uint64_t drops = sim_counter(p.b->engine, "drop_replay") +
                     sim_counter(p.b->engine, "drop_finished") +
                     sim_counter(p.b->engine, "drop_duplicate");
    SIM_CHECK(p.net, drops > g.n / 4, "%llu drops for %zu packets", (unsigned long long)drops, g.n);

    g.watching = false; /* and the session still works */
    sim_app_load_on(p.app, p.a, conn, &small_load);
    sim_app_load_on(p.app, p.b, back, &small_load);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    garbage_free(&g);
    pair_free(&p);
}

static enum sim_verdict replay_random_old(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct garbage *g = arg;
    record(g, pkt);
    for (unsigned i = 0; i < 2; i++) {
        const struct recorded *r = &g->all[smt_prng_below(&net->rng, g->n)];
        simnet_inject(net, &r->source, r->to, r->data, r->len, smt_prng_below(&net->rng, SMT_MSEC));
    }
    return SIM_PASS;
}

/* Old packets keep coming while the run goes on. */
static void sim_garbage_replays_during_the_run(void **state)
{
    struct pair p = pair_new(sim_seed(83), &lossy_link, CHECKING_FAST);
    struct garbage g = {.p = &p};
    p.net->hook = replay_random_old;
    p.net->hook_arg = &g;
    p.a->config.rekey_records = p.b->config.rekey_records = 2000;
    pair_start(&p);
    struct sim_load_config config = small_load;
    config.n_calls = (uint32_t)sim_scaled(1500);
    config.serve_ns = SMT_MSEC;
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_load(p.app, p.b, p.a, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    garbage_free(&g);
    pair_free(&p);
}

/* A run's packets come again to a server that has been restarted: all it does is say NO_SESSION. */
static void sim_garbage_replay_to_a_restarted_server(void **state)
{
    struct pair p = pair_new(sim_seed(84), &clean_link, CHECKING_FAST);
    p.b->config.handshake_timeout = 50 * SMT_MSEC;
    struct garbage g = {.p = &p};
    p.net->hook = keep_copy;
    p.net->hook_arg = &g;
    pair_start(&p);
    sim_app_set_watch(p.app, watch, &g);
    struct sim_load_config config = small_load;
    config.may_fail = true;
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    p.net->hook = NULL;
    simnet_kill(p.b);
    sim_app_host_killed(p.app, p.b);
    simnet_revive(p.b);
    g.watching = true;
    replay_all(&g, 1000);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    SIM_CHECK(p.net, simnet_n_conns(p.b) == 0, "a conn came of replays");
    SIM_CHECK(p.net, sim_counter(p.b->engine, "no_session_sent") > 0, "no NO_SESSION");
    garbage_free(&g);
    pair_free(&p);
}

/* ---- splices ---- */

struct splice {
    uint64_t ids[2][2]; /* of two sessions, as each host is addressed */
};

/* Every packet comes once more under the id of the other session. */
static enum sim_verdict splice(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    const struct splice *s = arg;
    uint8_t copy[SIM_MAX_PACKET];
    if (pkt->len < SMT_MIN_HDR_LEN)
        return SIM_PASS;
    memcpy(copy, pkt->data, pkt->len);
    uint64_t id = smt_get_be64(copy + 20);
    for (unsigned i = 0; i < 2; i++) {
        if (id != s->ids[i][pkt->to])
            continue;
        smt_put_be64(copy + 20, s->ids[1 - i][pkt->to]);
        simnet_inject(net, &pkt->source, pkt->to, copy, pkt->len,
                      smt_prng_below(&net->rng, 40 * SMT_USEC));
    }
    return SIM_PASS;
}

static void sim_garbage_spliced_sessions(void **state)
{
    struct pair p = pair_new(sim_seed(85), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *conns[2], *backs[2];
    struct splice s;
    struct sim_load_config config = small_load;
    for (unsigned i = 0; i < 2; i++) {
        conns[i] = pair_connect(&p, &backs[i]);
        s.ids[i][0] = smt_conn_id(conns[i]);
        s.ids[i][1] = smt_conn_id(backs[i]);
    }
    p.net->hook = splice;
    p.net->hook_arg = &s;
    config.n_calls = (uint32_t)sim_scaled(2000);
    for (unsigned i = 0; i < 2; i++) {
        sim_app_load_on(p.app, p.a, conns[i], &config);
        sim_app_load_on(p.app, p.b, backs[i], &config);
    }
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_auth") > 1000, "splices not counted");
    pair_free(&p);
}

/* A packet of one direction sent back where it came from. */
static enum sim_verdict reflect(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    const struct splice *s = arg;
    uint8_t copy[SIM_MAX_PACKET];
    memcpy(copy, pkt->data, pkt->len);
    if (pkt->len >= SMT_MIN_HDR_LEN) {
        memcpy(copy, pkt->data + 2, 2);
        memcpy(copy + 2, pkt->data, 2);
        smt_put_be64(copy + 20, s->ids[0][pkt->from]);
        simnet_inject(net, &net->hosts[pkt->to].addr, pkt->from, copy, pkt->len, 5 * SMT_USEC);
    }
    return SIM_PASS;
}

static void sim_garbage_reflected(void **state)
{
    struct pair p = pair_new(sim_seed(86), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct splice s = {.ids = {{smt_conn_id(conn), smt_conn_id(back)}}};
    p.net->hook = reflect;
    p.net->hook_arg = &s;
    struct sim_load_config config = small_load;
    config.n_calls = (uint32_t)sim_scaled(2000);
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_garbage_noise),
        cmocka_unit_test(sim_garbage_damaged_copies),
        cmocka_unit_test(sim_garbage_replay_of_a_whole_run),
        cmocka_unit_test(sim_garbage_replays_during_the_run),
        cmocka_unit_test(sim_garbage_replay_to_a_restarted_server),
        cmocka_unit_test(sim_garbage_spliced_sessions),
        cmocka_unit_test(sim_garbage_reflected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
