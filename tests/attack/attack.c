/* The attackers' tools of attack.h. */
#include "attack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

struct attack_scene attack_scene_new(void)
{
    struct attack_scene s = {.h = hand_new(true)};
    struct hand *h = s.h;
    hand_connect(h);
    s.answered = 1;
    hand_data(h, (struct hand_data){
                     .what = SMT_WHAT_REQUEST, .id = s.answered, .len = 64, .message_len = 64});
    hand_reply(h, hand_event_n(h, SMT_EE_REQUEST, 0)->rpc, 100);
    s.serving = 2;
    hand_data(h, (struct hand_data){
                     .what = SMT_WHAT_REQUEST, .id = s.serving, .len = 64, .message_len = 64});
    s.serving_rpc = hand_event_n(h, SMT_EE_REQUEST, 1)->rpc;
    s.partial = 3;
    hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                    .id = s.partial,
                                    .len = 1000,
                                    .message_len = 50000,
                                    .unsched = 10000});
    s.half = hand_post(h, 100000, false);
    assert_in_range(hand_data_end(h, s.half), 1, 99999);
    hand_clear(h);
    return s;
}

void attack_scene_free(struct attack_scene *s)
{
    hand_free(s->h);
}

/* The record behind a header of `at` bytes. */
static void record_put(struct hand *h, enum attack_key key, uint64_t record_no,
                       const uint8_t *plain, size_t len, size_t at, struct attack_pkt *out)
{
    uint8_t nonce[12], aad[SMT_AAD_LEN];
    smt_record_head_encode(out->bytes + at, record_no, len);
    smt_record_nonce(nonce, h->salt[key], record_no);
    smt_record_aad(aad, record_no, len);
    const struct smt_aead_in in = {plain, len};
    uint8_t *text = out->bytes + at + SMT_RECORD_HEAD_LEN;
    int rc = fast_aead()->seal(h->ctx[key], nonce, aad, sizeof(aad), &in, 1, text, text + len);
    assert_int_equal(rc, 0);
    out->len = at + SMT_RECORD_OVERHEAD + len;
}

void attack_ctrl(struct hand *h, enum attack_key key, uint64_t session_id, uint8_t epoch,
                 uint64_t record_no, const struct smt_frame *frames, unsigned n,
                 struct attack_pkt *out)
{
    uint8_t plain[1200];
    size_t len = 0;
    for (unsigned i = 0; i < n; i++)
        len += smt_frame_encode(&frames[i], plain + len, sizeof(plain) - len);
    assert_true(len > 0);
    const struct smt_hdr hdr = {.sport = h->addr.port,
                                .dport = h->config.port,
                                .kind = SMT_KIND_CTRL,
                                .epoch = epoch,
                                .session_id = session_id};
    record_put(h, key, record_no, plain, len, smt_hdr_encode(&hdr, out->bytes), out);
}

void attack_data(struct hand *h, const struct smt_hdr *hdr, const uint8_t *plain, size_t len,
                 struct attack_pkt *out)
{
    uint64_t record_no = smt_data_record_no(hdr->rpc_id, hdr->seal);
    record_put(h, ATTACK_MINE_DATA, record_no, plain, len, smt_hdr_encode(hdr, out->bytes), out);
}

void attack_picture_take(const struct hand *h, struct attack_picture *out)
{
    memset(out, 0, sizeof(*out));
    out->n_pkts = h->n_pkts;
    out->n_events = h->n_events;
    out->held = h->e->memory.held;
    if (h->conn == NULL)
        return;
    memcpy(&out->conn, h->conn, sizeof(out->conn));
    struct smt_keys *k = &out->conn.keys;
    k->now.n_failed = 0;
    k->next = NULL; /* derived once when somebody names the next epoch */
    memset(k->now.slot, 0, sizeof(k->now.slot));
    out->conn.pacer.got_packets = out->conn.pacer.got_bytes = 0;
    memset(&out->conn.timer.t.link, 0, sizeof(out->conn.timer.t.link));
    SMT_LIST_FOREACH_SAFE(l, tmp, &h->conn->rpcs) {
        assert_true(out->n_rpcs < ATTACK_MAX_RPCS);
        struct smt_rpc *r = &out->rpcs[out->n_rpcs++];
        memcpy(r, SMT_CONTAINER_OF(l, struct smt_rpc, conn_link), sizeof(*r));
        memset(&r->timer.t.link, 0, sizeof(r->timer.t.link)); /* says who else is in its slot */
    }
}

bool attack_picture_differs(const struct attack_picture *a, const struct attack_picture *b)
{
    return memcmp(a, b, sizeof(*a)) != 0;
}

void attack_picture_same(const struct attack_picture *a, const struct attack_picture *b,
                         const char *after)
{
    if (!attack_picture_differs(a, b))
        return;
    const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
    size_t at = 0;
    while (x[at] == y[at])
        at++;
    const char *where = at < sizeof(a->conn)                           ? "the conn"
                        : at < offsetof(struct attack_picture, n_rpcs) ? "an RPC"
                                                                       : "what it sent or told";
    fail_msg("%s changed %s (byte %zu of the picture; packets %u, was %u; events %u, was %u)",
             after, where, at, b->n_pkts, a->n_pkts, b->n_events, a->n_events);
}

void attack_in_vain(struct hand *h, const uint8_t *bytes, size_t len, unsigned answers,
                    const char *what)
{
    struct attack_picture *before = calloc(2, sizeof(*before));
    assert_non_null(before);
    struct attack_picture *after = before + 1;
    attack_picture_take(h, before);
    unsigned n = h->n_pkts;
    hand_rx(h, bytes, len);
    unsigned given = h->n_pkts - n;
    if (given > answers)
        fail_msg("%s was answered by %u packets", what, given);
    for (; n < h->n_pkts; n++) {
        uint8_t kind = h->pkts[n].hdr.kind;
        if (kind != SMT_KIND_NO_SESSION && kind != SMT_KIND_RETRY && kind != SMT_KIND_VERSION)
            fail_msg("%s was answered by a packet of kind %#x", what, kind);
        assert_true(h->pkts[n].len <= len);
    }
    h->n_pkts -= given;
    h->n_answered = h->n_answered > h->n_pkts ? h->n_pkts : h->n_answered;
    attack_picture_take(h, after);
    attack_picture_same(before, after, what);
    free(before);
}
