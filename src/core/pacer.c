/* A byte window per conn over UDP. Homa's grants protect the receiver's link; the default device is a UDP socket whose
 * buffer must not overflow either, and unscheduled bytes are not granted. So the sender marks its stream now and then (MARK:
 * totals sent so far) and the receiver answers what had come by then (SEEN). Everything before an answered mark is either
 * delivered or lost: bytes after it are in flight. The same answers measure RTT, delivery rate and loss.
 *
 * The window starts at what the peer can buffer, falls to 0.7 of itself at loss above 1 % and grows back by an eighth of itself a mark. The full
 * congestion layer replaces only this file's window_update. */
#include "core/pacer.h"

#include "core/state.h"

enum {
    WINDOW_MIN = 64 * 1024, /* four of the largest packets: less would stall for an answer each */
    MARK_MIN_BYTES = 16 * 1024,
};

static const uint64_t mark_patience = 4 * SMT_MSEC;
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

static void mark_send(struct smt_conn *c, uint64_t now)
{
    struct smt_pacer *p = &c->pacer;
    if (p->next_seq - p->oldest_seq >= SMT_PACER_MARKS)
        p->oldest_seq++;
    struct smt_pacer_mark *m = &p->marks[p->next_seq % SMT_PACER_MARKS];
    *m = (struct smt_pacer_mark){
        .seq = p->next_seq++, .packets = p->sent_packets, .bytes = p->sent_bytes, .at = now};
    p->marked_bytes = p->sent_bytes;
    p->mark_at = now;
    c->e->stats.marks_sent++;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_MARK,
                                       .seq = m->seq,
                                       .packets = m->packets,
                                       .bytes = (uint32_t)m->bytes});
}

void smt_pacer_sent(struct smt_conn *c, uint64_t now, uint32_t len)
{
    struct smt_pacer *p = &c->pacer;
    p->sent_bytes += len;
    p->sent_packets++;
    uint32_t step = p->window / SMT_PACER_MARKS;
    if (step < MARK_MIN_BYTES)
        step = MARK_MIN_BYTES;
    if (p->sent_bytes - p->marked_bytes >= step)
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

/* Packets newly known to be lost. Control may overtake data (it has the highest priority), so what is missing is judged by
 * the mark before: whatever left before that one and is not there now has had a round trip to come. */
static uint32_t losses_new(struct smt_pacer *p, uint32_t got_packets)
{
    int32_t missing = (int32_t)(p->acked_packets - got_packets);
    uint32_t lost = missing > 0 ? (uint32_t)missing : 0;
    uint32_t more = lost > p->lost_packets ? lost - p->lost_packets : 0;
    p->lost_packets = lost;
    return more;
}

bool smt_pacer_seen(struct smt_conn *c, uint64_t now, uint32_t seq, uint32_t packets,
                    uint32_t bytes, uint32_t ce)
{
    struct smt_pacer *p = &c->pacer;
    /* Anything not in flight is old, repeated or made up. */
    if ((int32_t)(seq - p->oldest_seq) < 0 || (int32_t)(seq - p->next_seq) >= 0)
        return false;
    const struct smt_pacer_mark *m = &p->marks[seq % SMT_PACER_MARKS];
    p->oldest_seq = seq + 1;
    p->n_silent = 0;
    uint64_t rtt = now > m->at ? now - m->at : 1;
    p->rtt_last = rtt;
    if (p->rtt_min == 0 || rtt < p->rtt_min)
        p->rtt_min = rtt;
    uint32_t lost = losses_new(p, packets);
    c->e->stats.losses_seen += lost;
    window_update(p, m->packets - p->acked_packets, lost, ce - p->seen_ce);
    uint64_t span = now - p->seen_at;
    if (p->seen_at != 0 && span > rtt / 2) {
        uint64_t rate = (bytes - p->seen_bytes) * SMT_SEC / (span + 1);
        if (rate > p->max_rate)
            p->max_rate = rate;
    }
    p->seen_at = now;
    p->seen_bytes = bytes;
    p->seen_ce = ce;
    p->acked_packets = m->packets;
    p->acked_bytes = m->bytes;
    return true;
}

uint64_t smt_pacer_deadline(const struct smt_conn *c)
{
    const struct smt_pacer *p = &c->pacer;
    /* Only a sender that the window holds back needs the answer; others go on and mark again. */
    if (smt_list_is_empty(&c->blocked) || p->sent_bytes == p->acked_bytes)
        return SMT_NEVER;
    uint64_t wait = mark_patience << (p->n_silent < 5 ? p->n_silent : 5);
    if (wait < 3 * p->rtt_last)
        wait = 3 * p->rtt_last;
    return p->mark_at + (wait < mark_patience_max ? wait : mark_patience_max);
}

void smt_pacer_tick(struct smt_conn *c, uint64_t now)
{
    if (now < smt_pacer_deadline(c))
        return;
    if (c->pacer.n_silent < 255)
        c->pacer.n_silent++;
    mark_send(c, now);
}
