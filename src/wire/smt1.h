/* Records of the kernel's SMT module (profile smt1): how a message is cut into TLS 1.2 records,
 * records into packets, and what numbers go with them. Packet headers are in homa.h; AAD and
 * nonce are smt_record_aad() and smt_record_nonce() of wire.h with the numbers from here.
 *
 * The format is IPv4 only: the number of a packet in its record is its IPv4 identification plus
 * the header's `index` byte (u16). A first copy travels with identification 0, 1, 2, … (a NIC or
 * the kernel that cuts a large send counts so too) and index 0; a packet that is sent again alone
 * may have identification 0 and its number in `index`. All arithmetic depends on the MTU, which
 * must be the same at both ends; a packet whose length is not the one computed here betrays an
 * end with another MTU. */
#ifndef SMT_WIRE_SMT1_H
#define SMT_WIRE_SMT1_H

#include "wire/homa.h"

enum {
    SMT_SMT1_HDR_LEN = 40,       /* clear header of every packet */
    SMT_SMT1_SEGMENT_LEN = 20,   /* before the data of each packet, sealed */
    SMT_SMT1_OVERHEAD = 13 + 16, /* head and tag of a record */
    SMT_SMT1_TAG_LEN = 16,
    SMT_SMT1_MAX_RECORD = 5 + 65535, /* a kernel with large GSO goes beyond TLS's 16 KiB */
    SMT_SMT1_DEFAULT_GSO = 10000,    /* the kernel's max_gso_size */
};

/* What MTU and the largest burst make of all messages. */
struct smt_smt1_geom {
    uint32_t max_data;    /* M: message bytes of a full packet */
    uint32_t slice_len;   /* M + 20: record bytes of every packet but a record's last */
    uint32_t n_packets;   /* of a full record */
    uint32_t record_data; /* R: message bytes of a full record */
};

/* SMT_EINVAL when a packet of this MTU has no room for a byte, or one is beyond 65,535. `max_gso`
 * is ours alone: a receiver needs the MTU only. */
SMT_MUST_CHECK int smt_smt1_geom_init(struct smt_smt1_geom *g, uint32_t mtu, uint32_t max_gso);

/* One record of a message. */
struct smt_smt1_record {
    uint32_t offset;     /* T: of its first byte in the message */
    uint32_t data_len;   /* message bytes */
    uint32_t plain_len;  /* P: segment headers and message bytes */
    uint32_t record_len; /* head, P, tag */
    uint32_t n_segments; /* packets with a segment header */
    uint32_t n_packets;  /* one more when the tag spills into a packet of its own */
};

uint32_t smt_smt1_n_records(const struct smt_smt1_geom *g, uint32_t message_len);

/* Record `k` of a message that we send. */
void smt_smt1_record_cut(const struct smt_smt1_geom *g, uint32_t message_len, uint32_t k,
                         struct smt_smt1_record *out);

/* The record at `offset` of a message that we receive, from the first bytes of its packet 0
 * (SMT_RECORD_HEAD_LEN of them at `head`). The sender may fill its records otherwise than we.
 * SMT_EMALFORMED: not 17 03 03, a length that no cut at this MTU gives, or the record reaches
 * beyond message_len. The number in the head is not looked at: the receiver computes it. */
SMT_MUST_CHECK int smt_smt1_record_decode(const struct smt_smt1_geom *g, uint32_t message_len,
                                          uint32_t offset, const uint8_t *head,
                                          struct smt_smt1_record *out);

/* Message bytes of segment i: its place in the record's data and its length; *plain gets where its
 * 20-byte header stands in the plaintext. */
void smt_smt1_segment_at(const struct smt_smt1_geom *g, const struct smt_smt1_record *r, uint32_t i,
                         uint32_t *data_at, uint32_t *data_len, uint32_t *plain_at);

/* Record bytes in packet i; they begin at i * slice_len. */
uint32_t smt_smt1_slice_len(const struct smt_smt1_geom *g, const struct smt_smt1_record *r,
                            uint32_t i);

/* The sealed header of a packet's data. Receiver: offset and len must be those of
 * smt_smt1_segment_at(); an ack is honoured only after the tag has passed. */
struct smt_smt1_segment {
    uint32_t offset; /* in the message */
    uint32_t len;
    struct smt_homa_ack ack; /* client_id 0: none */
};
void smt_smt1_segment_encode(const struct smt_smt1_segment *s, uint8_t out[SMT_SMT1_SEGMENT_LEN]);
void smt_smt1_segment_decode(const uint8_t in[SMT_SMT1_SEGMENT_LEN], struct smt_smt1_segment *out);

/* 17 03 03, length, number: SMT_RECORD_HEAD_LEN bytes. smt_record_head_encode() without TLS's
 * limit of 16 KiB. */
void smt_smt1_head_encode(uint8_t *out, uint64_t record_no, uint32_t plain_len);

/* Number of record k of the message of RPC `sender_id`: bits 48 … 1 of the id, 16 bits of k. A
 * request and its response have the same, so the two directions need two keys; one end that
 * calls and serves under one key must not use an id for both. Ids that agree in bits 48 … 1 have
 * the same numbers: never use bits 63 … 49. */
static inline uint64_t smt_smt1_record_no(uint64_t sender_id, uint32_t k)
{
    return ((sender_id & ((1ull << 49) - 1)) >> 1 << 16) + k;
}

/* Logical space: what GRANT, RESEND and the kernel's search for gaps count in. A packet of IP
 * payload `ip_len` with number `i` in the record at `offset` covers [*start, *start + *len).
 * Contiguous over a message; inside a record shifted by up to 29 against the true offsets. */
void smt_smt1_logical(const struct smt_smt1_geom *g, uint32_t ip_len, uint32_t i, uint32_t offset,
                      uint32_t *start, uint32_t *len);

/* Bytes that a sender of this geometry sends without a grant. */
uint32_t smt_smt1_unscheduled(const struct smt_smt1_geom *g, uint32_t unsched_bytes,
                              uint32_t message_len);

/* The kernel's sender counts n_packets * M bytes for a record that holds 29 fewer, and so takes
 * some messages for sent before their last record. The offset from which it sends nothing until
 * it is asked by RESEND; message_len when it sends all. A receiver asks early. Assumes that the
 * sender's max_gso is that of `g`. */
uint32_t smt_smt1_unsent_tail(const struct smt_smt1_geom *g, uint32_t message_len);

#endif
