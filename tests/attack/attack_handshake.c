/* Attacks on what comes before a session: floods of hellos with false and true addresses,
 * handshakes that hang, answers longer than questions, a false responder. Memory stays flat, and a
 * real client gets in meanwhile. What needs TLS is in attack_tls.c. */
#include "attack.h"

#include "../sim/pair.h"
#include "base/mem.h"

enum { HELLO_LEN = SMT_HS_MIN_FIRST_LEN };

static struct smt_addr address(uint32_t ip, uint16_t port)
{
    struct smt_addr a = {.ip = {[10] = 0xff, [11] = 0xff}, .port = port};
    smt_put_be32(a.ip + 12, ip);
    return a;
}

static size_t hello(const struct smt_addr *from, uint16_t dport, uint64_t id, const uint8_t *cookie,
                    uint8_t out[HELLO_LEN])
{
    memset(out, 0, HELLO_LEN);
    const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                .epoch = 1,
                                .sport = from->port,
                                .dport = dport,
                                .source_id = id,
                                .tls_len = 200,
                                .cookie_len = cookie != NULL ? SMT_COOKIE_LEN : 0};
    size_t at = smt_hdr_encode(&hdr, out);
    if (cookie != NULL)
        memcpy(out + at, cookie, SMT_COOKIE_LEN);
    return HELLO_LEN;
}

/* ---- spoofed hellos ---- */

struct flood {
    struct pair p;
    uint64_t left, gap, n_answers, answer_bytes;
    uint8_t cookie[SMT_COOKIE_LEN];
};

static void flood_hello(void *arg, struct simnet *net)
{
    struct flood *f = arg;
    uint8_t pkt[HELLO_LEN];
    struct smt_addr from = address((uint32_t)smt_prng_next64(&net->rng), 700);
    if (f->left % 2 == 0)
        from = address(0x0a090000 + (uint32_t)smt_prng_below(&net->rng, 250), 700);
    const uint8_t *cookie = NULL;
    if (f->left % 3 == 0) {
        smt_prng_bytes(&net->rng, f->cookie, SMT_COOKIE_LEN);
        cookie = f->cookie;
    }
    uint16_t port = f->p.b->addr.port;
    size_t len = hello(&from, port, 1 + smt_prng_next64(&net->rng), cookie, pkt);
    simnet_inject(net, &from, f->p.b->number, pkt, len, 0);
    if (--f->left > 0)
        simnet_at(net, net->now + f->gap, flood_hello, f);
}

static const struct sim_load_config some_calls = {
    .n_calls = 200, .window = 16, .max_len = 1 << 14, .max_resp = 1 << 14, .one_way = 25};

/* 100,000 hellos in a second from addresses that nobody owns, a third with cookies made up: nothing
 * is kept of them, and a client that comes meanwhile gets its session. */
static void flood_of_spoofed_hellos(void **state)
{
    (void)state;
    struct flood f = {.left = sim_scaled(100000), .gap = 10 * SMT_USEC};
    f.p = pair_new(sim_seed(230), &clean_link, CHECKING_FAST);
    pair_start(&f.p);
    uint64_t n = f.left;
    uint64_t memory = smt_engine_memory(f.p.b->engine), live = smt_mem_live().bytes_live;
    flood_hello(&f, f.p.net);
    simnet_sleep(f.p.net, 100 * SMT_MSEC);
    SIM_CHECK(f.p.net, smt_engine_memory(f.p.b->engine) == memory, "memory of the engine");
    SIM_CHECK(f.p.net, smt_mem_live().bytes_live == live, "memory");
    struct smt_conn *conn = simnet_connect(f.p.a, f.p.b);
    uint64_t began = f.p.net->now;
    while (!sim_conn_is_up(conn)) {
        simnet_sleep(f.p.net, SMT_MSEC);
        SIM_CHECK(f.p.net, f.p.net->now < began + 2 * SMT_SEC, "no session");
    }
    sim_app_load_on(f.p.app, f.p.a, conn, &some_calls);
    sim_app_finish(f.p.app, f.p.net->now + 60 * SMT_SEC);
    SIM_CHECK(f.p.net, n < 100000 || f.left > n / 2, "the client came when it was over");
    simnet_settle(f.p.net, f.p.net->now + 10 * SMT_MSEC);
    memory = smt_engine_memory(f.p.b->engine);
    live = smt_mem_live().bytes_live;
    while (f.left > 0) {
        simnet_sleep(f.p.net, 10 * SMT_MSEC);
        SIM_CHECK(f.p.net, smt_engine_memory(f.p.b->engine) <= memory, "memory of the engine");
        SIM_CHECK(f.p.net, smt_mem_live().bytes_live <= live, "memory");
    }
    SIM_CHECK(f.p.net, simnet_n_conns(f.p.b) == 1, "conns came of it");
    SIM_CHECK(f.p.net, sim_counter(f.p.b->engine, "conns_accepted") == 1, "conns came of it");
    SIM_CHECK(f.p.net, sim_counter(f.p.b->engine, "drop_cookie") > n / 4, "not tried");
    SIM_CHECK(f.p.net, sim_app_stats(f.p.app)->failed == 0, "failures");
    pair_free(&f.p);
}

