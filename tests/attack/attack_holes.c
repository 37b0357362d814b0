/* What the kernel SMT module and its successor leave open, hole by hole (docs/security.md): here
 * each is tried on us. s1 … s14 and ng_… are the names of that list. */
#include "attack.h"

#include "../sim/pair.h"
#include "base/mem.h"
#include "sim_nic.h"

/* ---- what leaves a host, looked at ---- */

static const uint8_t mark[16] = "never in clear!!";

struct look {
    uint64_t n_clear, n_sealed, n_dirty;
};

static bool has_mark(const uint8_t *p, size_t len)
{
    return memmem(p, len, mark, sizeof(mark)) != NULL;
}

/* Headers: what the format calls zero is zero, what has no meaning is not there. */
static bool is_clean(const struct sim_packet *p)
{
    struct smt_hdr hdr;
    uint8_t again[SMT_DATA_HDR_LEN];
    if (smt_hdr_decode(p->data, p->len, &hdr) < 0)
        return false;
    size_t len = smt_hdr_encode(&hdr, again);
    return memcmp(again, p->data, len) == 0;
}

static enum sim_verdict look_at(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct look *l = arg;
    (void)net;
    l->n_clear += has_mark(pkt->data, pkt->len);
    l->n_sealed += pkt->data[13] == SMT_KIND_DATA || pkt->data[13] == SMT_KIND_CTRL;
    l->n_dirty += !is_clean(pkt);
    return SIM_PASS;
}

static uint8_t *marked_bytes(size_t len)
{
    uint8_t *bytes = malloc(len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = mark[i % sizeof(mark)];
    return bytes;
}

static void take_all(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    (void)host;
    ++((uint64_t *)arg)[ev->type];
    if (ev->type == SMT_EE_MESSAGE || ev->type == SMT_EE_REQUEST)
        smt_rpc_release(ev->rpc);
    if (ev->type == SMT_EE_REQUEST)
        assert_int_equal(smt_rpc_reply(ev->rpc, NULL, 0, NULL), 0);
    if (ev->type == SMT_EE_RESPONSE && ev->rpc != NULL)
        smt_rpc_release(ev->rpc);
}

static void post(struct simnet *net, struct sim_host *host, struct smt_conn *c,
                 const uint8_t *bytes, size_t len)
{
    struct smt_post_iov iov = {bytes, len};
    const struct smt_post p = {.iov = &iov, .n_iov = 1};
    int rc = smt_conn_post(c, &p, NULL);
    SIM_CHECK(net, rc == 0, "smt_conn_post: %d", rc);
    simnet_poke(host);
}

/* S1: without a session nothing leaves, on either side, also when the handshake fails or never
 * ends.
 */
static void s1_no_session_no_bytes(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        struct pair p = pair_new(sim_seed(250), &clean_link, CHECKING_AES128_GCM);
        struct look l = {0};
        uint64_t seen[32] = {0};
        uint8_t *bytes = marked_bytes(5000);
        if (how == 0)
            p.b->refuse = true;
        pair_start(&p);
        p.a->on_event = p.b->on_event = take_all;
        p.a->arg = p.b->arg = seen;
        p.net->hook = look_at;
        p.net->hook_arg = &l;
        if (how == 1)
            simnet_kill(p.b);
        if (how == 2)
            simnet_link(p.net, 1, 0)->drop = SIM_ALWAYS;
        struct smt_conn *conn = simnet_connect(p.a, p.b);
        for (unsigned i = 0; i < 10; i++)
            post(p.net, p.a, conn, bytes, 5000);
        simnet_sleep(p.net, 20 * SMT_SEC);
        SIM_CHECK(p.net, l.n_clear == 0, "%llu packets in clear", (unsigned long long)l.n_clear);
        SIM_CHECK(p.net, l.n_sealed == 0, "records without a session");
        SIM_CHECK(p.net, seen[SMT_EE_FAILED] == 10 && seen[SMT_EE_REQUEST] == 0, "not failed");
        pair_free(&p);
        free(bytes);
    }
}

