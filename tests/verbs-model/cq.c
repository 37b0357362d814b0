/* Completion queues and channels. An armed CQ raises one event for what is added after the arming,
 * never for what lies there already: who does not look again after arming sleeps for ever. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "model.h"

static struct vm_channel *channel_of(const char *call, struct ibv_comp_channel *ibv)
{
    if (ibv == NULL)
        vm_abort(call, "channel", "NULL");
    struct vm_channel *ch = SMT_CONTAINER_OF(ibv, struct vm_channel, ibv);
    vm_expect(call, "channel", &ch->object, VM_CHANNEL);
    return ch;
}

struct vm_cq *vm_cq_of(const char *call, const char *field, struct ibv_cq *ibv)
{
    if (ibv == NULL)
        vm_abort(call, field, "NULL");
    struct vm_cq *cq = SMT_CONTAINER_OF(ibv, struct vm_cq, ibv);
    vm_expect(call, field, &cq->object, VM_CQ);
    return cq;
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
    vm_lock();
    struct vm_ctx *c = vm_ctx_of("ibv_create_comp_channel", ctx);
    struct ibv_comp_channel *out = NULL;
    if (vm_fails(VERBS_MODEL_CREATE_CHANNEL, c->dev) == 0) {
        struct vm_channel *ch =
            vm_object_new(sizeof(*ch), offsetof(struct vm_channel, object), VM_CHANNEL);
        ch->ibv.context = ctx;
        ch->ibv.fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
        if (ch->ibv.fd < 0)
            vm_abort("ibv_create_comp_channel", "fd", "eventfd: %s", strerror(errno));
        c->n_channels++;
        out = &ch->ibv;
    }
    vm_unlock();
    return out;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ibv)
{
    vm_lock();
    struct vm_channel *ch = channel_of("ibv_destroy_comp_channel", ibv);
    if (ch->n_cqs > 0)
        vm_abort("ibv_destroy_comp_channel", "channel", "%u completion queues use it", ch->n_cqs);
    close(ibv->fd);
    vm_ctx_of("ibv_destroy_comp_channel", ibv->context)->n_channels--;
    vm_object_kill(&ch->object);
    vm_unlock();
    return 0;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *cq_context,
                             struct ibv_comp_channel *channel, int comp_vector)
{
    vm_lock();
    struct vm_ctx *c = vm_ctx_of("ibv_create_cq", ctx);
    if (cqe <= 0)
        vm_abort("ibv_create_cq", "cqe", "%d", cqe);
    if (comp_vector < 0 || comp_vector >= ctx->num_comp_vectors)
        vm_abort("ibv_create_cq", "comp_vector", "%d of %d", comp_vector, ctx->num_comp_vectors);
    struct vm_channel *ch = channel != NULL ? channel_of("ibv_create_cq", channel) : NULL;
    if (ch != NULL && channel->context != ctx)
        vm_abort("ibv_create_cq", "channel", "of another context");
    struct ibv_cq *out = NULL;
    if ((uint32_t)cqe > vm_knobs_of(c->dev)->max_cqe) {
        errno = EINVAL;
    } else if (vm_fails(VERBS_MODEL_CREATE_CQ, c->dev) == 0) {
        struct vm_cq *cq = vm_object_new(sizeof(*cq), offsetof(struct vm_cq, object), VM_CQ);
        cq->ibv.context = ctx;
        cq->ibv.channel = channel;
        cq->ibv.cq_context = cq_context;
        cq->ibv.cqe = cqe;
        cq->ring = calloc((size_t)cqe, sizeof(*cq->ring));
        if (cq->ring == NULL)
            vm_abort("model", "memory", "none left");
        c->n_cqs++;
        if (ch != NULL)
            ch->n_cqs++;
        out = &cq->ibv;
    }
    vm_unlock();
    return out;
}

int ibv_destroy_cq(struct ibv_cq *ibv)
{
    vm_lock();
    struct vm_cq *cq = vm_cq_of("ibv_destroy_cq", "cq", ibv);
    if (cq->n_qps > 0)
        vm_abort("ibv_destroy_cq", "cq", "%u queue pairs use it", cq->n_qps);
    if (cq->n_got != cq->n_acked)
        vm_abort("ibv_destroy_cq", "cq", "%u of %u events not acknowledged",
                 cq->n_got - cq->n_acked, cq->n_got);
    if (cq->n_unacked > 0)
        vm_abort("ibv_destroy_cq", "cq", "%u asynchronous events not acknowledged", cq->n_unacked);
    vm_async_forget(vm_ctx_of("ibv_destroy_cq", ibv->context), ibv);
    if (ibv->channel != NULL) {
        struct vm_channel *ch = channel_of("ibv_destroy_cq", ibv->channel);
        ch->n_cqs--;
        /* Events nobody has read go with it. */
        unsigned kept = 0;
        for (unsigned i = 0; i < ch->n_events; i++) {
            struct vm_cq *of = ch->events[(ch->first_event + i) % VM_MAX_CQ_EVENTS];
            eventfd_t one;
            if (of != cq)
                ch->events[(ch->first_event + kept++) % VM_MAX_CQ_EVENTS] = of;
            else if (eventfd_read(ch->ibv.fd, &one) < 0)
                vm_abort("ibv_destroy_cq", "channel", "%s", strerror(errno));
        }
        ch->n_events = kept;
    }
    vm_ctx_of("ibv_destroy_cq", ibv->context)->n_cqs--;
    free(cq->ring);
    cq->ring = NULL;
    vm_object_kill(&cq->object);
    vm_unlock();
    return 0;
}

