/* Changes of address: followed when the peer has moved, not when somebody sends copies of its
 * packets from elsewhere. Nothing but challenges goes to an address that has not answered, and no
 * more than three times what came from there. */
#include "attack.h"

#include "base/mem.h"
#include "../sim/pair.h"

/* Three hosts: a client, b server, c the other address (and whoever sits there). */
struct detour {
    struct simnet *net;
    struct sim_app *app;
    struct sim_host *a, *b, *c;
    struct smt_conn *conn, *back;
    bool moved;  /* a's packets leave under c's address, and come back by it; a's own is dead */
    bool copies; /* a copy of each of a's packets comes from c, before the real one */
    bool relays; /* c hands on to a what it gets */
    bool noise;  /* c sends packets of its own under a's session id */
    uint64_t from_c, to_c, n_to_c, n_data_to_c; /* at b, while it still sends to a */
    uint64_t all_from_c;
};

static void look(struct detour *d, const struct sim_packet *pkt)
{
    if (pkt->from != d->b->number || pkt->to != d->c->number || d->b->engine == NULL)
        return;
    if (smt_addr_equal(smt_conn_addr(d->back), &d->c->addr))
        return; /* it has been proven */
    d->to_c += pkt->len;
    d->n_to_c++;
    d->n_data_to_c += pkt->data[13] == SMT_KIND_DATA;
    SIM_CHECK(d->net, d->to_c <= 3 * d->from_c, "%llu bytes to an address that sent %llu",
              (unsigned long long)d->to_c, (unsigned long long)d->from_c);
}

static enum sim_verdict detour_hook(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct detour *d = arg;
    if (d->back != NULL)
        look(d, pkt);
    if (d->moved && pkt->from == d->a->number) {
        pkt->source = d->c->addr;
        d->from_c += pkt->len;
        return SIM_PASS;
    }
    if (d->moved && pkt->from == d->b->number) {
        if (pkt->to == d->a->number)
            return SIM_DROP;
        pkt->to = d->a->number;
        return SIM_PASS;
    }
    if (d->copies && pkt->from == d->a->number) {
        d->from_c += pkt->len;
        simnet_inject(net, &d->c->addr, pkt->to, pkt->data, pkt->len, 1 * SMT_USEC);
        pkt->extra_delay += 20 * SMT_USEC;
    }
    if (d->noise && pkt->from == d->a->number) {
        uint8_t bytes[SIM_MAX_PACKET];
        memcpy(bytes, pkt->data, pkt->len);
        bytes[pkt->len - 1] ^= 1;
        simnet_inject(net, &d->c->addr, pkt->to, bytes, pkt->len, 1 * SMT_USEC);
    }
    if (d->relays && pkt->from == d->b->number && pkt->to == d->c->number)
        pkt->to = d->a->number;
    return SIM_PASS;
}

static void detour_begin(struct detour *d, uint64_t seed)
{
    struct simnet_config config = {.seed = sim_seed(seed),
                                   .n_hosts = 3,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = clean_link,
                                   .pcap = getenv("SMT_SIM_PCAP")};
    *d = (struct detour){.net = simnet_new(&config)};
    d->a = &d->net->hosts[0];
    d->b = &d->net->hosts[1];
    d->c = &d->net->hosts[2];
    d->app = sim_app_new(d->net);
    simnet_start(d->net);
    d->conn = simnet_connect_wait(d->a, d->b);
    d->back = simnet_peer_conn(d->b, d->conn);
    d->net->hook = detour_hook;
    d->net->hook_arg = d;
}

static void detour_load(struct detour *d)
{
    const struct sim_load_config config = {.n_calls = 1000, /* longer than what happens meanwhile */
                                           .window = 8,
                                           .max_len = 1 << 14,
                                           .max_resp = 1 << 14,
                                           .one_way = 20};
    sim_app_load_on(d->app, d->a, d->conn, &config);
    sim_app_load_on(d->app, d->b, d->back, &config);
    sim_app_finish(d->app, d->net->now + 60 * SMT_SEC);
    SIM_CHECK(d->net, sim_app_stats(d->app)->failed == 0, "failures");
}

static void detour_end(struct detour *d)
{
    simnet_free(d->net);
    sim_app_free(d->app);
}

static void move_now(void *arg, struct simnet *net)
{
    struct detour *d = arg;
    (void)net;
    d->moved = true;
}

/* The client's address changes under way, without a word, and the old one is dead. */
static void a_peer_that_moves_is_followed(void **state)
{
    (void)state;
    struct detour d;
    detour_begin(&d, 220);
    simnet_at(d.net, d.net->now + 500 * SMT_USEC, move_now, &d);
    detour_load(&d);
    SIM_CHECK(d.net, sim_counter(d.b->engine, "peers_moved") == 1, "it was not followed");
    SIM_CHECK(d.net, smt_addr_equal(smt_conn_addr(d.back), &d.c->addr), "packets go elsewhere");
    SIM_CHECK(d.net, d.n_to_c > 0 && d.n_to_c <= 3, "%llu packets before it was proven",
              (unsigned long long)d.n_to_c);
    SIM_CHECK(d.net, d.n_data_to_c == 0, "data before it was proven");
    detour_load(&d);
    detour_end(&d);
}

