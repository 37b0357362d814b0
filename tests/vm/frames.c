/* What the frames say and how their bytes are bent. */
#include "frames.h"

#include <arpa/inet.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { MAX_PAYLOAD = 4096 };

static uint8_t payload[ROCE_MAX_FRAME];

void frame_fill(uint8_t *p, size_t len, uint32_t seed)
{
    uint32_t x = seed * 2654435761u | 1;
    for (size_t i = 0; i < len; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = (uint8_t)x;
    }
}

static void long_garbage(struct roce_frame *f)
{
    f->payload_len = MAX_PAYLOAD;
}

static void no_payload(struct roce_frame *f)
{
    f->payload_len = 0;
}

static void one_byte(struct roce_frame *f)
{
    f->payload_len = 1;
}

static void no_imm(struct roce_frame *f)
{
    f->has_imm = false;
}

static void imm_upper_half(struct roce_frame *f)
{
    f->imm |= 0xabcd0000;
}

static void imm_zero(struct roce_frame *f)
{
    f->imm = 0;
}

static void imm_other_port(struct roce_frame *f)
{
    f->imm = (f->imm + 1) & 0xffff;
}

static void spoofed_source(struct roce_frame *f)
{
    f->from_ip = ntohl(inet_addr("10.9.0.77"));
}

static void spoofed_loopback(struct roce_frame *f)
{
    f->from_ip = f->to_ip;
}

static void wrong_qkey(struct roce_frame *f)
{
    f->qkey ^= 1;
}

static void privileged_qkey(struct roce_frame *f)
{
    f->qkey = 0x80010000;
}

static void wrong_qpn(struct roce_frame *f)
{
    f->qpn ^= 0x7000;
}

static void multicast_qpn(struct roce_frame *f)
{
    f->qpn = 0xffffff;
}

/* More than the largest MTU of RoCE, in a frame that the link still carries. Soft-RoCE lets it
 * through: whether the receive buffer is long enough decides. */
static void too_long(struct roce_frame *f)
{
    f->payload_len = MAX_PAYLOAD + 4;
}

static size_t wrong_icrc(uint8_t *bytes, size_t len)
{
    bytes[len - 1] ^= 1;
    return len;
}

static size_t damaged(uint8_t *bytes, size_t len)
{
    bytes[len - 20] ^= 0x10;
    return len;
}

static size_t lengths(uint8_t *bytes, size_t len, size_t said)
{
    bytes[ROCE_IP_AT + 2] = (uint8_t)((said - ROCE_IP_AT) >> 8);
    bytes[ROCE_IP_AT + 3] = (uint8_t)(said - ROCE_IP_AT);
    bytes[ROCE_UDP_AT + 4] = (uint8_t)((said - ROCE_UDP_AT) >> 8);
    bytes[ROCE_UDP_AT + 5] = (uint8_t)(said - ROCE_UDP_AT);
    roce_ip_checksum(bytes);
    return len;
}

/* The rest cut away, with lengths and a checksum that agree. */
static size_t cut_at(uint8_t *bytes, size_t end)
{
    lengths(bytes, end, end + ROCE_ICRC_LEN);
    uint32_t icrc = roce_icrc(bytes, end);
    for (unsigned i = 0; i < ROCE_ICRC_LEN; i++)
        bytes[end + i] = (uint8_t)(icrc >> (8 * i));
    return end + ROCE_ICRC_LEN;
}

static size_t cut_in_bth(uint8_t *bytes, size_t len)
{
    return cut_at(bytes, ROCE_BTH_AT + 5);
}

static size_t cut_in_deth(uint8_t *bytes, size_t len)
{
    return cut_at(bytes, ROCE_DETH_AT + 2);
}

static size_t cut_in_imm(uint8_t *bytes, size_t len)
{
    return cut_at(bytes, ROCE_DETH_AT + 10);
}

static size_t cut_in_ip(uint8_t *bytes, size_t len)
{
    return ROCE_IP_AT + 12;
}

static size_t cut_on_the_wire(uint8_t *bytes, size_t len)
{
    return len - 60;
}