/* S2: one server, several peers: no two sessions share a key, nor do the uses within one. */
static void s2_every_session_has_its_own_keys(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(251), &clean_link, CHECKING_AES256_GCM);
    pair_start(&p);
    enum { N = 6 };
    struct smt_conn *conns[N];
    uint8_t keys[N * 4][32];
    for (unsigned i = 0; i < N; i++) {
        struct smt_conn *back;
        conns[i] = i % 2 == 0 ? simnet_connect_wait(p.a, p.b) : simnet_connect_wait(p.b, p.a);
        back = simnet_peer_conn(i % 2 == 0 ? p.b : p.a, conns[i]);
        const uint8_t *raw = conns[i]->keys.now.block->raw;
        const uint8_t *other = back->keys.now.block->raw;
        for (unsigned use = 0; use < 4; use++)
            memcpy(keys[4 * i + use], raw + 32 * use, 32);
        /* Ours to send is theirs to receive. */
        assert_memory_equal(raw + 32 * SMT_TX_DATA, other + 32 * SMT_RX_DATA, 32);
        assert_memory_equal(raw + 32 * SMT_TX_CTRL, other + 32 * SMT_RX_CTRL, 32);
    }
    for (unsigned i = 0; i < 4 * N; i++) {
        for (unsigned k = 0; k < i; k++)
            assert_memory_not_equal(keys[i], keys[k], 32);
    }
    pair_free(&p);
}

static const struct sim_load_config calls = {
    .n_calls = 400, .window = 16, .max_len = 1 << 14, .max_resp = 1 << 14, .one_way = 25};

/* S3: both sides start calls on one pair of ports, with the same ids. The checking cipher would
 * fail the test at the first number sealed twice. */
static void s3_both_sides_are_clients(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(252), &lossy_link, CHECKING_AES128_GCM);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    sim_app_load_on(p.app, p.a, conn, &calls);
    sim_app_load_on(p.app, p.b, back, &calls);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    assert_int_equal(checking_aead_stats().violations, 0);
    for (uint64_t id = 1; id < 100; id++)
        assert_int_not_equal(smt_data_record_no(id, 3), smt_data_record_no(id | SMT_ID_ROLE, 3));
    pair_free(&p);
}

static struct attack_pkt request(struct hand *h, uint64_t id)
{
    struct attack_pkt p;
    p.len = hand_data_encode(
        h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = id, .len = 64, .message_len = 64},
        p.bytes);
    return p;
}

/* S4: replays are always refused, by what has been authenticated; a forged id poisons nothing, and
 * id
 * + 2^49 (or any other) is another id. */
static void s4_replay_guard(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    /* Poison first: forged ids far ahead and just ahead. */
    for (uint64_t k = 0; k < 61; k++) {
        struct attack_pkt p = request(h, 1);
        smt_put_be64(p.bytes + 28, 1ull << k);
        p.bytes[p.len - 1] ^= 1;
        attack_in_vain(h, p.bytes, p.len, 0, "a forged id");
    }
    for (uint64_t id = 1; id <= 50; id++) {
        struct attack_pkt p = request(h, id);
        hand_clear(h);
        hand_rx(h, p.bytes, p.len);
        assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
        hand_reply(h, hand_event_n(h, SMT_EE_REQUEST, 0)->rpc, 1);
        hand_clear(h);
        hand_rx(h, p.bytes, p.len);
        smt_put_be64(p.bytes + 28, id + (1ull << 49));
        hand_rx(h, p.bytes, p.len);
        assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 0);
    }
    hand_free(h);
}

/* S5: message length, offset and number of records are what the sender sealed. */
static void s5_length_is_authenticated(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    for (unsigned i = 0; i < 3; i++) {
        const struct hand_data d = {.what = SMT_WHAT_REQUEST,
                                    .id = 1,
                                    .offset = i * 1000,
                                    .len = 1000,
                                    .message_len = 3000,
                                    .unsched = 3000};
        struct attack_pkt good, p;
        good.len = hand_data_encode(h, d, good.bytes);
        /* As if the message ended here, and as if it went on. */
        for (uint32_t len = (i + 1) * 1000; len <= 4000; len += 1000) {
            p = good;
            smt_put_be32(p.bytes + 8, len);
            if (len != 3000)
                attack_in_vain(h, p.bytes, p.len, 0, "another length");
        }
        hand_rx(h, good.bytes, good.len);
        assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), i == 2);
    }
    assert_int_equal(hand_event_n(h, SMT_EE_REQUEST, 0)->len, 3000);
    hand_free(h);
}

