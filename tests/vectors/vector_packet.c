/* Packets of the vectors: plaintext, seal, cut, clear header, by the library's code; then the
 * same packet decoded and opened by the library, so that a vector is never one that the library
 * itself refuses. */
#include "vector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct smt_key *packet_key(const struct packet *p)
{
    const struct smt_epoch_keys *k = &p->keys->keys;
    if (p->hdr.kind == SMT_KIND_CTRL)
        return p->from_responder ? &k->r_ctrl : &k->i_ctrl;
    return p->from_responder ? &k->r_data : &k->i_data;
}

static size_t frames_encode(const struct packet *p, uint8_t *out)
{
    size_t len = 0;
    if (p->raw_frames) {
        memcpy(out, p->raw_frames, p->raw_frames_len);
        return p->raw_frames_len;
    }
    for (unsigned i = 0; i < p->n_frames; i++) {
        size_t n = smt_frame_encode(&p->frames[i], out + len, VEC_MAX_PACKET);
        vec_check(n != 0, "frame");
        len += n;
    }
    return len;
}

static size_t plain_encode(struct packet *p, uint8_t *plain)
{
    if (p->hdr.kind == SMT_KIND_CTRL)
        return frames_encode(p, plain);
    uint8_t frames[2048];
    size_t frames_len = frames_encode(p, frames);
    p->inner.frames_len = (uint16_t)frames_len;
    p->inner.offset = p->hdr.offset;
    p->inner.message_len = p->hdr.message_len;
    p->inner.id_high = (uint32_t)(p->hdr.rpc_id >> 32);
    size_t len = smt_inner_encode(&p->inner, plain);
    memcpy(plain + len, frames, frames_len);
    if (p->data_len)
        memcpy(plain + len + frames_len, p->data, p->data_len);
    return len + frames_len + p->data_len;
}

static void *ctx_open(const struct packet *p)
{
    const struct smt_aead *aead = p->keys->aead;
    void *ctx = aligned_alloc(64, (aead->ctx_len + 63) / 64 * 64);
    vec_check(ctx && aead->init(ctx, packet_key(p)->key) == 0, "cipher");
    return ctx;
}

static void ctx_close(const struct packet *p, void *ctx)
{
    p->keys->aead->fini(ctx);
    free(ctx);
}

/* Opens the record again with what the receiver knows: header, explicit number, key. */
static void record_check(const struct packet *p, const uint8_t *record, size_t record_len,
                         const uint8_t *plain, size_t plain_len)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN], opened[VEC_MAX_PACKET];
    uint64_t no;
    size_t got;
    vec_check(smt_record_head_decode(record, record_len, &no, &got) == 0 && got == plain_len,
              "record head");
    smt_record_nonce(nonce, packet_key(p)->salt, no);
    smt_record_aad(aad, no, got);
    void *ctx = ctx_open(p);
    const struct smt_aead_out out = {opened, got};
    vec_check(p->keys->aead->open(ctx, nonce, aad, sizeof(aad), record + SMT_RECORD_HEAD_LEN, got,
                                  &out, 1, record + SMT_RECORD_HEAD_LEN + got) == 0 &&
                  memcmp(opened, plain, plain_len) == 0,
              "record does not open");
    ctx_close(p, ctx);
    struct smt_inner in;
    if (p->hdr.kind != SMT_KIND_CTRL)
        vec_check(smt_inner_decode(opened, got, &in) > 0, "inner head");
}

/* Seals `plain` into `record` and prints what the seal was made of. */
static size_t record_seal(const struct packet *p, const uint8_t *plain, size_t plain_len,
                          uint8_t *record)
{
    const struct smt_key *key = packet_key(p);
    uint64_t no = p->hdr.kind == SMT_KIND_CTRL ? p->record_no
                                               : smt_data_record_no(p->hdr.rpc_id, p->hdr.seal);
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    smt_record_head_encode(record, no, plain_len);
    smt_record_nonce(nonce, key->salt, no);
    smt_record_aad(aad, no, plain_len);
    uint8_t *body = record + SMT_RECORD_HEAD_LEN;
    void *ctx = ctx_open(p);
    const struct smt_aead_in in = {plain, plain_len};
    vec_check(p->keys->aead->seal(ctx, nonce, aad, sizeof(aad), &in, 1, body, body + plain_len) ==
                  0,
              "seal");
    ctx_close(p, ctx);
    record_check(p, record, plain_len + SMT_RECORD_OVERHEAD, plain, plain_len);
    vec_id("record_number", no);
    vec_hex("nonce", nonce, sizeof(nonce));
    vec_hex("aad", aad, sizeof(aad));
    vec_hex("plaintext", plain, plain_len);
    return plain_len + SMT_RECORD_OVERHEAD;
}

static void record_fields(const struct packet *p)
{
    if (p->hdr.kind != SMT_KIND_CTRL)
        vec_inner(&p->inner);
    if (p->raw_frames)
        printf("%s", p->raw_frames_lines);
    for (unsigned i = 0; i < p->n_frames; i++)
        vec_frame(i, &p->frames[i]);
    if (p->hdr.kind != SMT_KIND_CTRL)
        vec_num("data_length", p->data_len);
}

