/* Forged control frames: each type, with and without the session's id, by everybody who is not the
 * peer. No frame of theirs is heard; the same frame of the peer is, so the test does not pass in
 * vain. What a packet that no key protects may do to a session that is up is here too. */
#include "attack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* How a frame is aimed: at which of the scene's RPCs. */
enum aim { AIM_NONE, AIM_HALF, AIM_ANSWERED, AIM_SERVING, AIM_PARTIAL };

struct forgery {
    const char *name;
    struct smt_frame frame;
    enum aim aim;
};

static const struct forgery forgeries[] = {
    {"forged_grant", {.type = SMT_FRAME_GRANT, .offset = 100000, .prio = 7}, AIM_HALF},
    {"forged_resend", {.type = SMT_FRAME_RESEND, .length = SMT_RESEND_ALL}, AIM_HALF},
    {"forged_resend_of_a_response",
     {.type = SMT_FRAME_RESEND, .length = SMT_RESEND_ALL},
     AIM_ANSWERED},
    {"forged_ack", {.type = SMT_FRAME_ACK}, AIM_ANSWERED},
    {"forged_unknown", {.type = SMT_FRAME_UNKNOWN, .flags = SMT_UNKNOWN_OVER}, AIM_HALF},
    {"forged_busy", {.type = SMT_FRAME_BUSY}, AIM_HALF},
    {"forged_need_ack", {.type = SMT_FRAME_NEED_ACK}, AIM_PARTIAL},
    {"forged_cutoffs", {.type = SMT_FRAME_CUTOFFS, .code = 9, .length = 1}, AIM_NONE},
    {"forged_abort", {.type = SMT_FRAME_ABORT, .code = 1}, AIM_PARTIAL},
    {"forged_done", {.type = SMT_FRAME_DONE, .low_water = 4}, AIM_NONE},
    {"forged_credit", {.type = SMT_FRAME_CREDIT, .length = 1, .low_water = 1}, AIM_NONE},
    {"forged_close", {.type = SMT_FRAME_CLOSE}, AIM_NONE},
    {"forged_rekey", {.type = SMT_FRAME_REKEY}, AIM_NONE},
    {"forged_ping", {.type = SMT_FRAME_PING, .token = 5}, AIM_NONE},
    {"forged_mark", {.type = SMT_FRAME_MARK, .seq = 1, .packets = 9, .bytes = 9000}, AIM_NONE},
    {"forged_probe", {.type = SMT_FRAME_PROBE, .token = 5}, AIM_NONE},
    {"forged_path_challenge", {.type = SMT_FRAME_PATH_CHALLENGE, .token = 5}, AIM_NONE},
};

static struct smt_frame aimed(const struct attack_scene *s, const struct forgery *f)
{
    struct smt_frame frame = f->frame;
    switch (f->aim) {
    case AIM_HALF:
        frame.id = hand_theirs(s->half);
        break;
    case AIM_ANSWERED:
        frame.id = hand_mine(s->answered);
        break;
    case AIM_SERVING:
        frame.id = hand_mine(s->serving);
        break;
    case AIM_PARTIAL:
        frame.id = hand_mine(s->partial);
        break;
    case AIM_NONE:
        break;
    }
    return frame;
}

