/* Packets of the kernel's Homa: profiles homa-main (HomaModule, IP protocol 146), homa-6.1 (its
 * branch linux_6.1.38, 253) and smt1 (the SMT module, 253; its records are in smt1.h). The three
 * do not understand each other and no packet tells which it is: the profile is configuration.
 * Host order stops here. Nothing is authenticated: every field is what anybody wrote.
 *
 * One structure serves the kinds of all three formats; a member that a kind or format has not is
 * 0 after decoding and ignored in encoding. */
#ifndef SMT_WIRE_HOMA_H
#define SMT_WIRE_HOMA_H

#include "base/bytes.h"
#include "base/defs.h"

enum smt_homa_type {
    SMT_HOMA_DATA = 0x10,
    SMT_HOMA_GRANT = 0x11,
    SMT_HOMA_RESEND = 0x12,
    SMT_HOMA_UNKNOWN = 0x13,
    SMT_HOMA_BUSY = 0x14,
    SMT_HOMA_CUTOFFS = 0x15,
    SMT_HOMA_FREEZE = 0x16, /* ignore it, whoever sends it */
    SMT_HOMA_NEED_ACK = 0x17,
    SMT_HOMA_ACK = 0x18,
    SMT_HOMA_N_TYPES = SMT_HOMA_ACK - SMT_HOMA_DATA + 1,
};

enum {
    SMT_HOMA_MAX_MESSAGE = 1000000, /* and at least 1 byte: the kernel refuses the rest */
    SMT_HOMA_MAX_HDR_LEN = 90,      /* longest control packet and longest DATA header */
    SMT_HOMA_N_PRIOS = 8,
    SMT_HOMA_MAX_ACKS = 5,
    SMT_HOMA_MIN_CLIENT_PORT = 0x8000, /* below: ports that servers bind */
    SMT_HOMA_RESEND_FIRST = 100,       /* length of RESEND that formats without "all" use for it */
};

/* RESEND.length: all that was sent so far. Only formats with `resend_all` know it. */
#define SMT_HOMA_RESEND_ALL 0xffffffffu

/* Where DATA carries its offset. The kernel's sender leaves one of the two words wrong; its
 * receiver mends that only in GRO. We write both. */
enum smt_homa_place {
    SMT_HOMA_IN_BOTH,     /* sequence = segment word = offset: what we send */
    SMT_HOMA_IN_SEQUENCE, /* segment word is −1: single packets of the kernel */
    SMT_HOMA_IN_SEGMENT,  /* sequence is that of the first packet of a GSO frame */
};

struct smt_homa_ack {
    uint64_t client_id;   /* even: the id of the RPC at its client */
    uint16_t client_port; /* not in homa-main */
    uint16_t server_port;
};

struct smt_homa_pkt {
    uint16_t sport, dport;
    /* The RPC as its sender knows it: even when a client sent this, odd when a server did. The
     * receiver's own id is smt_homa_local_id() of it. homa-main's RPCs are named by (client's
     * address, id), the others' by (client's address, client's port, id). */
    uint64_t sender_id;
    uint8_t type;

    /* GRANT: of data up to offset; always adopted. RESEND: of what is sent again. */
    uint8_t prio;
    /* DATA: sent because of RESEND or UNKNOWN. Repeats the ack its first copy had. */
    bool retransmit;
    /* GRANT. homa-6.1: the message was refused for lack of buffers, send everything again first.
     * homa-main: set it when sending: its zero byte makes the packet long enough for 6.10.6. */
    bool resend_all;
    bool long_grant;
    /* DATA, not smt1. */
    uint8_t place; /* enum smt_homa_place */
    /* DATA of smt1: added to the IPv4 identification gives the packet's number in its record. */
    uint8_t index;
    uint8_t n_acks; /* DATA (not smt1): 0 or 1; ACK: 0 … 5 besides sender_id's own */

