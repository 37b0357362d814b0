/* Send queues: places, doorbells, completions, and what is left of them after an error.
 *
 * Space is free again when a completion that was asked for has been polled, for everything before
 * it. Who posts more than there is room for has overwritten WQEs that the device may be reading. */
#include <errno.h>
#include <string.h>

#include "model.h"
#include "tls.h"

struct mm_posted *mm_sq_place(struct mm_qp *qp)
{
    if (qp->used_wrs + qp->quiet_wrs + qp->n_posted + qp->n_batch >= qp->max_post) {
        mm_complain("send queue", "overrun: %u work requests outstanding, %u fit",
                    qp->used_wrs + qp->quiet_wrs + qp->n_posted + qp->n_batch, qp->max_post);
        qp->batch_error = ENOMEM;
        return NULL;
    }
    return &qp->posted[(qp->first_posted + qp->n_posted + qp->n_batch) % qp->max_post];
}

static void complete(struct mm_qp *qp, const struct mm_posted *p, enum ibv_wc_status status,
                     uint32_t vendor_err)
{
    /* An unsignalled WQE is accounted for by the next completion of its queue. */
    qp->quiet_wrs++;
    qp->quiet_bbs += p->n_bbs;
    bool wanted = mm_get(p->bytes, MM_CTRL_CE) == 2 || status != IBV_WC_SUCCESS;
    if (!wanted)
        return;
    struct mm_cqe e = {.wc = {.wr_id = p->wr_id,
                              .status = status,
                              .opcode = p->opcode,
                              .vendor_err = vendor_err,
                              .qp_num = qp->sqn},
                       .qp = qp,
                       .n_wrs = qp->quiet_wrs,
                       .n_bbs = qp->quiet_bbs};
    qp->used_wrs += qp->quiet_wrs;
    qp->used_bbs += qp->quiet_bbs;
    qp->quiet_wrs = qp->quiet_bbs = 0;
    mm_cq_push(qp->send_cq, &e);
}

void mm_sq_flush(struct mm_qp *qp)
{
    while (qp->n_posted > 0) {
        struct mm_posted *p = &qp->posted[qp->first_posted];
        qp->first_posted = (qp->first_posted + 1) % qp->max_post;
        qp->n_posted--;
        mm_stats.flushed++;
        complete(qp, p, IBV_WC_WR_FLUSH_ERR, 0xf9);
    }
}

/* The send queue stops; every TLS context that it fed has lost its place. */
static void sq_stop(struct mm_qp *qp)
{
    if (!qp->sq_failed)
        mm_tls_forget_queue(qp->sqn);
    qp->sq_failed = true;
}

void mm_sq_fail(struct mm_qp *qp, enum ibv_wc_status status, uint32_t vendor_err)
{
    sq_stop(qp);
    if (qp->n_posted > 0) {
        struct mm_posted *p = &qp->posted[qp->first_posted];
        qp->first_posted = (qp->first_posted + 1) % qp->max_post;
        qp->n_posted--;
        complete(qp, p, status, vendor_err);
    }
    mm_sq_flush(qp);
}

/* The error CQE that a fault makes of a WQE, or success when the WQE is executed. */
static enum ibv_wc_status injected_status(enum mm_injection fault, uint32_t *vendor_err)
{
    static const struct {
        enum mm_injection fault;
        enum ibv_wc_status status;
        uint32_t vendor_err;
    } rows[] = {
        {MM_INJECT_CQE_LENGTH, IBV_WC_LOC_LEN_ERR, 0x68},
        {MM_INJECT_CQE_PROTECTION, IBV_WC_LOC_PROT_ERR, 0x51},
        {MM_INJECT_CQE_FLUSH, IBV_WC_WR_FLUSH_ERR, 0xf9},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].fault == fault) {
            *vendor_err = rows[i].vendor_err;
            return rows[i].status;
        }
    }
    return IBV_WC_SUCCESS;
}

static void execute_first(struct mm_qp *qp)
{
    struct mm_posted *p = &qp->posted[qp->first_posted];
    if (p->digest != 0 && mm_wqe_digest(qp, p->bytes) != p->digest)
        mm_complain("data.addr", "memory changed between post and transmission, wr_id 0x%llx",
                    (unsigned long long)p->wr_id);
    enum mm_injection fault = mm_inject_draw();
    uint32_t vendor_err = 0;
    enum ibv_wc_status status = injected_status(fault, &vendor_err);
    if (status != IBV_WC_SUCCESS) {
        mm_stats.injected++;
    } else {
        if (fault != MM_INJECT_NONE)
            mm_inject_now(qp->dev, fault, qp);
        if (fault == MM_INJECT_QP_ERROR || fault == MM_INJECT_RESET)
            return; /* all that was posted is flushed */
        status = mm_wqe_execute(qp, p->bytes, &vendor_err);
    }
    if (status != IBV_WC_SUCCESS) {
        mm_sq_fail(qp, status, vendor_err);
        return;
    }
    qp->first_posted = (qp->first_posted + 1) % qp->max_post;
    qp->n_posted--;
    complete(qp, p, IBV_WC_SUCCESS, 0);
}

uint64_t mm_sq_run(struct mm_qp *qp, uint64_t now)
{
    while (qp->n_posted > 0 && !qp->sq_failed) {
        uint64_t due = qp->posted[qp->first_posted].due;
        if (due > now)
            return due;
        execute_first(qp);
    }
    if (qp->sq_failed)
        mm_sq_flush(qp);
    return UINT64_MAX;
}

int mm_sq_doorbell(struct mm_qp *qp)
{
    uint64_t due = mm_config()->lazy_us == 0 ? 0 : mm_now() + mm_config()->lazy_us * 1000;
    mm_stats.doorbells++;
    for (unsigned i = 0; i < qp->n_batch; i++) {
        struct mm_posted *p = &qp->posted[(qp->first_posted + qp->n_posted + i) % qp->max_post];
        p->due = due;
        p->digest = due != 0 ? mm_wqe_digest(qp, p->bytes) : 0;
    }
    qp->n_posted += qp->n_batch;
    qp->n_batch = 0;
    if (qp->state == IBV_QPS_ERR || qp->dev->is_gone)
        sq_stop(qp);
    if (due != 0 && !qp->sq_failed)
        mm_timer_set(qp->dev, due);
    else
        (void)mm_sq_run(qp, 0);
    return 0;
}

void mm_rq_flush(struct mm_qp *qp)
{
    while (qp->n_recvs > 0) {
        struct mm_cqe e = {.wc = {.wr_id = qp->recvs[qp->first_recv].wr_id,
                                  .status = IBV_WC_WR_FLUSH_ERR,
                                  .vendor_err = 0xf9,
                                  .qp_num = qp->sqn},
                           .qp = qp};
        qp->first_recv = (qp->first_recv + 1) % qp->cap.max_recv_wr;
        qp->n_recvs--;
        mm_stats.flushed++;
        mm_cq_push(qp->recv_cq, &e);
    }
}