/* ---- handshakes that hang ---- */

struct crowd {
    struct hand *h;
    uint64_t n_accepted;
};

/* A hello whose cookie is right: its sender receives at that address. */
static bool true_hello(struct crowd *c, const struct smt_addr *from, uint64_t id)
{
    struct hand *h = c->h;
    uint8_t pkt[HELLO_LEN], cookie[SMT_COOKIE_LEN];
    h->config.cookie_make(h, h->now, from, id, cookie);
    size_t len = hello(from, h->config.port, id, cookie, pkt);
    uint64_t before = hand_counter(h, "conns_accepted");
    const struct smt_pkt p = {.data = pkt, .len = (uint32_t)len, .from = from};
    smt_engine_rx(h->e, h->now, &p, 1);
    return hand_counter(h, "conns_accepted") > before;
}

static uint8_t nowhere[2048];

static uint8_t *nowhere_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    (void)to;
    (void)prio;
    *(uint64_t *)arg += len;
    return nowhere;
}

static void nowhere_unreserve(void *arg)
{
    (void)arg;
}

static uint32_t nowhere_mtu(void *arg, const struct smt_addr *to)
{
    (void)arg;
    (void)to;
    return 1472;
}

/* Time passes; what leaves is counted, events are taken and nothing done about them. */
static void crowd_wait(struct crowd *c, uint64_t ns, uint64_t *sent)
{
    struct hand *h = c->h;
    const struct smt_tx_sink sink = {.arg = sent,
                                     .reserve = nowhere_reserve,
                                     .unreserve = nowhere_unreserve,
                                     .mtu = nowhere_mtu};
    struct smt_engine_event ev;
    for (uint64_t until = h->now + ns; h->now < until;) {
        h->now += 10 * SMT_MSEC;
        smt_engine_tick(h->e, h->now);
        (void)smt_engine_tx(h->e, h->now, &sink);
        while (smt_engine_next_event(h->e, &ev))
            ;
    }
}

static struct crowd crowd_new(void)
{
    struct crowd c = {.h = hand_new(true)};
    hand_connect(c.h);
    return c;
}

/* Somebody with one true address holds all places; another host gets in within a second, he himself
 * gets no more. */
static void one_host_cannot_hold_all_places(void **state)
{
    (void)state;
    struct crowd c = crowd_new();
    uint64_t sent = 0, id = 1;
    const struct smt_addr bad = address(0x0a010101, 700);
    for (unsigned i = 0; i < 6000; i++)
        (void)true_hello(&c, &bad, id++);
    assert_int_equal(c.h->e->half_open.n, SMT_HALF_OPEN_MAX);
    uint64_t memory = smt_engine_memory(c.h->e);
    const struct smt_addr good = address(0x0a020202, 700);
    assert_false(true_hello(&c, &good, id++));
    crowd_wait(&c, SMT_SEC + 20 * SMT_MSEC, &sent);
    /* He goes on all the time. */
    for (unsigned i = 0; i < 6000; i++)
        assert_false(true_hello(&c, &bad, id++));
    for (unsigned i = 0; i < 100; i++)
        assert_true(true_hello(&c, &good, id++));
    assert_int_equal(c.h->e->half_open.n, SMT_HALF_OPEN_MAX);
    assert_int_equal(smt_engine_memory(c.h->e), memory);
    crowd_wait(&c, 6 * SMT_SEC, &sent);
    assert_int_equal(c.h->e->half_open.n, 0);
    hand_free(c.h);
}