/* S6: a packet that is damaged or forged costs one sending more, not the message. */
static enum sim_verdict spoil(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    uint64_t *n = arg;
    uint8_t copy[SIM_MAX_PACKET];
    if (pkt->data[13] != SMT_KIND_DATA)
        return SIM_PASS;
    /* A forged one before each, and each tenth comes damaged itself. */
    memcpy(copy, pkt->data, pkt->len);
    copy[pkt->len - 1] ^= 0x40;
    simnet_inject(net, &pkt->source, pkt->to, copy, pkt->len, 1);
    if (++*n % 10 == 0)
        pkt->data[smt_prng_below(&net->rng, pkt->len)] ^= 1;
    return SIM_PASS;
}

static void s6_damage_costs_a_retransmission(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(253), &clean_link, CHECKING_FAST);
    uint64_t n = 0;
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    p.net->hook = spoil;
    p.net->hook_arg = &n;
    struct sim_load_config config = calls;
    config.max_len = 1 << 17;
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_auth") > 500, "not tried");
    pair_free(&p);
}

/* S7: forged control: an ACK frees no reply, UNKNOWN starts nothing over, GRANT and RESEND by the
 * thousand send nothing, there is no FREEZE. */
static void s7_control_is_authenticated(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    const struct smt_frame forged[] = {
        {.type = SMT_FRAME_ACK, .id = hand_mine(s.answered)},
        {.type = SMT_FRAME_UNKNOWN, .id = hand_theirs(s.half)},
        {.type = SMT_FRAME_GRANT, .id = hand_theirs(s.half), .offset = 100000, .prio = 7},
        {.type = SMT_FRAME_RESEND, .id = hand_theirs(s.half), .length = SMT_RESEND_ALL}};
    uint64_t sent = hand_counter(h, "bytes_sent");
    for (unsigned i = 0; i < 2000; i++) {
        struct attack_pkt p;
        attack_ctrl(h, ATTACK_THEIRS_CTRL, smt_conn_id(h->conn), 1, h->ctrl_no + i,
                    &forged[i % SMT_ARRAY_LEN(forged)], 1, &p);
        attack_in_vain(h, p.bytes, p.len, 0, "forged control");
    }
    assert_int_equal(hand_counter(h, "bytes_sent"), sent);
    attack_scene_free(&s);
}

/* S8: a process that comes again begins with other keys: the ids that count from 1 again meet no
 * key they were sealed under. The checking cipher remembers all of them over both lives. */
static void s8_ids_of_a_second_life(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(254), &clean_link, CHECKING_AES128_GCM);
    struct sim_load_config config = calls;
    config.may_fail = true;
    pair_start(&p);
    for (unsigned life = 0; life < 4; life++) {
        struct sim_host *dies = life % 2 == 0 ? p.a : p.b;
        struct smt_conn *back;
        struct smt_conn *conn = pair_connect(&p, &back);
        sim_app_load_on(p.app, p.a, conn, &config);
        sim_app_load_on(p.app, p.b, back, &config);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        simnet_kill(dies);
        sim_app_host_killed(p.app, dies);
        simnet_sleep(p.net, 10 * SMT_SEC);
        simnet_revive(dies);
    }
    assert_int_equal(checking_aead_stats().violations, 0);
    assert_true(checking_aead_stats().nonces > 4 * 400);
    pair_free(&p);
}

