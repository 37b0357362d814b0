/* A byte window per conn over UDP. Homa's grants protect the receiver's link; the default device is
 * a UDP socket whose buffer must not overflow either, and unscheduled bytes are not granted. So the
 * sender marks its stream now and then (MARK: totals sent so far) and the receiver answers what had
 * come by then (SEEN). Everything before an answered mark is either delivered or lost: bytes after
 * it are in flight. The same answers measure RTT, delivery rate and loss.
 *
 * The window starts at what the peer can buffer, falls to 0.7 of itself at loss above 1 % and grows
 * back by an eighth of itself a mark. The full congestion layer replaces only this file's
 * window_update. */
#include "core/pacer.h"

#include "core/state.h"

enum {
    WINDOW_MIN = 64 * 1024, /* four of the largest packets: less would stall for an answer each */
    MARK_MIN_BYTES = 16 * 1024,
};

/* A MARK is a small packet: asking early costs little, a shut window much. */
static const uint64_t mark_patience = 1 * SMT_MSEC;
static const uint64_t mark_patience_max = 100 * SMT_MSEC;

void smt_pacer_init(struct smt_pacer *p)
{
    *p = (struct smt_pacer){.window = WINDOW_MIN, .max_window = WINDOW_MIN};
}

void smt_pacer_start(struct smt_pacer *p, uint32_t rx_window)
{
    p->max_window = rx_window > WINDOW_MIN ? rx_window : WINDOW_MIN;
    p->window = p->max_window;
}

static void mark_tell(struct smt_conn *c, uint64_t now, uint32_t seq)
{
    struct smt_pacer *p = &c->pacer;
    p->flight->mark_at = now;
    c->e->stats.marks_sent++;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_MARK,
                                       .seq = seq,
                                       .packets = p->sent_packets,
                                       .bytes = (uint32_t)p->sent_bytes});
}

static void mark_send(struct smt_conn *c, uint64_t now)
{
    struct smt_pacer *p = &c->pacer;
    struct smt_pacer_flight *f = p->flight;
    if (p->next_seq - f->oldest_seq >= SMT_PACER_MARKS)
        f->oldest_seq++;
    uint32_t seq = p->next_seq++;
    f->marks[seq % SMT_PACER_MARKS] = (struct smt_pacer_mark){
        .packets = p->sent_packets, .bytes = p->sent_bytes, .at = now};
    f->marked_bytes = p->sent_bytes;
    mark_tell(c, now, seq);
}

/* Without memory the conn sends unwatched until there is some. */
static bool flight_begin(struct smt_conn *c, uint64_t now)
{
    struct smt_pacer *p = &c->pacer;
    p->flight = smt_pool_get(&c->e->flights);
    if (p->flight == NULL)
        return false;
    *p->flight = (struct smt_pacer_flight){.acked_bytes = p->sent_bytes,
                                           .marked_bytes = p->sent_bytes,
                                           .mark_at = now,
                                           .oldest_seq = p->next_seq,
                                           .acked_packets = p->sent_packets};
    smt_conn_rest_later(c, now);
    return true;
}

void smt_pacer_sent(struct smt_conn *c, uint64_t now, uint32_t len)
{
    struct smt_pacer *p = &c->pacer;
    bool first = p->flight == NULL;
    if (SMT_UNLIKELY(first) && !flight_begin(c, now))
        return;
    p->sent_bytes += len;
    p->sent_packets++;
    uint32_t step = p->window / SMT_PACER_MARKS;
    if (step < MARK_MIN_BYTES)
        step = MARK_MIN_BYTES;
    /* The first packet is marked for its RTT. */
    if (p->sent_bytes - p->flight->marked_bytes >= step || SMT_UNLIKELY(first))
        mark_send(c, now);
}

static void window_update(struct smt_pacer *p, uint32_t sent, uint32_t lost, uint32_t ce)
{
    if (lost * 100ull > sent || ce * 2ull > sent) {
        uint32_t less = (uint32_t)(p->window * 7ull / 10);
        p->window = less > WINDOW_MIN ? less : WINDOW_MIN;
        return;
    }
    uint32_t more = p->window + p->window / 8;
    p->window = more < p->max_window ? more : p->max_window;
}