/* The same from as many addresses as there are places. */
static void many_hosts_cannot_hold_all_places(void **state)
{
    (void)state;
    struct crowd c = crowd_new();
    uint64_t sent = 0, id = 1;
    for (uint32_t i = 0; i < 8000; i++) {
        const struct smt_addr bad = address(0x0b000000 + i, 700);
        (void)true_hello(&c, &bad, id++);
    }
    assert_int_equal(c.h->e->half_open.n, SMT_HALF_OPEN_MAX);
    crowd_wait(&c, SMT_SEC + 20 * SMT_MSEC, &sent);
    unsigned n = 0;
    for (uint32_t i = 0; i < 10; i++) {
        const struct smt_addr good = address(0x0a020200 + i, 700);
        n += true_hello(&c, &good, id++);
    }
    /* Hosts share buckets, so some wait for another second. */
    assert_in_range(n, 5, 10);
    crowd_wait(&c, SMT_SEC, &sent);
    for (uint32_t i = 10; i < 20; i++) {
        const struct smt_addr good = address(0x0a020200 + i, 700);
        assert_true(true_hello(&c, &good, id++));
    }
    hand_free(c.h);
}

/* Byte by byte, each kept alive: five seconds is all anybody gets, and his place is not his for
 * more than one when others want it. */
static void slow_loris(void **state)
{
    (void)state;
    struct crowd c = crowd_new();
    struct hand *h = c.h;
    uint64_t sent = 0, first = 1;
    const struct smt_addr bad = address(0x0a010101, 700);
    for (unsigned i = 0; i < 5000; i++)
        (void)true_hello(&c, &bad, first + i);
    assert_int_equal(h->e->half_open.n, SMT_HALF_OPEN_MAX);
    uint64_t began = h->now, memory = smt_mem_live().bytes_live, most = memory;
    uint32_t at = 200;
    for (; h->now < began + 4 * SMT_SEC; at++) {
        SMT_LIST_FOREACH_SAFE(l, tmp, &h->e->half_open.conns) {
            const struct smt_conn *conn = SMT_CONTAINER_OF(l, struct smt_conn, half_link);
            uint8_t pkt[64] = {0};
            const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                        .epoch = 1,
                                        .sport = bad.port,
                                        .dport = h->config.port,
                                        .session_id = conn->id,
                                        .source_id = conn->peer_id,
                                        .offset = at,
                                        .tls_len = 1};
            smt_hdr_encode(&hdr, pkt);
            const struct smt_pkt p = {.data = pkt, .len = 45, .from = &bad};
            smt_engine_rx(h->e, h->now, &p, 1);
        }
        crowd_wait(&c, 500 * SMT_MSEC, &sent);
        if (smt_mem_live().bytes_live > most)
            most = smt_mem_live().bytes_live;
    }
    assert_int_equal(h->e->half_open.n, SMT_HALF_OPEN_MAX);
    assert_in_range(most, memory, memory + (64ull << 20));
    const struct smt_addr good = address(0x0a020202, 700);
    assert_true(true_hello(&c, &good, 99999));
    crowd_wait(&c, 6 * SMT_SEC, &sent);
    assert_int_equal(h->e->half_open.n, 0);
    assert_true(smt_mem_live().bytes_live <= memory);
    hand_free(h);
}

/* A host that begins handshakes as fast as it can gets a thousand a second, whatever becomes of
 * them. */
static void handshakes_of_one_host_are_rated(void **state)
{
    (void)state;
    struct crowd c = crowd_new();
    struct hand *h = c.h;
    uint64_t id = 1, sent = 0, n = 0;
    const struct smt_addr bad = address(0x0a010101, 700);
    uint64_t began = h->now;
    while (h->now < began + 10 * SMT_SEC) {
        for (unsigned i = 0; i < 100; i++) {
            if (!true_hello(&c, &bad, id++))
                continue;
            n++;
            /* It fails at once, as TLS does of nonsense, and makes room. */
            struct smt_list *l = h->e->half_open.conns.prev;
            smt_conn_close(SMT_CONTAINER_OF(l, struct smt_conn, half_link), h->now, SMT_EPROTO,
                           false);
        }
        crowd_wait(&c, 10 * SMT_MSEC, &sent);
    }
    assert_in_range(n, 10000, 10000 + SMT_HALF_OPEN_MAX + 100);
    const struct smt_addr good = address(0x0a020202, 700);
    assert_true(true_hello(&c, &good, id++));
    hand_free(h);
}

/* ---- answers ---- */