/* S9: keys have limits and give way to the next under traffic; AES-256 is there. */
static void s9_keys_have_limits(void **state)
{
    (void)state;
    static const enum checking_cipher ciphers[] = {CHECKING_AES128_GCM, CHECKING_AES256_GCM};
    for (unsigned i = 0; i < 2; i++) {
        struct pair p = pair_new(sim_seed(255), &clean_link, ciphers[i]);
        p.a->config.rekey_records = 50;
        pair_start(&p);
        struct smt_conn *back;
        struct smt_conn *conn = pair_connect(&p, &back);
        sim_app_load_on(p.app, p.a, conn, &calls);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        SIM_CHECK(p.net, conn->keys.now.number > 5, "epoch %u", conn->keys.now.number);
        SIM_CHECK(p.net, conn->keys.env->aead->key_len == (i == 0 ? 16 : 32), "key length");
        SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
        /* The secret of what is over is gone from memory; so are its keys, two seconds later. */
        static const uint8_t zero[SMT_SECRET_LEN];
        if (conn->keys.prev != NULL)
            assert_memory_equal(conn->keys.prev->block->secret, zero, sizeof(zero));
        simnet_sleep(p.net, 5 * SMT_SEC);
        SIM_CHECK(p.net, conn->keys.prev == NULL, "keys of before are kept");
        pair_free(&p);
    }
}

/* S10: whoever is at however many addresses, what he began and did not finish is gone after five
 * seconds. */
static void s10_nothing_stays_of_strangers(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    struct smt_mem_stats before = {0};
    for (unsigned round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 3000; i++) {
            struct smt_addr from = h->addr;
            smt_put_be32(from.ip + 12, 0x0b000000 + round * 3000 + i);
            uint8_t pkt[SMT_HS_MIN_FIRST_LEN] = {0};
            const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                        .epoch = 1,
                                        .sport = from.port,
                                        .dport = h->config.port,
                                        .source_id = 1 + i,
                                        .cookie_len = SMT_COOKIE_LEN};
            size_t at = smt_hdr_encode(&hdr, pkt);
            h->config.cookie_make(h, h->now, &from, hdr.source_id, pkt + at);
            const struct smt_pkt p = {.data = pkt, .len = sizeof(pkt), .from = &from};
            smt_engine_rx(h->e, h->now, &p, 1);
        }
        assert_int_equal(h->e->half_open.n, 3000);
        h->now += 6 * SMT_SEC;
        smt_engine_tick(h->e, h->now);
        struct smt_engine_event ev;
        while (smt_engine_next_event(h->e, &ev))
            ;
        smt_engine_tick(h->e, h->now);
        assert_int_equal(h->e->half_open.n, 0);
        struct smt_mem_stats now = smt_mem_live();
        if (round > 0)
            assert_int_equal(now.bytes_live, before.bytes_live);
        before = now;
    }
    hand_free(h);
}

/* S11: every number a peer with keys may write where a number stands: no assertion, no crash. */
static void s11_values_from_the_packet(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {0,          1,          16384,      16385,      0x3fffffff,
                                       0x40000000, 0x40000001, 0x7fffffff, 0x80000000, 0xffffffff};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(numbers); i++) {
        for (unsigned k = 0; k < SMT_ARRAY_LEN(numbers); k++) {
            struct attack_scene s = attack_scene_new();
            struct hand *h = s.h;
            for (enum smt_what what = 0; what <= 5; what++) {
                hand_data(h, (struct hand_data){.what = what,
                                                .id = 10 + what,
                                                .offset = numbers[i],
                                                .len = 10,
                                                .message_len = numbers[k],
                                                .unsched = numbers[k]});
                hand_data(h, (struct hand_data){.what = what,
                                                .id = s.half | SMT_ID_ROLE,
                                                .offset = numbers[i],
                                                .len = 10,
                                                .message_len = numbers[k]});
            }
            for (uint8_t type = 0; type < 0x20 && h->conn != NULL; type++) {
                if (type == SMT_FRAME_CLOSE || smt_frame_len(type) == 0)
                    continue;
                hand_frame(h, (struct smt_frame){.type = type,
                                                 .id = hand_theirs(s.half),
                                                 .offset = numbers[i],
                                                 .length = numbers[k],
                                                 .seq = numbers[i],
                                                 .packets = numbers[k],
                                                 .bytes = numbers[i],
                                                 .code = (uint16_t)numbers[k],
                                                 .low_water = numbers[i],
                                                 .bitmap = numbers[k]});
            }
            hand_sleep(h, 10 * SMT_MSEC);
            attack_scene_free(&s);
        }
    }
}