    /* DATA: version of the receiver's cutoffs that the sender holds, 0: none. When it is not the
     * receiver's own, it sends CUTOFFS, at most once a peer and millisecond. CUTOFFS: theirs. */
    uint16_t cutoff_version;
    /* DATA: total bytes, 1 … 1,000,000, the same in all packets. Only that of the packet which
     * creates the message counts. */
    uint32_t message_len;
    /* DATA: bytes from the start that come without a grant; of a retransmission, end of what
     * was asked for. Clip it to message_len. */
    uint32_t incoming;
    /* DATA: of the payload's first byte; smt1: of the first byte of the record this packet is a
     * slice of. GRANT: the sender may send up to here; never lowers the limit, clip it to the
     * message. RESEND: start of the range. */
    uint32_t offset;
    /* RESEND; smt1: in logical space (smt1.h). 0: a question whether anybody is there, answer
     * BUSY. offset + length may overflow 32 bits. */
    uint32_t length;
    /* DATA, place IN_SEGMENT: what stands in the sequence word; otherwise of no meaning. */
    uint32_t frame_offset;
    struct smt_homa_ack acks[SMT_HOMA_MAX_ACKS];
    /* CUTOFFS: a message of `len` unscheduled bytes goes at the highest priority p with
     * len <= cutoffs[p]; take cutoffs[0] for infinite whatever was sent. Counts for the peer even
     * when its RPC is unknown. */
    uint32_t cutoffs[SMT_HOMA_N_PRIOS];

    /* DATA, decoding only: what follows the header, borrowed from the packet; smt1: a slice of
     * a record. May be empty except in smt1. */
    const uint8_t *payload;
    uint32_t payload_len;
};

struct smt_homa_kind;

/* What is fixed about a format. */
struct smt_homa_format {
    const char *name;                  /* of the profile */
    const struct smt_homa_kind *kinds; /* by type - SMT_HOMA_DATA */
    uint8_t ip_protocol;
    uint8_t data_hdr_len;  /* clear bytes before the payload of DATA */
    uint8_t data_overhead; /* all bytes of a packet that are not the message's: 56 or 60 */
    uint8_t ack_len;
    uint8_t ipv6_class_shift; /* traffic class = priority << this; IPv4's TOS: << 5 */
    uint8_t control_doff;     /* what control packets say of their length; nobody reads it */
    bool long_grants;         /* GRANT may have the byte of 6.10.6 */
    bool tcp_like;            /* type stands at 11, flags and urgent mark it, TCP hijack is known */
    bool resend_all;          /* RESEND with length −1 is understood */
    bool knows_client_port;   /* RPCs and acks are named with it */
    bool records;             /* the payload of DATA is a slice of a TLS record */
    bool ipv6;
};

extern const struct smt_homa_format smt_homa_main;
extern const struct smt_homa_format smt_homa_6_1;
extern const struct smt_homa_format smt_homa_smt1;

/* Name of a type, NULL if there is none. */
const char *smt_homa_type_name(uint8_t type);
/* Length of a whole control packet or of DATA's header: what encode writes (a long grant is one
 * more) and the least that decode takes. 0 for an unknown type. */
size_t smt_homa_len(const struct smt_homa_format *f, uint8_t type);

/* Decodes an IP payload. 0, or SMT_EMALFORMED: shorter than its kind, an unknown type, DATA whose
 * message_len is 0 or above 1,000,000 or which reaches beyond it. What 0 promises for DATA:
 * payload lies in the packet, offset + payload_len <= message_len (smt1: offset < message_len,
 * payload_len > 0); for ACK n_acks <= 5, whatever the packet claimed. Longer packets are taken
 * (their rest is DATA's payload, otherwise ignored); doff, checksum and unused fields are not
 * looked at: some senders leave the contents of their stack there. */
SMT_MUST_CHECK int smt_homa_decode(const struct smt_homa_format *f, const uint8_t *pkt, size_t len,
                                   struct smt_homa_pkt *out);

/* Writes the packet (DATA: its header; the payload follows it) with unused fields 0; returns its
 * length. `out` holds SMT_HOMA_MAX_HDR_LEN bytes. The checksum stays 0: no receiver verifies it;
 * the device fills it in for the TCP carriage. */
size_t smt_homa_encode(const struct smt_homa_format *f, const struct smt_homa_pkt *p, uint8_t *out);

/* The id under which the receiver of a packet knows its RPC. Odd: it is the server. */
static inline uint64_t smt_homa_local_id(uint64_t sender_id)
{
    return sender_id ^ 1;
}

/* Bytes of a message in one packet at this MTU (IP packet), or 0 when nothing fits. The sender
 * cuts at the same places when it sends again: a receiver drops what straddles. */
static inline uint32_t smt_homa_packet_data(const struct smt_homa_format *f, uint32_t mtu,
                                            bool ipv6)
{
    uint32_t headers = (ipv6 ? 40u : 20u) + f->data_overhead;
    return mtu > headers ? mtu - headers : 0;
}

#endif