static void event_push(struct vm_cq *cq)
{
    cq->is_armed = false;
    if (cq->ibv.channel == NULL)
        return;
    struct vm_channel *ch = channel_of("completion", cq->ibv.channel);
    if (ch->n_events == VM_MAX_CQ_EVENTS)
        vm_abort("model", "completion events", "%d are not read", VM_MAX_CQ_EVENTS);
    ch->events[(ch->first_event + ch->n_events++) % VM_MAX_CQ_EVENTS] = cq;
    if (eventfd_write(ch->ibv.fd, 1) < 0)
        vm_abort("model", "channel", "%s", strerror(errno));
}

void vm_cqe_add(const char *call, struct vm_cq *cq, const struct vm_cqe *cqe, bool solicited)
{
    if (cq->n == (unsigned)cq->ibv.cqe)
        vm_abort(call, "cqe", "the completion queue of %d overflows", cq->ibv.cqe);
    cq->ring[(cq->first + cq->n++) % (unsigned)cq->ibv.cqe] = *cqe;
    if (cq->is_armed && (!cq->solicited_only || solicited || cqe->wc.status != IBV_WC_SUCCESS))
        event_push(cq);
}

void vm_cq_forget(struct vm_cq *cq, const struct vm_qp *qp)
{
    unsigned size = (unsigned)cq->ibv.cqe, kept = 0;
    for (unsigned i = 0; i < cq->n; i++) {
        struct vm_cqe cqe = cq->ring[(cq->first + i) % size];
        if (cqe.qp != qp)
            cq->ring[(cq->first + kept++) % size] = cqe;
    }
    cq->n = kept;
}

void vm_cq_outdate(struct vm_cq *cq, const struct vm_qp *qp)
{
    for (unsigned i = 0; i < cq->n; i++) {
        const struct vm_cqe *cqe = &cq->ring[(cq->first + i) % (unsigned)cq->ibv.cqe];
        cq->n_stale += cqe->qp == qp && cqe->generation == qp->generation;
    }
}

void vm_cq_room(const char *call, const char *field, const struct vm_cq *cq, unsigned n_staged)
{
    unsigned n = cq->n_owed + cq->n_stale + n_staged;
    if (n >= (unsigned)cq->ibv.cqe)
        vm_abort(call, field, "%u completions could come, cqe is %d", n + 1, cq->ibv.cqe);
}

static void cq_fail(struct vm_cq *cq, bool is_dead)
{
    if (is_dead)
        cq->is_failed = true;
    else
        cq->n = 0; /* what they were of stays owed for ever */
    verbs_model_counts.cq_errors++;
    vm_async_push(vm_ctx_of("model", cq->ibv.context),
                  (struct ibv_async_event){.element.cq = &cq->ibv,
                                           .event_type = IBV_EVENT_CQ_ERR});
}

/* One more completion has been taken, of this queue pair. */
static void errors_come(struct vm_cq *cq, struct vm_qp *qp)
{
    uint64_t n = ++verbs_model_counts.completions;
    if (n == verbs_model.cq_error_at) {
        verbs_model.cq_error_at *= 2;
        cq_fail(cq, verbs_model_counts.cq_errors % 2 == 0);
    }
    if (n >= verbs_model.qp_error_at && verbs_model.qp_error_at > 0 &&
        qp->ex.qp_base.state == IBV_QPS_RTS) {
        verbs_model.qp_error_at *= 2;
        verbs_model_counts.qp_errors++;
        vm_qp_fail(qp, IBV_EVENT_QP_FATAL);
    }
}