/* Whatever comes from an address that has proven nothing, at any length, at any endpoint: no more
 * than three times as many bytes go back, whoever they go to. */
static void amplification(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {
        SMT_KIND_DATA,  SMT_KIND_EARLY,      SMT_KIND_CTRL,    SMT_KIND_HANDSHAKE,
        SMT_KIND_RETRY, SMT_KIND_NO_SESSION, SMT_KIND_VERSION, 0x77};
    struct hand *h = hand_new(true);
    hand_connect(h);
    struct smt_prng rng;
    smt_prng_seed(&rng, 9);
    uint64_t in_all = 0, out_all = 0;
    for (unsigned i = 0; i < sim_scaled(100000); i++) {
        uint8_t pkt[1472] = {0};
        size_t len = 1 + smt_prng_below(&rng, smt_prng_below(&rng, 2) == 0 ? 120 : 1400);
        struct smt_hdr hdr = {.kind = kinds[smt_prng_below(&rng, sizeof(kinds))],
                              .sport = h->addr.port,
                              .dport = h->config.port,
                              .rpc_id = smt_prng_below(&rng, 100),
                              .source_id = smt_prng_below(&rng, 2) == 0 ? h->id : 1 + i,
                              .record_len = (uint16_t)(len > 44 ? len - 44 : 0),
                              .slice_len = (uint16_t)(len > 44 ? len - 44 : 0)};
        hdr.epoch = smt_prng_below(&rng, 2);
        hdr.session_id = smt_prng_below(&rng, 2) == 0   ? smt_conn_id(h->conn)
                         : smt_prng_below(&rng, 2) == 0 ? h->id
                                                        : smt_prng_next64(&rng);
        if (hdr.kind == 0x77) {
            smt_prng_bytes(&rng, pkt, len);
        } else {
            smt_hdr_encode(&hdr, pkt);
            if (smt_prng_below(&rng, 4) == 0)
                pkt[14] = 7;
        }
        uint64_t out = 0;
        unsigned before = h->n_pkts;
        hand_rx(h, pkt, len);
        for (unsigned k = before; k < h->n_pkts; k++)
            out += h->pkts[k].len;
        if (out > 3 * len)
            fail_msg("%llu bytes for %zu, kind %#x", (unsigned long long)out, len, hdr.kind);
        in_all += len;
        out_all += out;
        hand_clear(h);
        if (i % 100 == 0)
            hand_sleep(h, SMT_MSEC);
        assert_non_null(h->conn);
        hand_clear(h);
    }
    assert_in_range(out_all, 1, in_all / 4);
    hand_free(h);
}

/* A hello shorter than the answers it might cause is not answered, with and without a cookie. */
static void short_hellos_are_not_answered(void **state)
{
    (void)state;
    struct crowd c = crowd_new();
    struct hand *h = c.h;
    uint64_t accepted = hand_counter(h, "conns_accepted");
    for (unsigned with = 0; with < 2; with++) {
        for (uint32_t len = 1; len < HELLO_LEN; len++) {
            uint8_t pkt[HELLO_LEN], cookie[SMT_COOKIE_LEN];
            h->config.cookie_make(h, h->now, &h->addr, 1 + len, cookie);
            (void)hello(&h->addr, h->config.port, 1 + len, with != 0 ? cookie : NULL, pkt);
            hand_rx(h, pkt, len);
            if (h->n_pkts > 0)
                fail_msg("%u bytes are answered", len);
        }
    }
    assert_int_equal(hand_counter(h, "conns_accepted"), accepted);
    hand_free(h);
}

/* Whatever is not of a session is answered out of one bucket: a flood makes us send no more than
 * that, and hints leave room for those who begin a handshake. */
