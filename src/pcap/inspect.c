/* What a packet is and which rules it keeps: see inspect.h.
 *
 * The rules of a single packet are here, those between the packets of a message in assemble.c. A
 * packet of another protocol is named and breaks nothing. */
#include "pcap/inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "pcap/assemble.h"
#include "wire/smt1.h"
#include "wire/wire.h"

enum {
    PROTO_ICMP = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_ICMPV6 = 58,
    UDP_LEN = 8,
    PORT_ROCE = 4791,
    TCP_MIN_LEN = 20,
    OFF_FLAGS = 13,
    OFF_URGENT = 18,
    HIJACK_FLAGS = 0x06,
    HIJACK_URGENT = 0xb97d,
};

struct smt_inspect {
    struct smt_inspect_config config;
    struct smt_assembly *messages;
};

int smt_inspect_new(const struct smt_inspect_config *config, struct smt_inspect **out)
{
    struct smt_inspect *in = smt_mem_alloc(sizeof(*in));
    if (in == NULL)
        return SMT_ENOMEM;
    in->config = *config;
    int r = smt_assembly_new(config, &in->messages);
    if (r < 0) {
        smt_mem_free(in);
        return r;
    }
    *out = in;
    return 0;
}

void smt_inspect_free(struct smt_inspect *in)
{
    if (in == NULL)
        return;
    smt_assembly_free(in->messages);
    smt_wipe(in, sizeof(*in));
    smt_mem_free(in);
}

const struct smt_inspect_message *smt_inspect_messages(const struct smt_inspect *in)
{
    return smt_assembly_first(in->messages);
}

__attribute__((format(printf, 3, 4))) static void add(char *text, size_t len, const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + used, len - used, fmt, ap);
    va_end(ap);
}

#define SAY(...) add(out->text, sizeof(out->text), __VA_ARGS__)
#define BREAKS(...)                                                                                \
    do {                                                                                           \
        if (out->fault[0] == '\0')                                                                 \
            add(out->fault, sizeof(out->fault), __VA_ARGS__);                                      \
    } while (0)

static void other_name(const struct smt_cap_packet *p, struct smt_inspect_line *out)
{
    switch (p->kind) {
    case SMT_CAP_ARP:
        SAY("ARP");
        return;
    case SMT_CAP_CUT:
        SAY("cut short");
        return;
    case SMT_CAP_OTHER:
        SAY("not IP");
        return;
    default:
        break;
    }
    if (p->protocol == PROTO_ICMP || p->protocol == PROTO_ICMPV6) {
        SAY("%s", p->protocol == PROTO_ICMP ? "ICMP" : "ICMPv6");
        if (p->len >= 2)
            SAY(" type %u code %u", p->data[0], p->data[1]);
    } else if (p->protocol == PROTO_UDP && p->len >= UDP_LEN) {
        uint16_t sport = smt_get_be16(p->data), dport = smt_get_be16(p->data + 2);
        if (dport == PORT_ROCE)
            SAY("RoCE v2");
        else
            SAY("UDP %u > %u", sport, dport);
    } else if (p->protocol == PROTO_TCP) {
        SAY("TCP");
    } else {
        SAY("IP protocol %u", p->protocol);
    }
    if (p->kind == SMT_CAP_FRAGMENT)
        SAY(", fragment");
}

static bool is_hijacked(const struct smt_cap_packet *p)
{
    return p->protocol == PROTO_TCP && p->len >= TCP_MIN_LEN &&
           p->data[OFF_FLAGS] == HIJACK_FLAGS &&
           smt_get_be16(p->data + OFF_URGENT) == HIJACK_URGENT;
}

static bool is_ours(const struct smt_homa_format *f, const struct smt_cap_packet *p)
{
    if (p->kind != SMT_CAP_IP && p->kind != SMT_CAP_FRAGMENT)
        return false;
    return p->protocol == f->ip_protocol || (f->tcp_like && is_hijacked(p));
}

static void ends_say(const struct smt_cap_packet *packet, uint16_t sport, uint16_t dport,
                     struct smt_inspect_line *out)
{
    const struct smt_addr *const end[] = {&packet->from, &packet->to};
    const uint16_t port[] = {sport, dport};
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *a = end[i]->ip;
        if (smt_addr_is_ipv4(end[i])) {
            SAY("%u.%u.%u.%u:%u", a[12], a[13], a[14], a[15], port[i]);
        } else {
            SAY("[");
            for (unsigned k = 0; k < 16; k += 2)
                SAY("%s%x", k > 0 ? ":" : "", smt_get_be16(a + k));
            SAY("]:%u", port[i]);
        }
        SAY(i == 0 ? " > " : " ");
    }
}

static void acks_say(const struct smt_homa_pkt *p, struct smt_inspect_line *out)
{
    for (unsigned i = 0; i < p->n_acks; i++)
        SAY(" ack %" PRIu64 "@%u", p->acks[i].client_id, p->acks[i].server_port);
}

