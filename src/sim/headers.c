/* How a message is cut into packets and what that costs on the wire: the one place that knows
 * header sizes, so that all policies, the load and the ideal time agree. */
#include "sim/net.h"

enum { UDP_IP = 28, ETHERNET = 18, MIN_FRAME = 64, PREAMBLE_GAP = 20 };

/* docs/wire.md 2 and 3: clear header 44, record head 13, sealed head 16 (first packet: 40), tag 16.
 * GRANT and ACK frames: clear header 28, record head 13, frame 18 or 9, tag 16. */
const struct smt_net_headers smt_net_headers_smt = {
    .max_payload = 1472,
    .first = 44 + 13 + 16 + 24 + 16,
    .unsched = 44 + 13 + 16 + 16,
    .sched = 44 + 13 + 16 + 16,
    .grant = 28 + 13 + 18 + 16,
    .ack = 28 + 13 + 9 + 16,
    .even = true,
};

const struct smt_net_headers smt_net_headers_s = {
    .max_payload = 1472, .first = 30, .unsched = 30, .sched = 16, .grant = 16, .ack = 16};

uint32_t smt_net_wire_len(uint32_t payload)
{
    uint32_t frame = payload + UDP_IP + ETHERNET;
    return (frame < MIN_FRAME ? MIN_FRAME : frame) + PREAMBLE_GAP;
}

static uint32_t overhead(const struct smt_net_headers *hdr, uint32_t offset, uint32_t unsched)
{
    return offset == 0 ? hdr->first : offset < unsched ? hdr->unsched : hdr->sched;
}

uint32_t smt_net_cut(const struct smt_net_headers *hdr, uint32_t len, uint32_t offset,
                     uint32_t unsched)
{
    uint32_t left = len - offset;
    uint32_t room = hdr->max_payload - overhead(hdr, offset, unsched);
    if (hdr->even) {
        /* As core/record_tx.c cuts. */
        uint32_t whole = hdr->max_payload - hdr->sched, extra = hdr->first - hdr->sched;
        uint32_t n_parts = (len + extra + whole - 1) / whole;
        if (n_parts > 1)
            room = (len + extra + n_parts - 1) / n_parts - (offset == 0 ? extra : 0);
    } else if (offset < unsched && unsched - offset < room) {
        room = unsched - offset;
    }
    return left < room ? left : room;
}

uint32_t smt_net_payload(const struct smt_net_headers *hdr, uint32_t offset, uint32_t data,
                         uint32_t unsched)
{
    return overhead(hdr, offset, unsched) + data;
}

struct smt_net_cost smt_net_message_cost(const struct smt_net_headers *hdr, uint32_t len,
                                         uint32_t unsched)
{
    struct smt_net_cost c = {0};
    uint32_t offset = 0;
    do {
        uint32_t data = smt_net_cut(hdr, len, offset, unsched);
        uint32_t wire = smt_net_wire_len(smt_net_payload(hdr, offset, data, unsched));
        c.data_wire += wire;
        c.max_wire = wire > c.max_wire ? wire : c.max_wire;
        c.n_packets++;
        c.n_grants += offset >= unsched && offset > 0;
        offset += data;
    } while (offset < len);
    c.grant_wire = (uint64_t)c.n_grants * smt_net_wire_len(hdr->grant);
    return c;
}
