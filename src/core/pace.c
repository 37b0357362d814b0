/* The device's pace. What stands in the queues of socket, kernel and NIC is sent in the order in
 * which we gave it away; only what we still hold can be overtaken by a shorter message. Receivers
 * bound what each of them lets us send, but not all of them together, and the link out of here is
 * one. So when the device knows the speed of its link, we keep account of when the link will have
 * sent what it was given, and give it no more long messages while that is further off than a slack;
 * they go on when half of the slack has drained, so that packets still leave in batches. Messages
 * of one packet never wait: they are what this is for.
 *
 * Without a known speed nothing is paced: a guess that is too low would cost bandwidth for good. */
#include "core/pace.h"

/* Of a packet on Ethernet beside its UDP payload: headers, FCS, preamble and gap. At 1 Mb/s, and 1
 * % more than that: what we do not know of must not make the queue grow. */
enum { PACKET_EXTRA = 66, PS_PER_BYTE = 8000000 / 100 * 101 };

void smt_pace_init(struct smt_pace *p, uint32_t mbps, uint64_t slack)
{
    uint64_t known = mbps > 0 && slack > 0 ? mbps : 0;
    *p = (struct smt_pace){.ps_per_byte = known > 0 ? PS_PER_BYTE / known : 0, .slack = slack};
}

void smt_pace_sent(struct smt_pace *p, uint64_t now, uint64_t bytes, uint64_t packets)
{
    uint64_t wire = bytes - p->bytes + (packets - p->packets) * PACKET_EXTRA;
    p->bytes = bytes;
    p->packets = packets;
    if (p->idle_at < now)
        p->idle_at = now;
    p->idle_at += wire * p->ps_per_byte / 1000;
}
