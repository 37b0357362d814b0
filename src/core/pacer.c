/* A byte window per conn. Homa's grants protect the receiver's link; but the device may be a UDP
 * socket whose buffer must not overflow, unscheduled bytes are not granted, and the bottleneck may
 * lie anywhere. So the sender marks its stream now and then (MARK: totals sent so far) and the
 * receiver answers what had come by then (SEEN). Everything before an answered mark is either
 * delivered or lost: bytes after it are in flight. The same answers measure RTT, delivery rate,
 * loss and CE marks, at both ends: the receiver judges the way to itself by the MARKs.
 *
 * The window is what the peer can buffer, times the path's share (share.c), which falls on
 * congestion and grows back. */
#include "core/pacer.h"

#include "core/late.h"
#include "core/state.h"

enum {
    WINDOW_FIRST = 64 * 1024,
    WINDOW_PACKETS = 4, /* at least: less would stall for an answer each */
    WINDOW_PARTS = 4,   /* marks in a window */
    CLOCK_PACKETS = 2,
    MARK_MIN_BYTES = 16 * 1024,
    RATE_MIN_BYTES = 8 * 1024, /* less says nothing of a rate */
    LOSS_MEMORY = 256, /* packets */
    LOSS_LEAST = 100,
};

/* A MARK is a small packet: asking early costs little, a shut window much. */
static const uint64_t mark_patience = 1 * SMT_MSEC;
static const uint64_t mark_patience_max = 100 * SMT_MSEC;

void smt_pacer_init(struct smt_pacer *p)
{
    *p = (struct smt_pacer){.max_window = WINDOW_FIRST,
                             .max_step = MARK_MIN_BYTES,
                             .low_prio = UINT8_MAX};
}

void smt_pacer_start(struct smt_pacer *p, uint32_t rx_window)
{
    p->max_window = rx_window > WINDOW_FIRST ? rx_window : WINDOW_FIRST;
    uint32_t part = p->max_window / WINDOW_PARTS;
    p->max_step = part > MARK_MIN_BYTES ? part : MARK_MIN_BYTES;
}

uint64_t smt_pacer_window_narrow(const struct smt_conn *c)
{
    uint64_t window = smt_share_of(&c->tx_share, c->pacer.max_window);
    uint64_t least = (uint64_t)WINDOW_PACKETS * c->mtu.now;
    return window > least ? window : least;
}

static void mark_tell(struct smt_conn *c, uint64_t now, uint32_t seq)
{
    struct smt_pacer *p = &c->pacer;
    p->flight->mark_at = now;
    c->e->stats.marks_sent++;
    smt_ctl_add_behind(c,
                       &(struct smt_frame){.type = SMT_FRAME_MARK,
                                           .seq = seq,
                                           .packets = p->sent_packets,
                                           .bytes = (uint32_t)p->sent_bytes},
                       p->mark_prio);
}

static void mark_send(struct smt_conn *c, uint64_t now)
{
    struct smt_pacer *p = &c->pacer;
    struct smt_pacer_flight *f = p->flight;
    /* While the path is narrow its window must hold for all levels together: a mark does not
     * overtake what an earlier one still waits behind. */
    bool narrow = c->tx_share.is < SMT_SHARE_ALL && p->next_seq != f->oldest_seq;
    if (!narrow || p->low_prio < p->mark_prio)
        p->mark_prio = p->low_prio;
    p->low_prio = UINT8_MAX;
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
                                           .late_seq = p->next_seq - 1,
                                           .acked_packets = p->sent_packets};
    smt_conn_rest_later(c, now);
    return true;
}

/* A narrow window is asked about twice: it must not stand still for an answer. */
static uint32_t step_narrow(const struct smt_conn *c)
{
    uint32_t window = (uint32_t)smt_pacer_window_narrow(c);
    /* Whole parts of a window at once are what a full buffer drops: there each answer is to bring
     * a few packets, in step with those of others. */
    if (smt_compete_is_on(c, c->e->now)) {
        uint32_t least = CLOCK_PACKETS * c->mtu.now;
        uint32_t part = window / (SMT_PACER_MARKS - 2);
        return least > part ? least : part;
    }
    uint32_t step = window / WINDOW_PARTS;
    if (step < MARK_MIN_BYTES)
        step = window < 2 * MARK_MIN_BYTES ? window / 2 : MARK_MIN_BYTES;
    return step;
}

void smt_pacer_sent_slow(struct smt_conn *c, uint64_t now, uint32_t len, uint8_t prio)
{
    struct smt_pacer *p = &c->pacer;
    bool first = p->flight == NULL;
    if (SMT_UNLIKELY(first) && !flight_begin(c, now))
        return;
    p->sent_bytes += len;
    p->sent_packets++;
    if (prio < p->low_prio)
        p->low_prio = prio;
    uint32_t step = p->max_step;
    if (SMT_UNLIKELY(c->tx_share.is < SMT_SHARE_ALL))
        step = step_narrow(c);
    /* The first packet is marked for its RTT. */
    if (p->sent_bytes - p->flight->marked_bytes >= step || SMT_UNLIKELY(first))
        mark_send(c, now);
}

/* Of `sent` more packets, now `missing` in all have not come. Control overtakes data, and data of a
 * low priority may stand in queues for long: only what was also asked for again is lost, but where
 * `plain` says that nothing overtakes. How many more are; `much`: more than may be of late. One
 * packet alone is never more. */