static size_t says_too_much(uint8_t *bytes, size_t len)
{
    return lengths(bytes, len, 65535 + ROCE_IP_AT);
}

static size_t pad_beyond_payload(uint8_t *bytes, size_t len)
{
    bytes[ROCE_BTH_AT + 1] |= 0x30;
    return cut_at(bytes, ROCE_DETH_AT + 12);
}

static size_t other_opcode(uint8_t *bytes, size_t len)
{
    bytes[ROCE_BTH_AT] = 0x04; /* SEND ONLY of a connection */
    return cut_at(bytes, len - ROCE_ICRC_LEN);
}

const struct frame_kind frame_kinds[] = {
    {"good", FRAME_GOOD, NULL, NULL},
    {"full-mtu", FRAME_ARRIVES, long_garbage, NULL},
    {"no-payload", FRAME_ARRIVES, no_payload, NULL},
    {"one-byte", FRAME_ARRIVES, one_byte, NULL},
    {"no-imm", FRAME_ARRIVES, no_imm, NULL},
    {"imm-upper-half", FRAME_ARRIVES, imm_upper_half, NULL},
    {"imm-zero", FRAME_ARRIVES, imm_zero, NULL},
    {"imm-other-port", FRAME_ARRIVES, imm_other_port, NULL},
    {"spoofed-source", FRAME_ARRIVES, spoofed_source, NULL},
    {"spoofed-as-itself", FRAME_ARRIVES, spoofed_loopback, NULL},
    {"too-long", FRAME_BREAKS, too_long, NULL},
    {"wrong-qkey", FRAME_DIES, wrong_qkey, NULL},
    {"privileged-qkey", FRAME_DIES, privileged_qkey, NULL},
    {"wrong-qpn", FRAME_DIES, wrong_qpn, NULL},
    {"multicast-qpn", FRAME_DIES, multicast_qpn, NULL},
    {"wrong-icrc", FRAME_DIES, NULL, wrong_icrc},
    {"damaged", FRAME_DIES, NULL, damaged},
    {"cut-in-ip", FRAME_DIES, NULL, cut_in_ip},
    {"cut-in-bth", FRAME_DIES, NULL, cut_in_bth},
    {"cut-in-deth", FRAME_DIES, NULL, cut_in_deth},
    {"cut-in-imm", FRAME_DIES, NULL, cut_in_imm},
    {"cut-on-the-wire", FRAME_DIES, NULL, cut_on_the_wire},
    {"says-too-much", FRAME_DIES, NULL, says_too_much},
    {"pad-beyond-payload", FRAME_DIES, NULL, pad_beyond_payload},
    {"other-opcode", FRAME_DIES, NULL, other_opcode},
};
const unsigned n_frame_kinds = COUNT(frame_kinds);

void frame_target_open(struct frame_target *t)
{
    roce_wire_open(&t->wire, "vb");
    roce_mac("vb", t->from_mac);
    roce_mac("va", t->to_mac);
}

void frame_send(const struct frame_target *t, const struct frame_kind *kind, uint32_t seed)
{
    static uint8_t bytes[ROCE_MAX_FRAME];
    frame_fill(payload, sizeof(payload), seed);
    struct roce_frame f = {
        .from_ip = ntohl(inet_addr("10.9.0.2")),
        .to_ip = ntohl(inet_addr("10.9.0.1")),
        .qpn = t->qpn,
        .qkey = t->qkey,
        .from_qpn = 0x123,
        .psn = seed & 0xffffff,
        .has_imm = true,
        .imm = t->imm,
        .payload = payload,
        .payload_len = FRAME_LEN,
    };
    memcpy(f.from_mac, t->from_mac, 6);
    memcpy(f.to_mac, t->to_mac, 6);
    if (kind->say != NULL)
        kind->say(&f);
    size_t len = roce_build(&f, bytes);
    if (kind->bend != NULL)
        len = kind->bend(bytes, len);
    roce_wire_send(&t->wire, bytes, len);
}