static void answers_to_strangers_are_rated(void **state)
{
    (void)state;
    static const char *const counters[] = {"retries_sent", "no_session_sent"};
    for (unsigned kind = 0; kind < 2; kind++) {
        struct crowd c = crowd_new();
        struct hand *h = c.h;
        uint8_t pkt[HELLO_LEN];
        size_t len = hello(&h->addr, h->config.port, 1, NULL, pkt);
        if (kind == 1) {
            const struct smt_hdr hdr = {.kind = SMT_KIND_CTRL,
                                        .sport = h->addr.port,
                                        .dport = h->config.port,
                                        .session_id = 77};
            memset(pkt, 0, sizeof(pkt));
            (void)smt_hdr_encode(&hdr, pkt);
        }
        uint64_t began = h->now, retries = hand_counter(h, "retries_sent");
        for (unsigned i = 0; i < 20000; i++) {
            hand_rx(h, pkt, len);
            hand_clear(h);
            h->now += SMT_USEC;
        }
        uint64_t most = 4000 + (h->now - began) / SMT_MSEC * 100;
        assert_in_range(hand_counter(h, counters[kind]), most / 4, most);
        /* After hints as many as may be, a hello is still answered. */
        if (kind == 1) {
            len = hello(&h->addr, h->config.port, 1, NULL, pkt);
            hand_rx(h, pkt, len);
            assert_int_equal(hand_counter(h, "retries_sent"), retries + 1);
        }
        hand_free(h);
    }
}

/* ---- a false responder ---- */

struct contest {
    struct pair p;
    bool late;   /* the false one speaks after the true one */
    bool cookie; /* after the cookie, but before the true one */
    unsigned n_forged;
    int error;
    uint64_t down_at;
};

static enum sim_verdict forge_responder(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct contest *c = arg;
    const struct sim_host *speaker = c->late ? c->p.b : c->p.a;
    if (pkt->from != speaker->number || pkt->data[13] != SMT_KIND_HANDSHAKE || c->n_forged > 0)
        return SIM_PASS;
    if (c->cookie && pkt->data[38] == 0)
        return SIM_PASS;
    c->n_forged++;
    uint64_t id = smt_get_be64(pkt->data + (c->late ? 20 : 28));
    uint8_t bytes[200] = {0};
    const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                .sport = c->p.b->addr.port,
                                .dport = c->p.a->addr.port,
                                .session_id = id,
                                .source_id = 0x666,
                                .tls_len = 0};
    smt_hdr_encode(&hdr, bytes);
    simnet_inject(net, &c->p.b->addr, c->p.a->number, bytes, SMT_HS_HDR_LEN,
                  c->late ? 20 * SMT_USEC : 1);
    return SIM_PASS;
}

static void contest_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct contest *c = arg;
    if (ev->type != SMT_EE_DOWN || host != c->p.a)
        return;
    c->error = ev->error;
    c->down_at = host->net->now;
}

/* A forged first answer ends the attempt soon, so that it can be made again; one that comes behind
 * the true responder's does nothing. */
static void false_responder(void **state)
{
    (void)state;
    for (unsigned when = 0; when < 3; when++) {
        struct contest c = {.p = pair_new(sim_seed(231), &clean_link, CHECKING_FAST),
                            .cookie = when == 1,
                            .late = when == 2};
        pair_start(&c.p);
        c.p.net->hook = forge_responder;
        c.p.net->hook_arg = &c;
        c.p.a->on_event = contest_event;
        c.p.a->arg = &c;
        uint64_t began = c.p.net->now;
        struct smt_conn *conn = simnet_connect(c.p.a, c.p.b);
        simnet_sleep(c.p.net, 50 * SMT_MSEC);
        SIM_CHECK(c.p.net, c.n_forged == 1, "not tried");
        if (c.late) {
            SIM_CHECK(c.p.net, sim_conn_is_up(conn), "not up");
            simnet_sleep(c.p.net, SMT_SEC);
            SIM_CHECK(c.p.net, c.error == 0, "ended: %d", c.error);
        } else {
            simnet_sleep(c.p.net, SMT_SEC);
            /* Before the cookie: then the true one never speaks of itself. */
            simnet_sleep(c.p.net, 2 * SMT_SEC);
            SIM_CHECK(c.p.net, c.error == SMT_EPROTO, "error %d", c.error);
            uint64_t most = c.cookie ? 200 * SMT_MSEC : 2600 * SMT_MSEC;
            SIM_CHECK(c.p.net, c.down_at < began + most, "late");
        }
        simnet_sleep(c.p.net, 10 * SMT_SEC);
        pair_free(&c.p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flood_of_spoofed_hellos),
        cmocka_unit_test(one_host_cannot_hold_all_places),
        cmocka_unit_test(many_hosts_cannot_hold_all_places),
        cmocka_unit_test(slow_loris),
        cmocka_unit_test(handshakes_of_one_host_are_rated),
        cmocka_unit_test(amplification),
        cmocka_unit_test(short_hellos_are_not_answered),
        cmocka_unit_test(answers_to_strangers_are_rated),
        cmocka_unit_test(false_responder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