int vm_op_poll_cq(struct ibv_cq *ibv, int n, struct ibv_wc *wc)
{
    vm_lock();
    struct vm_cq *cq = vm_cq_of("ibv_poll_cq", "cq", ibv);
    if (n <= 0)
        vm_abort("ibv_poll_cq", "num_entries", "%d", n);
    verbs_model_counts.polls++;
    if (cq->n == 0) {
        verbs_model_counts.empty_polls++;
        vm_wire_idle();
    }
    int got = cq->is_failed ? -1 : 0;
    for (; got >= 0 && got < n && cq->n > 0; got++) {
        struct vm_cqe *cqe = &cq->ring[cq->first];
        cq->first = cq->first + 1 == (unsigned)ibv->cqe ? 0 : cq->first + 1;
        cq->n--;
        wc[got] = cqe->wc;
        if (cqe->generation != cqe->qp->generation) {
            cq->n_stale--;
            continue;
        }
        if (cqe->is_send)
            vm_send_retire(cqe->qp, cqe->index);
        else
            vm_recv_retire(cqe->qp, cqe->index);
        errors_come(cq, cqe->qp);
    }
    vm_unlock();
    return got;
}

int vm_op_req_notify_cq(struct ibv_cq *ibv, int solicited_only)
{
    vm_lock();
    struct vm_cq *cq = vm_cq_of("ibv_req_notify_cq", "cq", ibv);
    if (ibv->channel == NULL)
        vm_abort("ibv_req_notify_cq", "channel", "the CQ was made without one");
    int r = vm_fails(VERBS_MODEL_REQ_NOTIFY, vm_ctx_of("ibv_req_notify_cq", ibv->context)->dev);
    if (r == 0) {
        verbs_model_counts.notifies++;
        /* What is late comes just before, so that it raises no event. */
        vm_wire_flush();
        /* Any completion is the wider wish. */
        cq->solicited_only = solicited_only != 0 && (!cq->is_armed || cq->solicited_only);
        cq->is_armed = true;
    }
    vm_unlock();
    return r;
}

int ibv_get_cq_event(struct ibv_comp_channel *ibv, struct ibv_cq **cq, void **cq_context)
{
    vm_lock();
    struct vm_channel *ch = channel_of("ibv_get_cq_event", ibv);
    vm_unlock();
    eventfd_t one;
    if (eventfd_read(ibv->fd, &one) < 0)
        return -1;
    vm_lock();
    struct vm_cq *of = ch->events[ch->first_event];
    ch->first_event = (ch->first_event + 1) % VM_MAX_CQ_EVENTS;
    ch->n_events--;
    of->n_got++;
    verbs_model_counts.cq_events++;
    *cq = &of->ibv;
    *cq_context = of->ibv.cq_context;
    vm_unlock();
    return 0;
}

void ibv_ack_cq_events(struct ibv_cq *ibv, unsigned int n)
{
    vm_lock();
    struct vm_cq *cq = vm_cq_of("ibv_ack_cq_events", "cq", ibv);
    if (n > cq->n_got - cq->n_acked)
        vm_abort("ibv_ack_cq_events", "nevents", "%u, %u are open", n, cq->n_got - cq->n_acked);
    cq->n_acked += n;
    verbs_model_counts.cq_acks++;
    vm_unlock();
}

/* Of the i-th live CQ of a device, or of all. */
static unsigned cqs_fail(unsigned device, unsigned i, bool is_all, bool is_dead)
{
    unsigned n = 0, at = 0;
    vm_lock();
    for (struct vm_object *o = NULL; (o = vm_object_next(VM_CQ, o)) != NULL;) {
        struct vm_cq *cq = SMT_CONTAINER_OF(o, struct vm_cq, object);
        struct vm_ctx *c = vm_ctx_of("verbs_model_cq_error", cq->ibv.context);
        if (c->dev != &vm_devices[device] || (at++ != i && !is_all))
            continue;
        cq_fail(cq, is_dead);
        n++;
    }
    vm_unlock();
    return n;
}

unsigned verbs_model_cq_error(unsigned device)
{
    return cqs_fail(device, 0, true, true);
}

unsigned verbs_model_cq_overrun(unsigned device, unsigned i)
{
    return cqs_fail(device, i, false, false);
}
