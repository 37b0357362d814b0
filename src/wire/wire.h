/* Formats of profile smt2 (docs/wire.md): clear headers, record heads and the plaintext head of
 * DATA records. Host order stops here. Decoding checks lengths and reserved bits, nothing else;
 * what it gives are hints until a tag has passed. */
#ifndef SMT_WIRE_WIRE_H
#define SMT_WIRE_WIRE_H

#include "base/bytes.h"
#include "base/defs.h"

enum {
    SMT_WIRE_VERSION = 2,
    SMT_WIRE_IP_PROTOCOL = 254,
    SMT_DATA_HDR_LEN = 44,
    SMT_HDR_INDEX_AT = 19,      /* of the slice, in a DATA header */
    SMT_CTRL_HDR_LEN = 28,
    SMT_HS_HDR_LEN = 44,
    SMT_PLAIN_HDR_LEN = 28,     /* RETRY, NO_SESSION, VERSION */
    SMT_MIN_HDR_LEN = 28,
    SMT_RECORD_HEAD_LEN = 13,
    SMT_RECORD_OVERHEAD = 29,   /* head and tag */
    SMT_RECORD_MAX_PLAIN = 16384,
    SMT_MAX_SLICES = 64,        /* of a record */
    SMT_INNER_LEN = 16,         /* plaintext head of a DATA record */
    SMT_INNER_EXT_LEN = 24,     /* its extension */
    SMT_BASE_PACKET = 1024,     /* what every carriage takes; longer ones are found by probes */
    SMT_HS_MIN_FIRST_LEN = 1000, /* without receiver's id; senders pad to SMT_BASE_PACKET */
    SMT_COOKIE_LEN = 32,
    SMT_MAX_MESSAGE = 1 << 30,
    SMT_SEAL_LIMIT = 1 << 30,   /* seal counters are below */
    SMT_SEAL_INDEX_BITS = 24,
    SMT_AAD_LEN = 13,
};

enum smt_kind {
    SMT_KIND_DATA = 0x10,
    SMT_KIND_EARLY = 0x11,
    SMT_KIND_CTRL = 0x20,
    SMT_KIND_HANDSHAKE = 0x30,
    SMT_KIND_RETRY = 0x31,
    SMT_KIND_NO_SESSION = 0x32,
    SMT_KIND_VERSION = 0x33,
};

/* One row per packet kind: everything that is fixed about it. */
struct smt_kind_row {
    const char *name;
    uint8_t kind;
    uint8_t header_len;
    uint8_t min_len;    /* shortest packet of this kind */
    bool sealed;        /* a record follows */
};
/* NULL for an unknown kind. O(1). */
const struct smt_kind_row *smt_kind_row(uint8_t kind);

/* Bit 63 of an RPC id field: DATA: the receiver started the RPC; frames: the frame's sender did. */
#define SMT_ID_ROLE (1ull << 63)
#define SMT_ID_MASK ((1ull << 62) - 1)

/* A clear header of any kind, decoded. Fields that a kind has not are zero. */
struct smt_hdr {
    uint16_t sport, dport;
    uint8_t kind, version, epoch; /* HANDSHAKE: epoch holds the flags */
    uint8_t header_len;
    uint64_t session_id;
    /* DATA, EARLY */
    uint64_t rpc_id;              /* with the role bit */
    uint32_t offset, message_len; /* HANDSHAKE: offset and ack */
    uint32_t seal;
    uint16_t record_len, slice_len;
    uint8_t index;                /* of the slice, where the carriage does not tell it */
    /* HANDSHAKE */
    uint64_t source_id;
    uint16_t tls_len;
    uint8_t cookie_len;
};

/* Decodes the header of a packet. 0, SMT_EVERSION (ports, kind, version, header_len, session_id
 * and HANDSHAKE's source_id are set), or SMT_EMALFORMED. What 0 promises: reserved bits are
 * zero; a DATA record that is in one packet lies inside it, one in slices has a byte there; a
 * CTRL packet holds the 29 bytes of the shortest record; cookie (RETRY: 32 bytes), TLS bytes and
 * version list lie inside; a HANDSHAKE packet without receiver's id has its 1,000 bytes and
 * source_id is not 0. */
SMT_MUST_CHECK int smt_hdr_decode(const uint8_t *pkt, size_t len, struct smt_hdr *out);

/* Writes the header of hdr->kind (version 2, reserved fields zero); returns its length. */
size_t smt_hdr_encode(const struct smt_hdr *hdr, uint8_t *out);

/* 17 03 03, length, record number: 13 bytes for a plaintext of plain_len. */
void smt_record_head_encode(uint8_t *out, uint64_t record_no, size_t plain_len);

/* Parses the head of a record of `record_len` bytes (at least 13 of them at `in`): as the clear
 * header says for DATA, 5 + the head's own length for CTRL, whose record may end before its
 * packet. 0 and the plaintext length, or SMT_EMALFORMED: type, version, a length that is not
 * record_len's. *record_no gets the explicit number. */
SMT_MUST_CHECK int smt_record_head_decode(const uint8_t *in, size_t record_len,
                                          uint64_t *record_no, size_t *plain_len);

/* The 13 bytes of AAD and the 12 of nonce. */
void smt_record_aad(uint8_t out[SMT_AAD_LEN], uint64_t record_no, size_t plain_len);
void smt_record_nonce(uint8_t out[12], const uint8_t salt[4], uint64_t record_no);