/* S12: pieces. The user's are counted before anything is done with them; the wire has none. */
static void s12_pieces_are_counted(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    static uint8_t byte[200];
    struct smt_post_iov iov[200];
    for (unsigned i = 0; i < 200; i++)
        iov[i] = (struct smt_post_iov){byte + i, 1};
    for (unsigned n = 0; n <= 200; n++) {
        const struct smt_post p = {.iov = iov, .n_iov = n, .one_way = true};
        int rc = smt_conn_post(h->conn, &p, NULL);
        assert_int_equal(rc, n <= SMT_MAX_POST_IOV ? 0 : SMT_EINVAL);
    }
    hand_clear(h);
    hand_run(h);
    hand_free(h);
}

/* S13: every byte of every header of a run is what the format says. (Logs: attack_tls.c.) */
static void s13_no_byte_leaks(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(256), &clean_link, CHECKING_AES128_GCM);
    struct look l = {0};
    pair_start(&p);
    p.net->hook = look_at;
    p.net->hook_arg = &l;
    struct sim_load_config config = calls;
    config.max_len = 1 << 17;
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, l.n_sealed > 1000, "not tried");
    SIM_CHECK(p.net, l.n_dirty == 0, "%llu headers", (unsigned long long)l.n_dirty);
    pair_free(&p);
}

/* S14: the NIC that packets leave by does not seal. The user's bytes do not go by it before it has
 * shown that it does. */
static void s14_a_nic_that_does_not_seal(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(257), &clean_link, CHECKING_AES128_GCM);
    struct sim_nic nics[2] = {0};
    struct look l = {0};
    uint64_t seen[32] = {0};
    struct sim_host *hosts[2] = {p.a, p.b};
    for (unsigned i = 0; i < 2; i++) {
        hosts[i]->config.bursts = true;
        sim_nic_init(&nics[i], hosts[i]);
        nics[i].is_blind = true;
    }
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    p.a->on_event = p.b->on_event = take_all;
    p.a->arg = p.b->arg = seen;
    p.net->hook = look_at;
    p.net->hook_arg = &l;
    uint8_t *bytes = marked_bytes(100000);
    for (unsigned i = 0; i < 50; i++) {
        post(p.net, p.a, conn, bytes, 100000);
        simnet_sleep(p.net, 20 * SMT_MSEC);
    }
    simnet_settle(p.net, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_counter(p.a->engine, "nic_tests") > 0, "the NIC was not tried");
    SIM_CHECK(p.net, seen[SMT_EE_RESPONSE] == 50, "%llu calls",
              (unsigned long long)seen[SMT_EE_RESPONSE]);
    SIM_CHECK(p.net, l.n_clear == 0, "%llu packets in clear", (unsigned long long)l.n_clear);
    free(bytes);
    pair_free(&p);
    for (unsigned i = 0; i < 2; i++)
        sim_nic_fini(&nics[i]);
}

/* ---- the successor's ---- */

/* A server whose cipher or keys fail at any one moment: the caller may hear an error, nobody hears
 * plaintext. */
static void ng_a_server_that_cannot_seal(void **state)
{
    (void)state;
    uint8_t *bytes = marked_bytes(3000);
    for (long n = 0; n < 45; n++) {
        struct pair p = pair_new(sim_seed(261), &clean_link, CHECKING_AES128_GCM);
        struct look l = {0};
        uint64_t seen[32] = {0};
        pair_start(&p);
        struct smt_conn *conn = pair_connect(&p, NULL);
        p.a->on_event = p.b->on_event = take_all;
        p.a->arg = p.b->arg = seen;
        p.net->hook = look_at;
        p.net->hook_arg = &l;
        (void)checking_aead_fail_after(n);
        for (unsigned i = 0; i < 10; i++)
            post(p.net, p.a, conn, bytes, 3000);
        simnet_sleep(p.net, 10 * SMT_SEC);
        SIM_CHECK(p.net, checking_aead_fail_after(-1) == -1, "not tried");
        /* A reply that failed is told of at both ends. */
        SIM_CHECK(p.net, seen[SMT_EE_RESPONSE] + seen[SMT_EE_FAILED] >= 10, "calls without an end");
        SIM_CHECK(p.net, l.n_clear == 0, "%llu packets in clear", (unsigned long long)l.n_clear);
        pair_free(&p);
    }
    free(bytes);
}