static void homa_say(const struct smt_homa_format *f, const struct smt_cap_packet *packet,
                     const struct smt_homa_pkt *p, struct smt_inspect_line *out)
{
    static const char *const places[] = {"", " (in sequence)", " (in segment)"};
    ends_say(packet, p->sport, p->dport, out);
    SAY("%s id %" PRIu64, smt_homa_type_name(p->type), p->sender_id);
    switch (p->type) {
    case SMT_HOMA_DATA:
        SAY(" length %u offset %u", p->message_len, p->offset);
        if (f->records)
            SAY(" packet %u slice", (uint16_t)(packet->ip_id + p->index));
        else
            SAY("%s bytes", places[p->place]);
        SAY(" %u incoming %u cutoffs %u", p->payload_len, p->incoming, p->cutoff_version);
        if (p->retransmit)
            SAY(" again");
        acks_say(p, out);
        break;
    case SMT_HOMA_GRANT:
        SAY(" offset %u prio %u%s", p->offset, p->prio, p->resend_all ? " resend all" : "");
        break;
    case SMT_HOMA_RESEND:
        if (p->length == SMT_HOMA_RESEND_ALL)
            SAY(" offset %u all prio %u", p->offset, p->prio);
        else
            SAY(" offset %u length %u prio %u", p->offset, p->length, p->prio);
        break;
    case SMT_HOMA_CUTOFFS:
        SAY(" version %u:", p->cutoff_version);
        for (unsigned i = 0; i < SMT_HOMA_N_PRIOS; i++)
            SAY(" %u", p->cutoffs[i]);
        break;
    case SMT_HOMA_ACK:
        acks_say(p, out);
        break;
    default:
        break;
    }
}

/* Why decoding refused it. */
static void malformed_say(const struct smt_homa_format *f, const struct smt_cap_packet *packet,
                          const struct smt_homa_pkt *p, struct smt_inspect_line *out)
{
    SAY("%s", f->name);
    size_t least = packet->len >= smt_homa_len(f, SMT_HOMA_BUSY) ? smt_homa_len(f, p->type) : 0;
    if (packet->len < smt_homa_len(f, SMT_HOMA_BUSY))
        BREAKS("%u bytes, shorter than any packet", packet->len);
    else if (least == 0)
        BREAKS("unknown type 0x%02x", p->type);
    else if (packet->len < least)
        BREAKS("%s of %u bytes, needs %zu", smt_homa_type_name(p->type), packet->len, least);
    else if (p->message_len == 0 || p->message_len > SMT_HOMA_MAX_MESSAGE)
        BREAKS("a message of %u bytes", p->message_len);
    else if (p->payload_len == 0)
        BREAKS("a slice of no bytes");
    else
        BREAKS("%u bytes at %u of a message of %u", p->payload_len, p->offset, p->message_len);
}

/* The message that a control packet speaks of: sent by its receiver, or, of a sender's own. */
static void range_check(struct smt_inspect *in, const struct smt_cap_packet *packet,
                        const struct smt_homa_pkt *p, struct smt_inspect_line *out)
{
    struct smt_addr from = packet->to, to = packet->from;
    from.port = p->dport;
    to.port = p->sport;
    const struct smt_inspect_message *m =
        smt_assembly_find(in->messages, &from, &to, smt_homa_local_id(p->sender_id));
    if (m != NULL && p->offset > m->len)
        BREAKS("offset %u of a message of %u bytes", p->offset, m->len);
}

static void homa_check(struct smt_inspect *in, const struct smt_cap_packet *packet,
                       const struct smt_homa_pkt *p, struct smt_inspect_line *out)
{
    const struct smt_homa_format *f = in->config.format;
    bool is_ipv4 = smt_addr_is_ipv4(&packet->from);
    if (packet->kind == SMT_CAP_FRAGMENT)
        BREAKS("a fragment");
    if (!packet->dont_fragment)
        BREAKS("may be fragmented: DF is not set");
    if (!is_ipv4 && !f->ipv6)
        BREAKS("%s over IPv6", f->name);
    if (packet->protocol == PROTO_TCP && f->tcp_like && !is_hijacked(packet))
        BREAKS("TCP without the marks of Homa");
    if (p->type == SMT_HOMA_DATA && p->incoming > p->message_len)
        BREAKS("announces %u bytes of a message of %u", p->incoming, p->message_len);
    if (p->type == SMT_HOMA_ACK && smt_get_be16(packet->data + 28) > SMT_HOMA_MAX_ACKS)
        BREAKS("%u acks", smt_get_be16(packet->data + 28));
    if (p->type == SMT_HOMA_RESEND && p->length == SMT_HOMA_RESEND_ALL && !f->resend_all)
        BREAKS("asks for all, which %s does not know", f->name);
    if ((p->type == SMT_HOMA_GRANT || p->type == SMT_HOMA_RESEND) && p->prio >= SMT_HOMA_N_PRIOS)
        BREAKS("priority %u", p->prio);
    if (p->type == SMT_HOMA_GRANT || p->type == SMT_HOMA_RESEND)
        range_check(in, packet, p, out);
    for (unsigned i = 0; i < p->n_acks; i++) {
        if (p->acks[i].client_id & 1)
            BREAKS("an ack of %" PRIu64 ", no client's id", p->acks[i].client_id);
    }
}

