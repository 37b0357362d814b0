/* Lone packets of the favourite: handed out while they still stand in the socket, and taken from it
 * when the answer has left.
 *
 * Of the way of a small message through the kernel, recvmsg is the longest part but for sending: a
 * header is copied in and out, control messages are written, and the packet's memory goes back to
 * another CPU. None of that need be done before the answer leaves. So where packets come one at a
 * time, a plain recv looks at them (MSG_PEEK); the next call of rx, which comes after the reply was
 * sent, takes them away and hears their ECN bits: a CE mark counts for the packet after. By a bare
 * loop over veth, 130 B, a round trip is 1.11 times as fast; without control messages alone 1.08,
 * which would lose the marks.
 *
 * Without control messages a super-frame cannot be told from a packet, so the kernel cuts them
 * meanwhile (no UDP_GRO). One that was joined in the moment between the last look and that option
 * comes as one long packet, which the engine drops; it comes again like any lost one. When packets
 * come in bunches it ends: each costs two calls. */
#include "dev/udp.h"

#include <errno.h>

enum {
    ROW = 64, /* so many alone, each after a look in vain, begin it */
    /* Two behind each other count so much, one alone takes 1 back; three end it at once. */
    PAIR_WEIGHT = 4,
    PAIRS_MOST = 32,
    BUNCH = 3,
};

void smt_udp_lone_count(struct smt_udp *d, bool is_alone)
{
    struct smt_udp_lone *lone = &d->fav.lone;
    lone->n_row = is_alone ? lone->n_row + 1 : 0;
}

void smt_udp_lone_begin(struct smt_udp *d)
{
    struct smt_udp_lone *lone = &d->fav.lone;
    if (SMT_LIKELY(lone->n_row < ROW))
        return;
    *lone = (struct smt_udp_lone){.is_on = smt_udp_gro_set(d->fav.fd, false)};
}

static void lone_end(struct smt_udp *d)
{
    d->fav.lone = (struct smt_udp_lone){.is_on = false};
    if (!smt_udp_gro_set(d->fav.fd, true))
        smt_udp_fav_end(d);
}

int smt_udp_lone_look(struct smt_udp *d)
{
    struct smt_udp_lone *lone = &d->fav.lone;
    const struct iovec *iov = &d->rx.iov[0];
    ssize_t r = recv(d->fav.fd, iov->iov_base, iov->iov_len, MSG_PEEK);
    if (r < 0) {
        lone->n_bunch = 0;
        return -1;
    }
    lone->stands = true;
    d->rx.msgs[0].msg_len = (uint32_t)r;
    return 1;
}

int smt_udp_lone_hand(struct smt_udp *d, struct smt_pkt *pkt)
{
    *pkt = (struct smt_pkt){
        .data = d->rx.iov[0].iov_base,
        .len = d->rx.msgs[0].msg_len,
        .ecn = smt_udp_owed_ce(d, SMT_TOS_ECT0),
        .from = &d->fav.to,
    };
    d->stats.rx_frames++;
    d->stats.rx_packets += pkt->len > 0;
    d->stats.rx_bytes += pkt->len;
    return pkt->len > 0;
}

void smt_udp_lone_take(struct smt_udp *d)
{
    struct smt_udp_lone *lone = &d->fav.lone;
    struct msghdr m = {.msg_control = d->rx.control[0], .msg_controllen = SMT_UDP_RX_CONTROL};
    lone->stands = false;
    if (recvmsg(d->fav.fd, &m, 0) < 0) {
        /* An error came in between. The packet may come once more, to be dropped as a copy. */
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            smt_udp_fav_end(d);
        return;
    }
    uint32_t seg_len = 0;
    uint8_t ecn = 0;
    smt_udp_control_read(&m, &seg_len, &ecn);
    d->rx.owes_ce |= ecn == SMT_UDP_CE;
    if (++lone->n_bunch > 1)
        lone->n_pairs += PAIR_WEIGHT;
    else if (lone->n_pairs > 0)
        lone->n_pairs--;
    if (SMT_UNLIKELY(lone->n_bunch >= BUNCH || lone->n_pairs > PAIRS_MOST))
        lone_end(d);
}