/* NIC and CPU seal records of one session, and of one message, under one rule of numbers: what the
 * one has used the other does not, whoever loses contexts and packets. With no context to be had
 * the CPU seals all of it. */
static void ng_one_rule_of_nonces(void **state)
{
    (void)state;
    static const struct sim_link losing = {.delay = 10 * SMT_USEC, .drop = 200};
    for (unsigned full = 0; full < 2; full++) {
        struct pair p = pair_new(sim_seed(262), &losing, CHECKING_AES128_GCM);
        struct sim_nic nics[2] = {0};
        struct look l = {0};
        struct sim_host *hosts[2] = {p.a, p.b};
        for (unsigned i = 0; i < 2; i++) {
            hosts[i]->config.bursts = true;
            sim_nic_init(&nics[i], hosts[i]);
            nics[i].lose = 300;
            if (full)
                nics[i].max_ctxs = 0;
        }
        pair_start(&p);
        struct smt_conn *back;
        struct smt_conn *conn = pair_connect(&p, &back);
        p.net->hook = look_at;
        p.net->hook_arg = &l;
        struct sim_load_config config = calls;
        config.max_len = config.max_resp = 1 << 17;
        sim_app_load_on(p.app, p.a, conn, &config);
        sim_app_load_on(p.app, p.b, back, &config);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        uint64_t by_nic = nics[0].n_sealed + nics[1].n_sealed, all = checking_aead_stats().seals;
        SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
        SIM_CHECK(p.net, full ? by_nic == 0 : by_nic > 100 && by_nic < all - 100,
                  "%llu of %llu by the NICs", (unsigned long long)by_nic, (unsigned long long)all);
        SIM_CHECK(p.net, checking_aead_stats().violations == 0, "a number sealed twice");
        pair_free(&p);
        for (unsigned i = 0; i < 2; i++)
            sim_nic_fini(&nics[i]);
    }
}

/* Nonces differ between messages of one session: the checking cipher sees every one of thousands.
 */
static void ng_nonces_across_messages(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(258), &lossy_link, CHECKING_AES128_GCM);
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    struct sim_load_config config = calls;
    config.n_calls = 2000;
    config.mutate = true;
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    assert_int_equal(checking_aead_stats().violations, 0);
    assert_true(checking_aead_stats().nonces > 4000);
    pair_free(&p);
}

/* Keys for one peer, packets of another: no session, no crash, no bytes. */
static void ng_another_peer_appears(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    struct attack_pkt p = request(h, 9);
    smt_put_be64(p.bytes + 20, smt_conn_id(h->conn) ^ 0x100);
    const struct smt_addr home = h->addr;
    for (unsigned turn = 0; turn < 3; turn++) {
        h->addr.ip[15] ^= turn == 0 ? 0 : 99;
        h->addr.port ^= turn == 1 ? 0 : 7;
        smt_put_be16(p.bytes, h->addr.port);
        hand_rx(h, p.bytes, p.len);
        assert_int_equal(h->n_events, 0);
        assert_int_equal(hand_counter(h, "drop_no_session"), turn + 1);
        h->addr = home;
    }
    /* And what goes to the peer still goes there, sealed. */
    hand_clear(h);
    hand_reply(h, s.serving_rpc, 10);
    assert_int_equal(hand_n_data(h, s.serving | SMT_ID_ROLE), 1);
    attack_scene_free(&s);
}