/* Everybody but the peer. */
static void forged_by_strangers(const struct attack_scene *s, const struct smt_frame *f)
{
    struct hand *h = s->h;
    struct attack_pkt p;
    uint64_t id = smt_conn_id(h->conn), no = h->ctrl_no;
    const enum attack_key right = ATTACK_MINE_CTRL;
    attack_ctrl(h, right, 0, 1, no, f, 1, &p);
    attack_in_vain(h, p.bytes, p.len, 1, "session id 0");
    attack_ctrl(h, right, id ^ 1, 1, no, f, 1, &p);
    attack_in_vain(h, p.bytes, p.len, 1, "a guessed session id");
    attack_ctrl(h, right, h->id, 1, no, f, 1, &p);
    attack_in_vain(h, p.bytes, p.len, 1, "the other side's session id");

    attack_ctrl(h, ATTACK_MINE_DATA, id, 1, no, f, 1, &p);
    attack_in_vain(h, p.bytes, p.len, 0, "the data key");
    attack_ctrl(h, ATTACK_THEIRS_CTRL, id, 1, no, f, 1, &p);
    attack_in_vain(h, p.bytes, p.len, 0, "the key of the other direction");
    static const uint8_t epochs[] = {0, 2, 3, 128, 255};
    for (unsigned i = 0; i < sizeof(epochs); i++) {
        attack_ctrl(h, right, id, epochs[i], no, f, 1, &p);
        attack_in_vain(h, p.bytes, p.len, 0, "another epoch");
    }
    attack_ctrl(h, right, id, 1, no, f, 1, &p);
    smt_put_be64(p.bytes + SMT_CTRL_HDR_LEN + 5, no + 1);
    attack_in_vain(h, p.bytes, p.len, 0, "another record number");
    for (size_t at = SMT_CTRL_HDR_LEN; at < p.len; at++) {
        attack_ctrl(h, right, id, 1, no, f, 1, &p);
        p.bytes[at] ^= (uint8_t)(1u << at % 8);
        attack_in_vain(h, p.bytes, p.len, 0, "a changed byte");
    }
    for (size_t len = SMT_CTRL_HDR_LEN; len < p.len; len++) {
        attack_ctrl(h, right, id, 1, no, f, 1, &p);
        attack_in_vain(h, p.bytes, len, 0, "a packet cut short");
    }
    /* In clear: the frame where the record should be, as the kernel module takes it. */
    attack_ctrl(h, right, id, 1, no, f, 1, &p);
    size_t n = smt_frame_encode(f, p.bytes + SMT_CTRL_HDR_LEN, 64);
    memset(p.bytes + SMT_CTRL_HDR_LEN + n, 0, 64);
    attack_in_vain(h, p.bytes, SMT_CTRL_HDR_LEN + n + 64, 0, "a frame in clear");
}

static void forged_control(void **state)
{
    const struct forgery *f = *state;
    struct attack_scene s = attack_scene_new();
    struct smt_frame frame = aimed(&s, f);
    forged_by_strangers(&s, &frame);
    assert_true(hand_counter(s.h, "drop_auth") > 0);

    /* And now the peer himself. */
    struct attack_picture *a = calloc(2, sizeof(*a));
    assert_non_null(a);
    attack_picture_take(s.h, &a[0]);
    hand_frame(s.h, frame);
    attack_picture_take(s.h, &a[1]);
    assert_true(attack_picture_differs(&a[0], &a[1]));
    free(a);
    attack_scene_free(&s);
}

/* A genuine packet of control comes again, in the same epoch: heard once. */
static void replayed_control(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(forgeries); i++) {
        struct attack_scene s = attack_scene_new();
        struct smt_frame frame = aimed(&s, &forgeries[i]);
        struct attack_pkt p;
        if (frame.type == SMT_FRAME_CLOSE) {
            attack_scene_free(&s);
            continue;
        }
        attack_ctrl(s.h, ATTACK_MINE_CTRL, smt_conn_id(s.h->conn), 1, s.h->ctrl_no++, &frame, 1,
                    &p);
        hand_rx(s.h, p.bytes, p.len);
        uint64_t before = hand_counter(s.h, "drop_replay");
        for (unsigned n = 0; n < 3; n++)
            attack_in_vain(s.h, p.bytes, p.len, 0, forgeries[i].name);
        assert_int_equal(hand_counter(s.h, "drop_replay"), before + 3);
        attack_scene_free(&s);
    }
}

