/* Control intentions as packets of the kernel's profiles: one packet each, encoded when the
 * intention arises and kept in the conn's control buffers behind a byte with its length. What the
 * formats have no word for (credit, marks, ends of calls, farewells) is dropped here. */
#include "core/kernel.h"

static uint8_t type_of(uint8_t frame_type)
{
    switch (frame_type) {
    case SMT_FRAME_GRANT:
        return SMT_HOMA_GRANT;
    case SMT_FRAME_RESEND:
        return SMT_HOMA_RESEND;
    case SMT_FRAME_UNKNOWN:
        return SMT_HOMA_UNKNOWN;
    case SMT_FRAME_BUSY:
        return SMT_HOMA_BUSY;
    case SMT_FRAME_CUTOFFS:
        return SMT_HOMA_CUTOFFS;
    case SMT_FRAME_NEED_ACK:
        return SMT_HOMA_NEED_ACK;
    case SMT_FRAME_ACK:
        return SMT_HOMA_ACK;
    default:
        return 0;
    }
}

/* One by one: they are in a hurry, and few. */
static void acks_add(struct smt_conn *c, const struct smt_frame *f, uint8_t prio)
{
    struct smt_frame one = {.type = SMT_FRAME_ACK, .id = f->id};
    smt_kernel_ctl_add(c, &one, prio);
    for (uint64_t left = f->bitmap; left != 0; left &= left - 1) {
        one.id = f->id + 1 + (unsigned)__builtin_ctzll(left);
        smt_kernel_ctl_add(c, &one, prio);
    }
}

void smt_kernel_ctl_add(struct smt_conn *c, const struct smt_frame *f, uint8_t prio)
{
    if (SMT_UNLIKELY(f->type == SMT_FRAME_ACKS)) {
        acks_add(c, f, prio);
        return;
    }
    const struct smt_homa_format *format = c->e->kernel->format;
    struct smt_homa_pkt p = {
        .sport = c->e->config.port,
        .dport = c->addr.port,
        .sender_id = smt_kernel_sender_id(c, f->id ^ SMT_ID_ROLE),
        .type = type_of(f->type),
        .prio = f->prio,
        .offset = f->offset,
        .length = f->length,
        .cutoff_version = f->code,
        .long_grant = format == &smt_homa_main,
    };
    if (p.type == 0)
        return;
    /* Who does not know "all" is asked for the first packet: the rest shows as gaps then. */
    if (p.type == SMT_HOMA_RESEND && p.length == SMT_RESEND_ALL && !format->resend_all)
        p.length = SMT_HOMA_RESEND_FIRST;
    p.cutoffs[0] = INT32_MAX;
    /* The kernel's are signed. */
    for (unsigned i = 0; i < SMT_ARRAY_LEN(f->cutoffs); i++)
        p.cutoffs[i + 1] = f->cutoffs[i] < INT32_MAX ? f->cutoffs[i] : INT32_MAX;
    struct smt_ctl_buf *b = smt_ctl_room(c, prio, 1 + SMT_HOMA_MAX_HDR_LEN);
    if (b == NULL)
        return;
    size_t len = smt_homa_encode(format, &p, b->bytes + b->len + 1);
    b->bytes[b->len] = (uint8_t)len;
    b->len += (uint16_t)(1 + len);
}

static void count_sent(struct smt_engine *e, size_t len)
{
    e->stats.packets_sent_ctrl++;
    e->stats.bytes_sent += len;
}

bool smt_kernel_ctl_send(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    while (c->ctl.buf != NULL) {
        struct smt_ctl_buf *b = c->ctl.buf;
        uint16_t at = 0;
        while (at < b->len) {
            size_t len = b->bytes[at];
            uint8_t *pkt = sink->reserve(sink->arg, &c->addr, len, b->prio);
            if (pkt == NULL) {
                memmove(b->bytes, b->bytes + at, b->len - at);
                b->len -= at;
                return false;
            }
            memcpy(pkt, b->bytes + at + 1, len);
            count_sent(c->e, len);
            at += (uint16_t)(1 + len);
        }
        smt_ctl_pop(c);
    }
    return true;
}

bool smt_kernel_acks_send(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    const struct smt_homa_format *format = c->e->kernel->format;
    size_t len = smt_homa_len(format, SMT_HOMA_ACK);
    while (c->acks.n > 0) {
        uint8_t *pkt = sink->reserve(sink->arg, &c->addr, len, 0);
        if (pkt == NULL)
            return false;
        struct smt_homa_pkt p = {
            .sport = c->e->config.port, .dport = c->addr.port, .type = SMT_HOMA_ACK};
        struct smt_homa_ack first;
        (void)smt_kernel_ack_next(c, &first);
        p.sender_id = first.client_id;
        while (p.n_acks < SMT_HOMA_MAX_ACKS && smt_kernel_ack_next(c, &p.acks[p.n_acks]))
            p.n_acks++;
        (void)smt_homa_encode(format, &p, pkt);
        count_sent(c->e, len);
    }
    return true;
}

bool smt_kernel_answers_send(struct smt_engine *e, const struct smt_tx_sink *sink)
{
    const struct smt_homa_format *format = e->kernel->format;
    struct smt_stateless *s = &e->stateless;
    while (s->n > 0) {
        const struct smt_stateless_packet *a = &s->queue[s->n - 1];
        size_t len = smt_homa_len(format, a->kind);
        uint8_t *pkt = sink->reserve(sink->arg, &a->to, len, smt_engine_top_prio(e));
        if (pkt == NULL)
            return false;
        const struct smt_homa_pkt p = {.sport = e->config.port,
                                       .dport = a->dport,
                                       .type = a->kind,
                                       .sender_id = a->session_id};
        (void)smt_homa_encode(format, &p, pkt);
        e->stats.unknown_sent += a->kind == SMT_HOMA_UNKNOWN;
        e->stats.acks_sent += a->kind == SMT_HOMA_ACK;
        count_sent(e, len);
        s->n--;
    }
    return true;
}
