/* The native profile's row: what its packets are handed to, and which of the engine's files say
 * what its intentions look like on the wire. The format itself is docs/wire.md. */
#include "core/frames.h"
#include "core/handshake.h"
#include "core/profile.h"
#include "core/record.h"
#include "core/single.h"
#include "core/state.h"

typedef void (*receive_fn)(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                           const struct smt_hdr *hdr);

static void receive_other(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                          const struct smt_hdr *hdr)
{
    static const struct {
        uint8_t kind;
        receive_fn fn;
    } rows[] = {
        {SMT_KIND_CTRL, smt_ctrl_receive},          {SMT_KIND_HANDSHAKE, smt_handshake_receive},
        {SMT_KIND_RETRY, smt_retry_receive},        {SMT_KIND_NO_SESSION, smt_no_session_receive},
        {SMT_KIND_VERSION, smt_version_receive},    {SMT_KIND_EARLY, smt_early_receive},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        if (rows[i].kind == hdr->kind) {
            rows[i].fn(e, now, pkt, hdr);
            return;
        }
    }
}

static void receive_undecodable(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                                const struct smt_hdr *hdr, int rc)
{
    if (rc != SMT_EVERSION) {
        e->stats.drop_malformed++;
        return;
    }
    e->stats.drop_version++;
    if (hdr->kind == SMT_KIND_HANDSHAKE && e->config.accept && pkt->len >= SMT_HS_MIN_FIRST_LEN)
        smt_stateless_add(e, now, pkt->from, hdr->sport, SMT_KIND_VERSION, hdr->source_id, NULL);
}

static unsigned smt2_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                             unsigned n)
{
    const struct smt_pkt *pkt = &pkts[0];
    struct smt_hdr hdr;
    int rc = smt_hdr_decode(pkt->data, pkt->len, &hdr);
    if (SMT_UNLIKELY(rc < 0)) {
        receive_undecodable(e, now, pkt, &hdr, rc);
        return 1;
    }
    if (SMT_UNLIKELY(hdr.dport != e->config.port)) {
        e->stats.drop_port++;
        return 1;
    }
    if (SMT_LIKELY(hdr.kind == SMT_KIND_DATA)) {
        e->stats.packets_rcvd_data++;
        return smt_record_receive(e, now, pkts, n, &hdr);
    }
    receive_other(e, now, pkt, &hdr);
    return 1;
}

static int smt2_begin(struct smt_engine *e)
{
    (void)e;
    return 0;
}

static void smt2_end(struct smt_engine *e)
{
    (void)e;
}

static int smt2_conn_begin(struct smt_conn *c)
{
    int rc = smt_hs_stream_new(&c->e->ranges, c->initiator, &c->hs);
    if (rc == 0)
        smt_conn_set_state(c, SMT_CONN_AWAIT_KEYS);
    return rc;
}

static void smt2_conn_end(struct smt_conn *c)
{
    (void)c;
}

/* The mark tells what is near it, but what lies beyond its bitmap would have to be asked for. */
static void smt2_response_came(struct smt_rpc *r)
{
    smt_acks_add(r->conn, smt_rpc_frame_id(r), r->rx.len);
}

static void smt2_rpc_end(struct smt_rpc *r)
{
    (void)r;
}

const struct smt_profile smt_profile_smt2 = {
    .name = "smt2",
    .max_message = SMT_MAX_MESSAGE,
    .tells_near = true,
    .begin = smt2_begin,
    .end = smt2_end,
    .conn_begin = smt2_conn_begin,
    .conn_end = smt2_conn_end,
    .receive = smt2_receive,
    .receive_usual = smt_singles_receive,
    .send = smt_record_send,
    .send_posted = smt_singles_send,
    .ctl_add = smt_frames_queue,
    .ctl_send = smt_frames_send,
    .acks_send = smt_frames_send_acks,
    .answers_send = smt_stateless_send,
    .response_came = smt2_response_came,
    .tx_end = smt2_rpc_end,
    .rx_end = smt2_rpc_end,
};
