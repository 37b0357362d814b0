/* A `ud` device whose queues have failed for good gets new ones.
 *
 * Owns when, and when to give up. A completion queue in error cannot be mended, and every queue
 * pair hangs on both of them, so all go and come together. The rest of the device stays: memory and
 * its registration, the channel and so the descriptor to sleep on, address handles, peers, the
 * Q_Key and what waits to be sent. What was posted is lost, as on a bad network: whoever sent it
 * sends it again. The numbers of the queue pairs change; peers are told by asking them
 * (smt_ud_peers_requeue).
 *
 * The first time it is done at once. A queue that fails again soon is made anew after a pause that
 * doubles. The device is lost when it refuses several times in a row, or gives queues on which
 * nothing arrives before they fail; a second of peace, or a packet, ends the row.
 *
 * Soft-RoCE of Linux 6.1 needs this: where a queue pair that is not RC enters its error state, its
 * completer may run beside itself, the send queue is walked twice and the completion queue
 * overflows, however large. Our own sizes leave room for whatever is posted; tests/verbs-model
 * looks at every post. */
#include "dev/machine.h"
#include "dev/ud.h"

enum { MAX_VAIN = 12, GAP_LEAST_MS = 10 };

#define GAP_MOST SMT_SEC

static void gap_widen(struct smt_ud_rebuild *r)
{
    r->gap = r->gap == 0 ? GAP_LEAST_MS * SMT_MSEC : 2 * r->gap;
    if (r->gap > GAP_MOST)
        r->gap = GAP_MOST;
}

static void suspect_all(struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++)
        d->qps[i].is_suspect = true;
}

void smt_ud_break(struct smt_ud *d, const char *why)
{
    struct smt_ud_rebuild *r = &d->rebuild;
    if (smt_ud_is_broken(d))
        return;
    uint64_t now = smt_coarse_now();
    bool was_quiet = r->last == 0 || now - r->last >= GAP_MOST;
    if (was_quiet || d->stats.rx_packets != r->n_heard)
        r->n_vain = 0;
    if (was_quiet)
        r->gap = 0;
    else
        gap_widen(r);
    r->why = why;
    r->at = r->last + r->gap;
    suspect_all(d);
}

static int queues_remake(struct smt_ud *d)
{
    const struct smt_dev_config silent = {0};
    int r = smt_ud_queues_unmake(d);
    return r < 0 ? r : smt_ud_queues_make(d, &silent);
}

static void works_again(struct smt_ud *d)
{
    uint32_t qpns[SMT_UD_MAX_QPS];
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        q->is_suspect = q->is_stuck = q->is_peers_doing = q->is_marked = false;
        q->suspect_since = q->recoveries_since = 0;
        q->n_recoveries = 0;
        qpns[i] = q->qp->qp_num;
    }
    d->trouble = d->rebuild.why;
    d->rebuild.why = NULL;
    d->rebuild.n_heard = d->stats.rx_packets;
    d->stats.rebuilds++;
    smt_dev_tell(&d->base, SMT_DEV_NEWS_REBUILT);
    smt_ud_peers_requeue(d->peers, qpns, d->now);
}

void smt_ud_rebuild(struct smt_ud *d)
{
    struct smt_ud_rebuild *r = &d->rebuild;
    suspect_all(d); /* a reset that this came into thinks that all is well with its queue pair */
    if (d->now < r->at)
        return;
    if (r->n_vain++ == MAX_VAIN) {
        smt_ud_lose(d, r->why);
        return;
    }
    r->last = d->now;
    if (queues_remake(d) == 0) {
        works_again(d);
        return;
    }
    gap_widen(r);
    r->at = d->now + r->gap;
}