/* What the engine sealed comes back to it, under its own session id. */
static void reflected_control(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING, .token = 1});
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_MARK, .seq = 4});
    assert_true(h->n_pkts >= 2);
    unsigned n = h->n_pkts;
    for (unsigned i = 0; i < n; i++) {
        struct attack_pkt p = {.len = h->pkts[i].len};
        memcpy(p.bytes, h->pkts[i].raw, p.len);
        attack_in_vain(h, p.bytes, p.len, 0, "a packet of its own, ports and all");
        smt_put_be16(p.bytes, h->addr.port);
        smt_put_be16(p.bytes + 2, h->config.port);
        attack_in_vain(h, p.bytes, p.len, 1, "a packet of its own, ports changed");
        smt_put_be64(p.bytes + 20, smt_conn_id(h->conn));
        attack_in_vain(h, p.bytes, p.len, 0, "a packet of its own to its own id");
    }
    attack_scene_free(&s);
}

/* What no key protects, at a session that is up: at most a PING leaves, to the peer's own address,
 * and nothing of the session's RPCs, keys or limits changes. */
static void unprotected_packets_at_a_live_session(void **state)
{
    (void)state;
    static const uint8_t kinds[] = {SMT_KIND_HANDSHAKE, SMT_KIND_RETRY, SMT_KIND_NO_SESSION,
                                    SMT_KIND_VERSION, SMT_KIND_EARLY};
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    h->polite = false; /* a PING's answer would be a sign of life */
    struct attack_picture *a = calloc(2, sizeof(*a));
    assert_non_null(a);
    const uint64_t ids[] = {0, h->id, smt_conn_id(h->conn), 77};
    for (unsigned k = 0; k < sizeof(kinds); k++) {
        for (unsigned i = 0; i < SMT_ARRAY_LEN(ids); i++) {
            for (unsigned j = 0; j < SMT_ARRAY_LEN(ids); j++) {
                struct smt_hdr hdr = {.sport = h->addr.port,
                                      .dport = h->config.port,
                                      .kind = kinds[k],
                                      .session_id = ids[i],
                                      .source_id = ids[j],
                                      .epoch = kinds[k] == SMT_KIND_HANDSHAKE,
                                      .offset = 5,
                                      .message_len = 6,
                                      .tls_len = 100,
                                      .rpc_id = s.serving,
                                      .record_len = 200,
                                      .slice_len = 200};
                uint8_t pkt[1100] = {0};
                smt_hdr_encode(&hdr, pkt);
                h->now++; /* so that it would show if this counted as a sign of life */
                attack_picture_take(h, &a[0]);
                uint64_t memory = smt_engine_memory(h->e);
                hand_clear(h);
                hand_rx(h, pkt, sizeof(pkt));
                size_t sent = 0;
                for (unsigned n = 0; n < h->n_pkts; n++)
                    sent += h->pkts[n].len;
                assert_true(sent <= 3 * sizeof(pkt));
                assert_int_equal(h->n_events, 0);
                assert_non_null(h->conn);
                attack_picture_take(h, &a[1]);
                assert_memory_equal(a[0].rpcs, a[1].rpcs, sizeof(a[0].rpcs));
                assert_int_equal(memory, smt_engine_memory(h->e));
                assert_int_equal(a[0].conn.state, a[1].conn.state);
                assert_int_equal(a[0].conn.heard, a[1].conn.heard);
                assert_memory_equal(&a[0].conn.addr, &a[1].conn.addr, sizeof(a[0].conn.addr));
                assert_int_equal(a[0].conn.peer_id, a[1].conn.peer_id);
                assert_int_equal(a[0].conn.keys.now.number, a[1].conn.keys.now.number);
            }
        }
    }
    free(a);
    /* Still alive. */
    hand_reply(h, s.serving_rpc, 10);
    assert_int_equal(hand_n_data(h, s.serving | SMT_ID_ROLE), 1);
    attack_scene_free(&s);
}

int main(void)
{
    struct CMUnitTest tests[SMT_ARRAY_LEN(forgeries) + 3];
    unsigned n = 0;
    for (; n < SMT_ARRAY_LEN(forgeries); n++)
        tests[n] = (struct CMUnitTest){
            .name = forgeries[n].name,
            .test_func = forged_control,
            .initial_state = (void *)(uintptr_t)&forgeries[n],
        };
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(replayed_control);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(reflected_control);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(unprotected_packets_at_a_live_session);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