/* Packets newly known to be lost. Control may overtake data (it has the highest priority), so what
 * is missing is judged by the mark before: whatever left before that one and is not there now has
 * had a round trip to come. */
static uint32_t losses_new(struct smt_pacer *p, uint32_t got_packets)
{
    int32_t missing = (int32_t)(p->flight->acked_packets - got_packets);
    uint32_t lost = missing > 0 ? (uint32_t)missing : 0;
    uint32_t more = lost > p->lost_packets ? lost - p->lost_packets : 0;
    p->lost_packets = lost;
    return more;
}

bool smt_pacer_seen(struct smt_conn *c, uint64_t now, uint32_t seq, uint32_t packets,
                    uint32_t bytes, uint32_t ce)
{
    struct smt_pacer *p = &c->pacer;
    struct smt_pacer_flight *f = p->flight;
    /* Anything not in flight is old, repeated or made up. */
    if (f == NULL || (int32_t)(seq - f->oldest_seq) < 0 || (int32_t)(seq - p->next_seq) >= 0)
        return false;
    const struct smt_pacer_mark *m = &f->marks[seq % SMT_PACER_MARKS];
    f->oldest_seq = seq + 1;
    f->n_silent = 0;
    uint64_t rtt = now > m->at ? now - m->at : 1;
    p->rtt_last = rtt;
    if (p->rtt_min == 0 || rtt < p->rtt_min)
        p->rtt_min = rtt;
    p->rtt_peak -= p->rtt_peak / 8;
    if (rtt > p->rtt_peak)
        p->rtt_peak = rtt;
    uint32_t lost = losses_new(p, packets);
    c->e->stats.losses_seen += lost;
    window_update(p, m->packets - f->acked_packets, lost, ce - p->seen_ce);
    uint64_t span = now - f->seen_at;
    if (f->seen_at != 0 && span > rtt / 2) {
        uint64_t rate = (bytes - f->seen_bytes) * SMT_SEC / (span + 1);
        if (rate > p->max_rate)
            p->max_rate = rate;
    }
    f->seen_at = now;
    f->seen_bytes = bytes;
    p->seen_ce = ce;
    f->acked_packets = m->packets;
    f->acked_bytes = m->bytes;
    return true;
}

uint64_t smt_pacer_deadline(const struct smt_conn *c)
{
    const struct smt_pacer *p = &c->pacer;
    /* Only a sender that the window holds back needs the answer; others go on and mark again. */
    if (smt_list_is_empty(&c->blocked) || p->flight == NULL ||
        p->sent_bytes == p->flight->acked_bytes)
        return SMT_NEVER;
    unsigned silent = p->flight->n_silent;
    uint64_t wait = mark_patience << (silent < 7 ? silent : 7);
    if (wait < 3 * p->rtt_last)
        wait = 3 * p->rtt_last;
    return p->flight->mark_at + (wait < mark_patience_max ? wait : mark_patience_max);
}

void smt_pacer_tick(struct smt_conn *c, uint64_t now)
{
    if (now < smt_pacer_deadline(c))
        return;
    struct smt_pacer_flight *f = c->pacer.flight;
    if (f->n_silent < 255)
        f->n_silent++;
    /* The totals have not changed, so the last mark goes out again as it was: however long the way
     * is, the answer to its first copy is still known when it comes. */
    if (f->marked_bytes == c->pacer.sent_bytes && c->pacer.next_seq != f->oldest_seq)
        mark_tell(c, now, c->pacer.next_seq - 1);
    else
        mark_send(c, now);
}

void smt_pacer_rest(struct smt_conn *c)
{
    if (c->pacer.flight == NULL)
        return;
    smt_pool_put(&c->e->flights, c->pacer.flight);
    c->pacer.flight = NULL;
}