static uint32_t loss_note(struct smt_conn *c, struct smt_loss *l, uint32_t sent, int32_t missing,
                          bool plain, bool *much)
{
    uint32_t is = missing > 0 ? (uint32_t)missing : 0;
    /* Several marks of a burst come together behind it and say too little, then the whole again. */
    if (SMT_UNLIKELY(plain))
        l->n_asked = is;
    else if (is < l->n_missing)
        l->n_missing = is;
    if (is < l->n_missing)
        is = l->n_missing;
    uint32_t lost = is - l->n_missing < l->n_asked ? is - l->n_missing : l->n_asked;
    l->n_missing += lost;
    l->n_asked = 0;
    l->n_sent += sent;
    l->n_lost += lost;
    c->e->stats.losses_seen += lost;
    uint32_t of = l->n_sent > LOSS_LEAST ? l->n_sent : LOSS_LEAST;
    *much = l->n_lost > 1 && l->n_lost * 1000ull > (uint64_t)of * c->e->config.tune.loss_permille;
    if (*much || l->n_sent >= LOSS_MEMORY) {
        l->n_sent /= 2;
        l->n_lost = *much ? 0 : l->n_lost / 2;
    }
    return lost;
}

static void share_update(struct smt_conn *c, struct smt_share *s, uint64_t now, bool congested)
{
    uint64_t rtt = c->pacer.rtt_last > 0 ? c->pacer.rtt_last : mark_patience;
    if (!congested)
        smt_share_rise(s);
    else if (smt_share_fall(s, now, rtt, c->e->config.tune.share_fall_pct))
        c->e->stats.windows_cut++;
}

/* Forgotten by an eighth a sample. */
static void peak_note(uint64_t *peak, uint64_t rtt)
{
    *peak -= *peak / 8;
    if (rtt > *peak)
        *peak = rtt;
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
    /* After a repeated mark nobody knows which of its copies was answered. */
    bool clear = f->n_silent == 0;
    f->n_silent = 0;
    const struct smt_tune *t = &c->e->config.tune;
    uint64_t rtt = now > m->at ? now - m->at : 1;
    p->rtt_last = rtt;
    peak_note(&p->rtt_peak, rtt);
    peak_note(&c->host->rtt_peak, rtt);
    smt_path_rtt(c, now, rtt);
    uint64_t least = smt_rtt_least(&c->path);
    uint64_t late = smt_late_of(c, now, seq);
    uint64_t way = rtt > late ? rtt - late : 0;
    bool queued = way > t->rtt_high_factor * least && way > least + t->rtt_high_ns;
    bool slow = clear && way > least + SMT_COMPETE_QUEUE;
    bool lossy;
    uint32_t n_lost = loss_note(c, &p->lost, m->packets - f->acked_packets,
                                (int32_t)(f->acked_packets - packets),
                                smt_compete_is_on(c, now), &lossy);
    if (!smt_compete_seen(c, now, slow, n_lost, ce != p->seen_ce))
        share_update(c, &c->tx_share, now, queued || lossy || ce != p->seen_ce);
    /* No faster than it was sent, however close answers come upon each other. */
    uint64_t span = f->seen_at != 0 ? now - f->seen_at : 0;
    if (span < m->at - f->marked_at)
        span = m->at - f->marked_at;
    if (f->seen_at != 0 && bytes - f->seen_bytes >= RATE_MIN_BYTES)
        smt_path_rate(c, bytes - f->seen_bytes, span, lossy);
    uint32_t n_came = packets - f->seen_packets;
    if (f->seen_at != 0 && bytes - f->seen_bytes > (uint64_t)SMT_BASE_PACKET * n_came)
        smt_mtu_passed(&c->mtu, now);
    f->seen_packets = packets;
    f->seen_at = now;
    f->marked_at = m->at;
    f->seen_bytes = bytes;
    p->seen_ce = ce;
    f->acked_packets = m->packets;
    f->acked_bytes = m->bytes;
    return true;
}

void smt_pacer_marked(struct smt_conn *c, uint64_t now, uint32_t packets)
{
    struct smt_pacer *p = &c->pacer;
    struct smt_pacer_in *in = &p->in;
    bool first = in->at == 0;
    /* What left before the last MARK has had its time to come. */
    bool lossy = false;
    if (!first)
        smt_compete_lost_in(c, now,
                            loss_note(c, &in->lost, packets - in->packets,
                                      (int32_t)(in->packets - p->got_packets),
                                      smt_compete_in_is_on(c, now), &lossy));
    share_update(c, &c->rx_share, now, lossy || (!first && p->got_ce != in->got_ce));
    /* What is taken at one go says nothing of the way it came. */
    uint32_t bytes = p->got_bytes - in->rate_bytes;
    if (first || now > in->rate_at + smt_rtt_least(&c->path)) {
        if (!first && bytes >= RATE_MIN_BYTES)
            smt_path_rate(c, bytes, now - in->rate_at, lossy);
        in->rate_at = now;
        in->rate_bytes = p->got_bytes;
    }
    in->at = now;
    in->packets = packets;
    in->got_ce = p->got_ce;
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
    if (wait > mark_patience_max)
        wait = mark_patience_max;
    uint64_t way = 3 * p->rtt_last;
    if (way > c->e->config.peer_timeout / 4)
        way = c->e->config.peer_timeout / 4;
    return p->flight->mark_at + (wait > way ? wait : way);
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