/* Copies of all packets, from elsewhere and sooner: answered by a challenge now and then. */
static void copied_packets_move_nobody(void **state)
{
    (void)state;
    for (unsigned relays = 0; relays < 2; relays++) {
        struct detour d;
        detour_begin(&d, 221 + relays);
        d.copies = true;
        d.relays = relays != 0;
        detour_load(&d);
        simnet_sleep(d.net, 3 * SMT_SEC);
        detour_load(&d);
        SIM_CHECK(d.net, sim_counter(d.b->engine, "moves_checked") > 1, "not tried");
        SIM_CHECK(d.net, sim_counter(d.b->engine, "peers_moved") == 0, "it was followed");
        SIM_CHECK(d.net, d.n_to_c > 0 && d.n_data_to_c == 0, "data to the copier");
        uint64_t most = 3 * (sim_counter(d.b->engine, "moves_checked"));
        SIM_CHECK(d.net, d.n_to_c <= most, "%llu packets to the copier",
                  (unsigned long long)d.n_to_c);
        detour_end(&d);
    }
}

/* The same while the way to the old address is closed for a while: as long as nobody answers at the
 * new one, nobody is followed there. */
static void silent_addresses_are_not_followed(void **state)
{
    (void)state;
    struct detour d;
    detour_begin(&d, 224);
    d.copies = true;
    simnet_link(d.net, 1, 0)->dark_from = d.net->now;
    simnet_link(d.net, 1, 0)->dark_until = d.net->now + 500 * SMT_MSEC;
    detour_load(&d);
    SIM_CHECK(d.net, sim_counter(d.b->engine, "moves_checked") > 0, "not tried");
    SIM_CHECK(d.net, sim_counter(d.b->engine, "peers_moved") == 0, "it was followed");
    detour_end(&d);
}

/* Packets that do not open start no check at all. */
static void forged_packets_from_elsewhere(void **state)
{
    (void)state;
    struct detour d;
    detour_begin(&d, 223);
    d.noise = true;
    detour_load(&d);
    SIM_CHECK(d.net, sim_counter(d.b->engine, "drop_auth") > 100, "not tried");
    SIM_CHECK(d.net, sim_counter(d.b->engine, "moves_checked") == 0, "a check began");
    SIM_CHECK(d.net, d.n_to_c == 0, "%llu packets to the forger", (unsigned long long)d.n_to_c);
    detour_end(&d);
}

/* A peer with keys that answers nothing and sends from ever new addresses: one check at a time, one
 * a second. */
static void a_peer_of_many_addresses(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    h->polite = false;
    uint64_t memory = smt_mem_live().n_live;
    for (unsigned i = 0; i < 10000; i++) {
        const struct smt_frame f = {.type = SMT_FRAME_BUSY, .id = 1};
        struct attack_pkt p;
        attack_ctrl(h, ATTACK_MINE_CTRL, smt_conn_id(h->conn), 1, h->ctrl_no++, &f, 1, &p);
        struct smt_addr from = h->addr;
        from.port = (uint16_t)(1000 + i);
        const struct smt_pkt pkt = {.data = p.bytes, .len = (uint32_t)p.len, .from = &from};
        smt_engine_rx(h->e, h->now, &pkt, 1);
        h->now += SMT_MSEC / 10;
        assert_true(smt_mem_live().n_live <= memory + 4);
    }
    assert_in_range(hand_counter(h, "moves_checked"), 1, 2);
    assert_int_equal(hand_counter(h, "peers_moved"), 0);
    hand_free(h);
}

/* What goes where, when nobody answers. */
struct post_office {
    uint8_t pkt[HAND_MTU];
    struct smt_addr home;
    uint64_t bytes_away;
};

static uint8_t *office_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct post_office *o = arg;
    (void)prio;
    assert_true(len <= sizeof(o->pkt));
    o->bytes_away += smt_addr_equal(to, &o->home) ? 0 : len;
    return o->pkt;
}

static void office_unreserve(void *arg)
{
    (void)arg;
}

static uint32_t office_mtu(void *arg, const struct smt_addr *to)
{
    (void)arg;
    (void)to;
    return HAND_MTU;
}

/* One packet of a peer with keys, as short as packets are, from an address that is not his: no more
 * than three times its bytes go there, however long the answer is awaited. */
static void a_short_packet_from_elsewhere(void **state)
{
    (void)state;
    for (unsigned n = 1; n < 4; n++) {
        struct hand *h = hand_new(true);
        hand_connect(h);
        h->polite = false;
        struct post_office office = {.home = h->addr};
        const struct smt_tx_sink sink = {.arg = &office,
                                         .reserve = office_reserve,
                                         .unreserve = office_unreserve,
                                         .mtu = office_mtu};
        uint64_t in = 0;
        for (unsigned i = 0; i < n; i++) {
            const struct smt_frame f = {.type = SMT_FRAME_REKEY};
            struct attack_pkt p;
            attack_ctrl(h, ATTACK_MINE_CTRL, smt_conn_id(h->conn), 1, h->ctrl_no++, &f, 1, &p);
            struct smt_addr from = h->addr;
            from.port ^= 1;
            const struct smt_pkt pkt = {.data = p.bytes, .len = (uint32_t)p.len, .from = &from};
            smt_engine_rx(h->e, h->now, &pkt, 1);
            in += p.len;
        }
        for (unsigned i = 0; i < 3000; i++) {
            h->now += SMT_MSEC;
            smt_engine_tick(h->e, h->now);
            (void)smt_engine_tx(h->e, h->now, &sink);
        }
        assert_in_range(office.bytes_away, 1, 3 * in);
        hand_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_moves_is_followed),
        cmocka_unit_test(copied_packets_move_nobody),
        cmocka_unit_test(silent_addresses_are_not_followed),
        cmocka_unit_test(forged_packets_from_elsewhere),
        cmocka_unit_test(a_peer_of_many_addresses),
        cmocka_unit_test(a_short_packet_from_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