static void header_check(const uint8_t *pkt, size_t len, const struct smt_hdr *h)
{
    struct smt_hdr back;
    uint8_t again[64];
    vec_check(smt_hdr_decode(pkt, len, &back) == 0, "header does not decode");
    size_t n = smt_hdr_encode(&back, again);
    vec_check(n == back.header_len && memcmp(pkt, again, n) == 0, "header does not come back");
}

/* The packets of a burst: the record cut into slices behind copies of one header, but for what it
 * says of the slice. */
static void slices_put(const struct packet *p, const uint8_t *record, size_t record_len)
{
    unsigned n = (unsigned)((record_len + p->slice_len - 1) / p->slice_len);
    vec_num("slices", n);
    for (unsigned i = 0; i < n; i++) {
        uint8_t pkt[VEC_MAX_PACKET];
        size_t at = i * p->slice_len;
        size_t len = record_len - at < p->slice_len ? record_len - at : p->slice_len;
        struct smt_hdr hdr = p->hdr;
        hdr.index = p->by_header ? (uint8_t)i : 0;
        size_t head = smt_hdr_encode(&hdr, pkt);
        memcpy(pkt + head, record + at, len);
        header_check(pkt, head + len, &hdr);
        char key[32];
        snprintf(key, sizeof(key), "packet.%u", i);
        vec_hex(key, pkt, head + len);
    }
}

void vec_packet(const struct packet *in)
{
    struct packet p = *in;
    p.hdr.sport = p.from_responder ? VEC_R_PORT : VEC_I_PORT;
    p.hdr.dport = p.from_responder ? VEC_I_PORT : VEC_R_PORT;
    p.hdr.epoch = p.keys->epoch;
    p.hdr.session_id =
        p.from_responder || p.hdr.kind == SMT_KIND_EARLY ? vec_initiator_id : vec_responder_id;
    uint8_t plain[VEC_MAX_PACKET], record[VEC_MAX_PACKET], pkt[VEC_MAX_PACKET];
    size_t plain_len = plain_encode(&p, plain);
    size_t record_len = plain_len + SMT_RECORD_OVERHEAD;
    if (p.hdr.kind != SMT_KIND_CTRL) {
        p.hdr.record_len = (uint16_t)record_len;
        p.hdr.slice_len = (uint16_t)(p.slice_len ? p.slice_len : record_len);
    }
    vec_section(p.name, p.slice_len ? "burst" : "packet", p.note);
    printf("keys=%s\nfrom=%s\n", p.keys->name, p.from_responder ? "r" : "i");
    vec_header(&p.hdr);
    vec_check(record_seal(&p, plain, plain_len, record) == record_len, "record length");
    record_fields(&p);
    if (p.slice_len) {
        printf("carriage=%s\n", p.by_header ? "udp" : "ip");
        slices_put(&p, record, record_len);
        return;
    }
    size_t len = smt_hdr_encode(&p.hdr, pkt);
    memcpy(pkt + len, record, record_len);
    len += record_len;
    memset(pkt + len, 0xa5, p.pad_len);
    if (p.pad_len)
        vec_hex("padding", pkt + len, p.pad_len);
    len += p.pad_len;
    header_check(pkt, len, &p.hdr);
    vec_hex("packet", pkt, len);
}

void vec_message(const char *name, const char *parts, const uint8_t *data, size_t len)
{
    uint8_t hash[32];
    const struct smt_aead_in in = {data, len};
    vec_check(smt_sha256(&in, 1, hash) == 0, "SHA-256");
    vec_section(name, "message", "What the packets above carry together.");
    printf("packets=%s\n", parts);
    vec_num("length", len);
    vec_hex("sha256", hash, sizeof(hash));
}

/* A packet without record: header, what follows it, zero padding up to min_len. */
void vec_plain(const char *name, const char *note, const struct smt_hdr *h, const uint8_t *body,
               size_t body_len, size_t min_len)
{
    uint8_t pkt[VEC_MAX_PACKET] = {0};
    vec_section(name, "packet", note);
    vec_header(h);
    size_t len = smt_hdr_encode(h, pkt);
    if (body_len)
        memcpy(pkt + len, body, body_len);
    if (h->kind == SMT_KIND_HANDSHAKE) {
        vec_num("flags", h->epoch);
        vec_num("offset", h->offset);
        vec_num("acknowledgement", h->message_len);
        vec_id("source_id", h->source_id);
        vec_hex("cookie", body, h->cookie_len);
        vec_hex("tls", body + h->cookie_len, h->tls_len);
    } else if (h->kind == SMT_KIND_RETRY) {
        vec_hex("cookie", body, body_len);
    } else if (h->kind == SMT_KIND_VERSION) {
        vec_hex("versions", body + 1, body_len - 1);
    }
    len += body_len;
    if (len < min_len) {
        vec_hex("padding", pkt + len, min_len - len);
        len = min_len;
    }
    header_check(pkt, len, h);
    vec_hex("packet", pkt, len);
}
