/* Sending records in slices over a carriage whose packets have the index in their headers. Owns the
 * cut, the layout of one record in its packets and the rule when to leave slices be; which message
 * sends when, and all accounting, is record_tx.c's.
 *
 * A dozen packets of one record cost one beginning and one end of the cipher, one plan and one
 * entry in the books. But one of them lost costs them all, so that losses would multiply: after
 * one the conn sends SINGLES single packets, and begins anew with each further loss among them.
 * (Simulated, of 100 MB: at 0.1, 1 and 5 % loss 70, 29 and 18 % of all packets leave in slices, and
 * 0, 2 and 5 % more bytes than without. 64 in place of 256: 88, 61, 46 %, for 0, 3 and 14 % more
 * bytes; 1,024: 41, 3 and 2 %, for 0, 0 and 1 %.) */
#include "core/slices.h"

#include "core/state.h"

enum {
    SINGLES = 256,
    MIN_SLICES = 3, /* that a record may have: with fewer there is little to gain */
    RECORD_EXTRA = SMT_RECORD_OVERHEAD + SMT_INNER_LEN,
};

/* How many slices of `most` bytes a record may have: not longer than records get, than a run of the
 * device, and than half of what may be in flight. */
static uint32_t slices_fit(const struct smt_conn *c, uint32_t most, const struct smt_tx_sink *sink)
{
    uint64_t wire = smt_conn_window(c) / 2;
    uint32_t run = sink->run_max(sink->arg, &c->addr);
    if (run < wire)
        wire = run;
    uint32_t n = SMT_BURST_MAX_RECORD / most;
    uint32_t by_wire = (uint32_t)(wire / (SMT_DATA_HDR_LEN + most));
    if (n > by_wire)
        n = by_wire;
    return n < SMT_MAX_SLICES ? n : SMT_MAX_SLICES;
}

bool smt_slicing_make(const struct smt_conn *c, uint32_t total, uint32_t mtu,
                      const struct smt_tx_sink *sink, struct smt_slicing *out)
{
    uint32_t most = mtu - SMT_DATA_HDR_LEN;
    uint32_t n = slices_fit(c, most, sink);
    if (n < MIN_SLICES)
        return false;
    uint32_t room = n * most - RECORD_EXTRA;
    uint32_t n_records = (total + room - 1) / room;
    total += n_records * RECORD_EXTRA;
    uint32_t n_slices = (total + most - 1) / most;
    out->slice_len = (total + n_slices - 1) / n_slices;
    out->cut = n * out->slice_len - RECORD_EXTRA;
    return true;
}

static void hdrs_put(const struct smt_slices *to)
{
    for (uint32_t i = 1; i < to->n; i++) {
        uint8_t *pkt = to->pkt + i * to->stride;
        memcpy(pkt, to->pkt, SMT_DATA_HDR_LEN);
        pkt[SMT_HDR_INDEX_AT] = (uint8_t)i;
    }
}

/* Where the ciphertext goes; how many places. */
static unsigned places_of(const struct smt_slices *to, struct smt_aead_out *out)
{
    uint32_t left = to->record_len - SMT_AEAD_TAG_LEN;
    unsigned n = 0;
    for (uint8_t *at = to->pkt + SMT_DATA_HDR_LEN; left > 0; at += to->stride) {
        uint32_t len = left < to->slice_len ? left : to->slice_len;
        out[n++] = (struct smt_aead_out){at, len};
        left -= len;
    }
    out[0].p += SMT_RECORD_HEAD_LEN;
    out[0].len -= SMT_RECORD_HEAD_LEN;
    return n;
}

/* The tag ends the record: in its last slice, or in the last two. */
static void tag_put(const struct smt_slices *to, const uint8_t tag[SMT_AEAD_TAG_LEN])
{
    uint32_t last_len = to->record_len - (to->n - 1) * to->slice_len;
    uint8_t *last = to->pkt + (to->n - 1) * to->stride + SMT_DATA_HDR_LEN;
    if (SMT_LIKELY(last_len >= SMT_AEAD_TAG_LEN)) {
        memcpy(last + last_len - SMT_AEAD_TAG_LEN, tag, SMT_AEAD_TAG_LEN);
        return;
    }
    uint32_t before = SMT_AEAD_TAG_LEN - last_len;
    memcpy(last - to->stride + to->slice_len - before, tag, before);
    memcpy(last, tag + before, last_len);
}

int smt_slices_seal(struct smt_rpc *r, const struct smt_slices *to,
                    const struct smt_tx_piece *piece, const uint8_t *head, size_t head_len)
{
    struct smt_aead_in in[1 + SMT_MAX_POST_IOV] = {{head, head_len}};
    unsigned n_in = 1 + smt_msg_tx_pieces(&r->tx, piece->offset, piece->len, in + 1);
    struct smt_aead_out out[SMT_MAX_SLICES];
    unsigned n_out = places_of(to, out);
    uint8_t tag[SMT_AEAD_TAG_LEN];
    hdrs_put(to);
    int rc = smt_keys_seal_pieces(&r->conn->keys, smt_rpc_tx_id(r), r->tx.seal, in, n_in,
                                  head_len + piece->len, to->pkt + SMT_DATA_HDR_LEN, out, n_out,
                                  tag);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    tag_put(to, tag);
    r->tx.in_slices = true;
    return 0;
}

void smt_slices_lost(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (r->tx.in_slices || c->singles_left > 0)
        c->singles_left = SINGLES;
}