/* A second installation of keys is refused and leaves the first alone. */
static void ng_a_second_install(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    uint8_t secret[SMT_SECRET_LEN] = {1}, before[SMT_SECRET_LEN];
    memcpy(before, h->conn->keys.now.block->secret, sizeof(before));
    assert_int_equal(
        smt_conn_install(h->conn, h->now, checking_aead(CHECKING_FAST), secret, &h->params),
        SMT_ESTATE);
    assert_memory_equal(before, h->conn->keys.now.block->secret, sizeof(before));
    struct attack_pkt p = request(h, 9);
    hand_rx(h, p.bytes, p.len);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    attack_scene_free(&s);
}

/* Many sessions end while their lists are walked: RPCs of both sides open, the engine freed under
 * way. Sanitizers look on. */
static void ng_sessions_end_under_way(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(259), &clean_link, CHECKING_FAST);
    struct sim_load_config config = calls;
    config.may_fail = true;
    config.serve_ns = 10 * SMT_MSEC;
    pair_start(&p);
    struct smt_conn *conns[20];
    for (unsigned i = 0; i < 20; i++) {
        conns[i] = pair_connect(&p, NULL);
        sim_app_load_on(p.app, p.a, conns[i], &config);
    }
    simnet_sleep(p.net, 2 * SMT_MSEC);
    for (unsigned i = 0; i < 20; i += 2)
        smt_conn_close(conns[i], p.net->now, i % 4 == 0 ? 0 : SMT_ECLOSED, i % 3 == 0);
    simnet_poke(p.a);
    simnet_sleep(p.net, 2 * SMT_MSEC);
    simnet_kill(p.b);
    sim_app_host_killed(p.app, p.b);
    simnet_sleep(p.net, 10 * SMT_SEC);
    pair_free(&p);
}

/* A long message of which every packet must be sent again, many times over. */
static void ng_resends_without_end(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    hand_frame(
        h, (struct smt_frame){
               .type = SMT_FRAME_GRANT, .id = hand_theirs(s.half), .offset = 100000, .prio = 1});
    assert_int_equal(hand_data_end(h, s.half), 100000);
    for (unsigned i = 0; i < 40; i++) {
        hand_clear(h);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                         .id = hand_theirs(s.half),
                                         .length = SMT_RESEND_ALL});
        hand_sleep(h, SMT_MSEC);
        assert_int_equal(hand_data_end(h, s.half), 100000);
    }
    assert_int_equal(checking_aead_stats().violations, 0);
    attack_scene_free(&s);
}

/* Ciphertext that looks like anything, FFFFFFFF at every place included, is left alone: 4 KB of
 * each byte, thousands of records. */
static void ng_ciphertext_is_left_alone(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(260), &clean_link, CHECKING_AES128_GCM);
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    struct sim_load_config config = calls;
    config.n_calls = 3000;
    config.fixed_len = 4096;
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_auth") == 0, "tags failed");
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s1_no_session_no_bytes),
        cmocka_unit_test(s2_every_session_has_its_own_keys),
        cmocka_unit_test(s3_both_sides_are_clients),
        cmocka_unit_test(s4_replay_guard),
        cmocka_unit_test(s5_length_is_authenticated),
        cmocka_unit_test(s6_damage_costs_a_retransmission),
        cmocka_unit_test(s7_control_is_authenticated),
        cmocka_unit_test(s8_ids_of_a_second_life),
        cmocka_unit_test(s9_keys_have_limits),
        cmocka_unit_test(s10_nothing_stays_of_strangers),
        cmocka_unit_test(s11_values_from_the_packet),
        cmocka_unit_test(s12_pieces_are_counted),
        cmocka_unit_test(s13_no_byte_leaks),
        cmocka_unit_test(s14_a_nic_that_does_not_seal),
        cmocka_unit_test(ng_a_server_that_cannot_seal),
        cmocka_unit_test(ng_one_rule_of_nonces),
        cmocka_unit_test(ng_nonces_across_messages),
        cmocka_unit_test(ng_another_peer_appears),
        cmocka_unit_test(ng_a_second_install),
        cmocka_unit_test(ng_sessions_end_under_way),
        cmocka_unit_test(ng_resends_without_end),
        cmocka_unit_test(ng_ciphertext_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