/* role ‖ attempt ‖ low 33 bits of the id ‖ index, from the clear header's id (with role) and
 * seal. */
static inline uint64_t smt_data_record_no(uint64_t rpc_id, uint32_t seal)
{
    uint64_t attempt = (seal >> SMT_SEAL_INDEX_BITS) & 0x3f;
    uint64_t index = seal & 0xffffff;
    return (rpc_id & SMT_ID_ROLE) | attempt << 57 | (rpc_id & 0x1ffffffffull) << 24 | index;
}

enum smt_what {
    SMT_WHAT_REQUEST = 1,
    SMT_WHAT_RESPONSE = 2,
    SMT_WHAT_ONEWAY = 3,
    SMT_WHAT_TEST = 4,
};
enum smt_inner_flags { SMT_INNER_EXT = 0x01, SMT_INNER_IDEMPOTENT = 0x02 };

/* Plaintext head of a DATA record, docs/wire.md 3.1. */
struct smt_inner {
    uint8_t what, flags;
    uint16_t frames_len;
    uint32_t offset, message_len;
    uint32_t id_high;             /* bits 63–32 of the clear header's id field, role included */
    /* extension */
    uint64_t low_water, done;
    uint32_t unsched;
    uint16_t cutoffs_version;
};

/* Length of the encoded head: 16 or 40, without frames. */
size_t smt_inner_encode(const struct smt_inner *in, uint8_t *out);

/* Decodes the head of a plaintext. Returns its length (16 or 40; frames follow), or
 * SMT_EMALFORMED when head or frames do not fit plain_len, `what` is unknown, or offset 0 comes
 * without extension. */
SMT_MUST_CHECK int smt_inner_decode(const uint8_t *plain, size_t plain_len, struct smt_inner *out);

/* ---- control frames, docs/wire.md 4 ---- */

enum smt_frame_type {
    SMT_FRAME_PAD = 0x00,
    SMT_FRAME_PING = 0x01,
    SMT_FRAME_PONG = 0x02,
    SMT_FRAME_MARK = 0x03,
    SMT_FRAME_SEEN = 0x04,
    SMT_FRAME_PROBE = 0x05,
    SMT_FRAME_PROBE_ACK = 0x06,
    SMT_FRAME_PATH_CHALLENGE = 0x07,
    SMT_FRAME_PATH_RESPONSE = 0x08,
    SMT_FRAME_GRANT = 0x11,
    SMT_FRAME_RESEND = 0x12,
    SMT_FRAME_UNKNOWN = 0x13,
    SMT_FRAME_BUSY = 0x14,
    SMT_FRAME_CUTOFFS = 0x15,
    SMT_FRAME_NEED_ACK = 0x17,
    SMT_FRAME_ACK = 0x18,
    SMT_FRAME_ABORT = 0x19,
    SMT_FRAME_DONE = 0x1a,
    SMT_FRAME_CREDIT = 0x1b,
    SMT_FRAME_CLOSE = 0x1c,
    SMT_FRAME_REKEY = 0x1d,
    SMT_FRAME_ACKS = 0x80, /* from here on whoever does not know a type may skip it */
    SMT_FRAME_LATE = 0x81,
};

enum { SMT_FRAME_MAX_LEN = 48, SMT_RESEND_ALL = 0xffffffff };
enum { SMT_RESEND_SINGLE = 1, SMT_UNKNOWN_OVER = 1 };

/* One frame, decoded: `type` tells which members count. */
struct smt_frame {
    uint8_t type;
    uint8_t prio;       /* GRANT, RESEND */
    uint8_t flags;      /* RESEND, UNKNOWN */
    uint16_t code;      /* ABORT, CLOSE; PROBE_ACK: length; CUTOFFS: version */
    uint64_t id;        /* RPC frames, with bit 63 */
    uint64_t token;     /* PING, PONG, PROBE, PROBE_ACK, PATH_* */
    uint32_t offset;    /* GRANT, RESEND */
    /* RESEND; GRANT: received prefix; CUTOFFS: unscheduled limit; CREDIT: open RPCs; LATE: ns */
    uint32_t length;
    uint32_t seq, packets, bytes, ce; /* MARK, SEEN; LATE: seq */
    uint64_t low_water; /* DONE; CREDIT: bytes */
    uint64_t bitmap;    /* DONE; ACKS: bit i is for the message id + 1 + i */
    uint32_t cutoffs[7]; /* CUTOFFS, priority 1 … 7 */
};

/* Encoded length of a frame of this type, the longest if it differs, 0 if unknown. */
size_t smt_frame_len(uint8_t type);

/* Writes the frame; its length, or 0 when cap is too small or the type is not a row of the
 * table. */
size_t smt_frame_encode(const struct smt_frame *f, uint8_t *out, size_t cap);

/* Takes one frame from the front. Bytes consumed; 0 at the end or at an unknown type below 0x80
 * (stop; out->type names it); SMT_EMALFORMED when it is cut short or an id has bit 62. Frames
 * from 0x80 on are consumed with out->type set. PADs: a run of them is consumed as one. Members
 * that the type has not are zero. */
SMT_MUST_CHECK int smt_frame_decode(const uint8_t *in, size_t len, struct smt_frame *out);

#endif
