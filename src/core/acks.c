/* An acknowledgement lets the sender forget a message; nobody waits for it as one waits for data. A
 * packet for each would cost a third of the bandwidth of the smallest messages, and even the nine
 * bytes of an ACK riding in data are more than two percent of it, which at a load of 0.8 is ten
 * percent of the 99th percentile. So ids are gathered in blocks of 64, as bits, and told together
 * by ACKS frames: after a delay in the next DATA packet with room to the same peer; in any CTRL
 * packet that leaves anyway; half a delay later, or when enough have come, alone, at the lowest
 * priority, as soon as there is nothing better to send; and after twice the delay like other
 * control frames, before the sender asks. Those of long messages do not wait: they are few, and
 * their senders hold much. */
#include "core/acks.h"

#include "core/state.h"

enum {
    ENOUGH = 48,          /* ids worth a frame before the delay is over */
    LONG_LEN = 64 * 1024, /* bytes of a message that are worth one */
};

void smt_acks_init(struct smt_acks *a)
{
    a->n = a->n_blocks = 0;
    a->ride_at = 0;
    a->at = SMT_NEVER;
    smt_list_init(&a->due);
}

static void look_at(struct smt_conn *c, uint64_t at)
{
    c->acks.at = at;
    if (!smt_timer_is_armed(&c->timer.t) || c->timer.t.at > at)
        smt_wheel_arm(&c->e->wheel, &c->timer.t, at);
}

/* The way is congested somewhere: there the lowest level may stand still for long, and the sender
 * would ask. */
static bool is_narrow(const struct smt_conn *c)
{
    return c->tx_share.is < SMT_SHARE_ALL || c->rx_share.is < SMT_SHARE_ALL;
}

static struct smt_frame frame_of(const struct smt_acks_block *b)
{
    unsigned low = (unsigned)__builtin_ctzll(b->bits);
    uint64_t others = b->bits >> low >> 1;
    return (struct smt_frame){.type = others != 0 ? SMT_FRAME_ACKS : SMT_FRAME_ACK,
                              .id = b->first + low,
                              .bitmap = others};
}

/* To the other control frames. */
static void hurry(struct smt_conn *c)
{
    struct smt_acks *a = &c->acks;
    for (uint32_t i = 0; i < a->n_blocks; i++) {
        struct smt_frame f = frame_of(&a->blocks[i]);
        smt_ctl_add(c, &f);
    }
    smt_acks_drop(c);
}

static void block_add(struct smt_conn *c, uint64_t id)
{
    struct smt_acks *a = &c->acks;
    uint64_t first = id & ~63ull;
    uint32_t i = a->n_blocks;
    while (i > 0 && a->blocks[i - 1].first != first)
        i--;
    if (i == 0) {
        if (a->n_blocks == SMT_ACKS_BLOCKS)
            hurry(c);
        a->blocks[a->n_blocks++] = (struct smt_acks_block){first, 0};
        i = a->n_blocks;
    }
    a->blocks[i - 1].bits |= 1ull << (id & 63);
    a->n++;
}

void smt_acks_add(struct smt_conn *c, uint64_t id, uint32_t len)
{
    struct smt_acks *a = &c->acks;
    struct smt_engine *e = c->e;
    uint64_t delay = e->config.tune.ack_delay_ns;
    e->stats.acks_sent++;
    if (!smt_keys_ready(&c->keys) || c->state == SMT_CONN_CLOSED)
        return;
    block_add(c, id);
    if (a->n == 1) {
        a->ride_at = e->now + delay;
        look_at(c, is_narrow(c) ? a->ride_at : a->ride_at + delay / 2);
    }
    if ((a->n == ENOUGH || len >= LONG_LEN) && smt_list_is_empty(&a->due)) {
        a->ride_at = e->now;
        smt_list_push_tail(&e->acks_due, &a->due);
        look_at(c, e->now + delay);
    }
}

void smt_acks_tick(struct smt_conn *c, uint64_t now)
{
    struct smt_acks *a = &c->acks;
    if (now < a->at)
        return;
    a->at = SMT_NEVER;
    if (a->n == 0)
        return;
    if (!smt_list_is_empty(&a->due) || is_narrow(c)) {
        hurry(c);
        return;
    }
    smt_list_push_tail(&c->e->acks_due, &a->due);
    a->at = now + c->e->config.tune.ack_delay_ns / 2;
}

static size_t frame_len(const struct smt_frame *f)
{
    if (f->type == SMT_FRAME_ACK)
        return smt_frame_len(SMT_FRAME_ACK);
    return 2 + 8 + (71 - (unsigned)__builtin_clzll(f->bitmap)) / 8;
}

size_t smt_acks_len(const struct smt_acks *a)
{
    size_t len = 0;
    for (uint32_t i = 0; i < a->n_blocks; i++) {
        struct smt_frame f = frame_of(&a->blocks[i]);
        len += frame_len(&f);
    }
    return len;
}

size_t smt_acks_take(struct smt_conn *c, uint8_t *out, size_t room)
{
    struct smt_acks *a = &c->acks;
    size_t len = 0;
    while (a->n_blocks > 0) {
        struct smt_frame f = frame_of(&a->blocks[a->n_blocks - 1]);
        size_t n = smt_frame_encode(&f, out + len, room - len);
        if (n == 0)
            return len;
        len += n;
        a->n -= (uint32_t)__builtin_popcountll(a->blocks[--a->n_blocks].bits);
    }
    smt_acks_drop(c);
    return len;
}

bool smt_acks_pop(struct smt_conn *c, uint64_t *id)
{
    struct smt_acks *a = &c->acks;
    if (a->n == 0)
        return false;
    struct smt_acks_block *b = &a->blocks[a->n_blocks - 1];
    *id = b->first + (unsigned)__builtin_ctzll(b->bits);
    b->bits &= b->bits - 1;
    a->n--;
    a->n_blocks -= b->bits == 0;
    if (a->n == 0)
        smt_acks_drop(c);
    return true;
}

bool smt_acks_send(struct smt_engine *e, const struct smt_tx_sink *sink)
{
    struct smt_list *l;
    while ((l = smt_list_first(&e->acks_due)) != NULL) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, acks.due);
        if (!smt_ctl_send_acks(c, sink))
            return false;
        smt_conn_try_end(c);
    }
    return true;
}

void smt_acks_drop(struct smt_conn *c)
{
    c->acks.n = c->acks.n_blocks = 0;
    smt_list_remove(&c->acks.due);
}
