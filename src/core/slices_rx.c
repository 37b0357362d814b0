/* Records that come in slices (docs/wire.md 5). Owns the two ways they take: the slices that a
 * device hands out one behind the other are opened where they lie, straight into the message; all
 * else (a record that straddles two batches, lost, late and repeated slices) is collected by
 * burst.c first. What is done with an opened record is record_rx.c's matter.
 *
 * Nothing is believed of a slice before the tag of its record has passed: that the headers of a
 * run agree only says that opening them together is worth a try. */
#include "core/arriving.h"
#include "core/slices.h"
#include "core/state.h"

/* Of a run: its first holds the record's head, its last two the tag. */
enum { MIN_SLICE = SMT_RECORD_OVERHEAD };

/* Do two headers differ in nothing but that the second's index is `index`? */
SMT_INLINE bool hdr_continues(const uint8_t *first, const uint8_t *pkt, unsigned index)
{
    static_assert(SMT_DATA_HDR_LEN == 44, "five words, and one that overlaps");
    static const uint8_t at[] = {0, 8, 24, 32, 36};
    uint64_t a, b, differ = 0;
    for (unsigned i = 0; i < sizeof(at); i++) {
        memcpy(&a, first + at[i], 8);
        memcpy(&b, pkt + at[i], 8);
        differ |= a ^ b;
    }
    memcpy(&a, first + 16, 8);
    memcpy(&b, pkt + 16, 8);
    uint8_t index_word[8] = {[SMT_HDR_INDEX_AT - 16] = (uint8_t)index};
    uint64_t c;
    memcpy(&c, index_word, 8);
    return (differ | (a ^ b ^ c)) == 0;
}

/* Are packets 1 … n - 1 the rest of the record whose first slice is packet 0? */
static bool is_run(const struct smt_pkt *pkts, unsigned n, const struct smt_hdr *hdr)
{
    uint32_t len = SMT_DATA_HDR_LEN + hdr->slice_len;
    if (pkts[0].len < len)
        return false;
    for (unsigned i = 1; i < n; i++) {
        if (i == n - 1)
            len = SMT_DATA_HDR_LEN + smt_slice_len(hdr, i);
        if (pkts[i].len < len || !hdr_continues(pkts[0].data, pkts[i].data, i) ||
            (pkts[i].from != pkts[0].from && !smt_addr_equal(pkts[i].from, pkts[0].from)))
            return false;
    }
    return true;
}

/* The pieces of a run: `out` has its ciphertext, `tag` the bytes of one that lies in two slices. */
static void run_cut(const struct smt_pkt *pkts, unsigned n, const struct smt_hdr *hdr,
                    struct smt_aead_in *in, uint8_t tag[SMT_AEAD_TAG_LEN],
                    struct smt_record_pieces *out)
{
    for (unsigned i = 0; i < n; i++)
        in[i] = (struct smt_aead_in){pkts[i].data + SMT_DATA_HDR_LEN, hdr->slice_len};
    in[0].p += SMT_RECORD_HEAD_LEN;
    in[0].len -= SMT_RECORD_HEAD_LEN;
    struct smt_aead_in *last = &in[n - 1];
    const uint8_t *bytes = last->p;
    size_t len = smt_slice_len(hdr, n - 1);
    *out = (struct smt_record_pieces){
        .in = in, .n_in = n, .plain_len = hdr->record_len - SMT_RECORD_OVERHEAD, .tag = tag};
    if (SMT_LIKELY(len >= SMT_AEAD_TAG_LEN)) {
        last->len = len - SMT_AEAD_TAG_LEN;
        out->tag = bytes + last->len;
        return;
    }
    size_t before = SMT_AEAD_TAG_LEN - len;
    last->len = 0;
    last[-1].len -= before;
    memcpy(tag, last[-1].p + last[-1].len, before);
    memcpy(tag + before, bytes, len);
}

/* A record whose n slices are packets 0 … n - 1. */
static void run_receive(const struct smt_pkt *pkts, unsigned n, struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    struct smt_stats *st = &c->e->stats;
    uint32_t len = pkts[0].len, n_ce = pkts[0].ecn == 3;
    for (unsigned i = 1; i < n; i++) {
        len += pkts[i].len;
        n_ce += pkts[i].ecn == 3;
    }
    in->n_packets = n;
    in->n_ce = n_ce;
    in->wire_len = n * SMT_DATA_HDR_LEN + in->hdr->record_len;
    st->bytes_rcvd += len - pkts[0].len;
    st->packets_rcvd_data += n - 1;
    in->record = pkts[0].data + SMT_DATA_HDR_LEN;
    if (SMT_UNLIKELY(!smt_arriving_check(in)))
        return;
    st->pad_bytes_rcvd += len - in->wire_len;
    c->pacer.got_packets += n;
    c->pacer.got_bytes += in->wire_len;
    c->pacer.got_ce += n_ce;
    if (!smt_arriving_look(in))
        return;
    st->bursts_rcvd++;
    struct smt_aead_in slices[SMT_MAX_SLICES];
    uint8_t tag[SMT_AEAD_TAG_LEN];
    struct smt_record_pieces pieces;
    run_cut(pkts, n, in->hdr, slices, tag, &pieces);
    in->pieces = &pieces;
    smt_arriving_open(in);
}

