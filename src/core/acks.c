/* An acknowledgement lets the sender forget a message; nobody waits for it as one waits for data. A
 * packet for each would cost a third of the bandwidth of the smallest messages, at the highest
 * priority. So ACK frames wait: for a DATA packet with room to the same peer, for a CTRL packet
 * that leaves anyway, or until there is nothing better to send; then they go at the lowest
 * priority. Where data went to the peer a moment ago more is likely to follow, and they wait a
 * little for that. What has waited for long on a busy link goes like other control frames, before
 * the sender asks. */
#include "core/acks.h"

#include "core/state.h"

/* Of the delay, until they are urgent. */
enum { URGENT_AFTER = 2 };

void smt_acks_init(struct smt_acks *a)
{
    a->n = 0;
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

/* To the other control frames. */
static void hurry(struct smt_conn *c)
{
    struct smt_acks *a = &c->acks;
    for (uint32_t i = 0; i < a->n; i++)
        smt_ctl_add_id(c, SMT_FRAME_ACK, a->ids[i]);
    smt_acks_drop(c);
}

void smt_acks_add(struct smt_conn *c, uint64_t id)
{
    struct smt_acks *a = &c->acks;
    struct smt_engine *e = c->e;
    e->stats.acks_sent++;
    if (!smt_keys_ready(&c->keys) || c->state == SMT_CONN_CLOSED)
        return;
    a->ids[a->n++] = id;
    if (a->n == SMT_ACKS_MAX) {
        hurry(c);
        return;
    }
    if (a->n > 1)
        return;
    uint64_t delay = e->config.tune.ack_delay_ns;
    if (is_narrow(c)) {
        look_at(c, e->now + delay);
    } else if (e->now < c->data_at + delay) {
        look_at(c, c->data_at + delay);
    } else {
        smt_list_push_tail(&e->acks_due, &a->due);
        look_at(c, e->now + URGENT_AFTER * delay);
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
    a->at = now + URGENT_AFTER * c->e->config.tune.ack_delay_ns;
}

size_t smt_acks_take(struct smt_conn *c, uint8_t *out, size_t room)
{
    struct smt_acks *a = &c->acks;
    size_t len = 0;
    while (a->n > 0 && room - len >= SMT_ACK_LEN) {
        const struct smt_frame f = {.type = SMT_FRAME_ACK, .id = a->ids[--a->n]};
        len += smt_frame_encode(&f, out + len, room - len);
    }
    if (a->n == 0)
        smt_list_remove(&a->due);
    return len;
}

bool smt_acks_pop(struct smt_conn *c, uint64_t *id)
{
    struct smt_acks *a = &c->acks;
    if (a->n == 0)
        return false;
    *id = a->ids[--a->n];
    if (a->n == 0)
        smt_list_remove(&a->due);
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
    c->acks.n = 0;
    smt_list_remove(&c->acks.due);
}