static int homa_packet(struct smt_inspect *in, const struct smt_cap_packet *packet,
                       struct smt_inspect_line *out)
{
    const struct smt_homa_format *f = in->config.format;
    struct smt_homa_pkt p = {0};
    if (!is_ours(f, packet)) {
        other_name(packet, out);
        return 0;
    }
    out->is_ours = true;
    if (smt_homa_decode(f, packet->data, packet->len, &p) < 0) {
        malformed_say(f, packet, &p, out);
        return 0;
    }
    homa_say(f, packet, &p, out);
    homa_check(in, packet, &p, out);
    if (p.type != SMT_HOMA_DATA || out->fault[0] != '\0')
        return 0;
    return smt_assembly_data(in->messages, packet, &p, out->fault, sizeof(out->fault));
}

static void smt2_say(const struct smt_hdr *h, const struct smt_cap_packet *packet,
                     struct smt_inspect_line *out)
{
    const struct smt_kind_row *row = smt_kind_row(h->kind);
    ends_say(packet, h->sport, h->dport, out);
    SAY("%s session %016" PRIx64 " epoch %u", row != NULL ? row->name : "unknown kind",
        h->session_id, h->epoch);
    if (h->kind == SMT_KIND_DATA || h->kind == SMT_KIND_EARLY)
        SAY(" rpc %016" PRIx64 " seal %u offset %u length %u record %u slice %u", h->rpc_id,
            h->seal, h->offset, h->message_len, h->record_len, h->slice_len);
    else if (h->kind == SMT_KIND_HANDSHAKE)
        SAY(" from %016" PRIx64 " offset %u ack %u tls %u cookie %u", h->source_id, h->offset,
            h->message_len, h->tls_len, h->cookie_len);
}

/* A slice of a record, whose bytes behind the header are `len`: does it lie inside? */
static void slice_check(const struct smt_hdr *h, uint32_t index, size_t len,
                        struct smt_inspect_line *out)
{
    uint64_t at = (uint64_t)index * h->slice_len;
    SAY(" index %u", index);
    if (at >= h->record_len)
        BREAKS("slice %u of a record of %u bytes in slices of %u", index, h->record_len,
               h->slice_len);
    else if (len < h->slice_len && len < h->record_len - at)
        BREAKS("slice %u has %zu bytes", index, len);
}

/* The 28 bytes of its header are lent from UDP's where that carries it. */
static void smt2_packet(const struct smt_inspect *in, const struct smt_cap_packet *packet,
                        struct smt_inspect_line *out)
{
    const uint8_t *p = packet->data;
    uint32_t len = packet->len;
    uint16_t port = in->config.port;
    bool is_raw = packet->kind == SMT_CAP_IP && packet->protocol == SMT_WIRE_IP_PROTOCOL;
    bool is_udp = packet->kind == SMT_CAP_IP && packet->protocol == PROTO_UDP && len >= UDP_LEN;
    if (is_udp) {
        uint16_t sport = smt_get_be16(p), dport = smt_get_be16(p + 2);
        is_udp = port == 0 || sport == port || dport == port;
        p += UDP_LEN;
        len -= UDP_LEN;
    }
    struct smt_hdr h = {0};
    int r = is_raw || is_udp ? smt_hdr_decode(p, len, &h) : SMT_EMALFORMED;
    /* Any datagram may travel in UDP: only on a port that is said to be smt2's is it a fault. */
    out->is_ours = is_raw || (is_udp && (port != 0 || r == 0));
    if (!out->is_ours) {
        other_name(packet, out);
        return;
    }
    smt2_say(&h, packet, out);
    if (r == 0 && h.kind == SMT_KIND_DATA && h.slice_len != h.record_len)
        slice_check(&h, is_udp ? h.index : packet->ip_id, len - SMT_DATA_HDR_LEN, out);
    if (r == SMT_EVERSION)
        BREAKS("version %u", h.version);
    else if (r < 0)
        BREAKS("no header of smt2");
}

int smt_inspect_packet(struct smt_inspect *in, const struct smt_cap_packet *packet,
                       struct smt_inspect_line *out)
{
    out->is_ours = false;
    out->text[0] = out->fault[0] = '\0';
    if (in->config.format != NULL)
        return homa_packet(in, packet, out);
    smt2_packet(in, packet, out);
    return 0;
}