/* Are bytes of the record wanted, as far as can be said? What nobody waits for is not collected. */
static bool is_wanted(struct smt_arriving *in)
{
    if (!smt_arriving_look(in))
        return false;
    if (in->r == NULL || in->r->rx.data == NULL ||
        smt_msg_rx_wants(&in->r->rx, in->hdr->offset, 1))
        return true;
    in->c->e->stats.drop_duplicate++;
    return false;
}

/* One slice, in whatever order. */
static void slice_receive(const struct smt_pkt *pkt, uint32_t index, struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    struct smt_engine *e = c->e;
    uint32_t slice_len = smt_slice_len(in->hdr, index);
    if (slice_len == 0 || pkt->len - SMT_DATA_HDR_LEN < slice_len) {
        e->stats.drop_burst++;
        return;
    }
    struct smt_burst *b = NULL;
    enum smt_slice got = SMT_SLICE_DUPLICATE;
    bool wanted = is_wanted(in);
    if (wanted)
        got = smt_bursts_take(&e->bursts, c->slot, in->hdr, index, pkt->data + SMT_DATA_HDR_LEN,
                              pkt->len - SMT_DATA_HDR_LEN, &b, &e->stats.bursts_lost);
    if (got == SMT_SLICE_BAD || got == SMT_SLICE_NO_MEMORY) {
        e->stats.drop_burst += got == SMT_SLICE_BAD;
        e->stats.drop_no_memory += got == SMT_SLICE_NO_MEMORY;
        return;
    }
    bool ce = pkt->ecn == 3;
    c->pacer.got_packets++;
    c->pacer.got_bytes += SMT_DATA_HDR_LEN + slice_len;
    c->pacer.got_ce += ce;
    e->stats.pad_bytes_rcvd += pkt->len - SMT_DATA_HDR_LEN - slice_len;
    if (got == SMT_SLICE_DUPLICATE) {
        e->stats.drop_duplicate += wanted;
        return;
    }
    b->n_ce += ce;
    if (got != SMT_SLICE_WHOLE)
        return;
    e->stats.bursts_rcvd++;
    in->record = b->record;
    in->n_packets = b->n_slices;
    in->n_ce = b->n_ce;
    in->wire_len = b->n_slices * SMT_DATA_HDR_LEN + in->hdr->record_len;
    if (smt_arriving_check(in))
        smt_arriving_open(in);
    else
        smt_arriving_not(in);
    smt_bursts_put(&e->bursts, b);
}

unsigned smt_slices_receive(const struct smt_pkt *pkts, unsigned n, struct smt_arriving *in)
{
    struct smt_engine *e = in->c->e;
    const struct smt_hdr *hdr = in->hdr;
    if (!e->bursts.is_on || (!e->config.slices && !smt_addr_is_ipv4(pkts[0].from))) {
        e->stats.drop_burst++;
        return 1;
    }
    uint32_t index = e->config.slices ? hdr->index : pkts[0].ip_id;
    unsigned n_slices = smt_slices_of(hdr);
    if (index == 0 && e->config.slices && n_slices <= n && n_slices <= SMT_MAX_SLICES &&
        hdr->slice_len >= MIN_SLICE && is_run(pkts, n_slices, hdr)) {
        run_receive(pkts, n_slices, in);
        return n_slices;
    }
    slice_receive(&pkts[0], index, in);
    return 1;
}

unsigned smt_slices_behind(const struct smt_pkt *pkt)
{
    struct smt_hdr hdr;
    bool is_whole = pkt->len < SMT_DATA_HDR_LEN || memcmp(pkt->data + 40, pkt->data + 42, 2) == 0;
    if (SMT_LIKELY(is_whole) || smt_hdr_decode(pkt->data, pkt->len, &hdr) < 0 ||
        hdr.kind != SMT_KIND_DATA)
        return 0;
    unsigned n = smt_slices_of(&hdr);
    return hdr.index + 1u < n && n <= SMT_MAX_SLICES ? n - 1 - hdr.index : 0;
}
