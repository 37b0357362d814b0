/* The receiving half of the control: who is granted, when, and at which level.
 *
 * Senders with bytes to grant stand in order of their best message; the first `overcommit` of them
 * are granted, one packet at a time, as long as a message has less than a window in flight, and no
 * sender faster than its packets take on the link. The scheduled levels are slots: the order
 * occupies neighbouring slots, as low as possible, and who is granted keeps its slot where there
 * is room for newcomers above, because a sender that is moved up or down meets its own packets of
 * before. */
#include "sim/control.h"

static uint32_t wire_of(const struct control *all, uint32_t offset, uint32_t data)
{
    return smt_net_wire_len(smt_net_payload(all->hdr, offset, data, all->unsched));
}

/* ---- the order of senders ---- */

static bool goes_before(const struct control_peer *a, const struct control_peer *b)
{
    return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

/* More in the order than slots below the head: the head goes up. */
static void head_make_room(struct control_host *c)
{
    unsigned slots = c->all->n_sched;
    unsigned lowest = c->n_order < slots ? slots - c->n_order : 0;
    if (c->head > lowest)
        c->head = lowest;
}

static void order_insert(struct control_host *c, struct control_peer *peer)
{
    unsigned at = c->n_order;
    while (at > 0 && goes_before(peer, c->order[at - 1])) {
        c->order[at] = c->order[at - 1];
        at--;
    }
    c->order[at] = peer;
    if (c->n_order++ == 0)
        c->head = c->all->n_sched - 1;
    else if (at == 0 && c->head > 0)
        c->head--;
    head_make_room(c);
    peer->in_order = true;
    c->changed = true;
}

static unsigned order_find(const struct control_host *c, const struct control_peer *peer)
{
    unsigned at = 0;
    while (c->order[at] != peer)
        at++;
    return at;
}

static void order_remove(struct control_host *c, struct control_peer *peer)
{
    unsigned at = order_find(c, peer);
    c->n_order--;
    for (unsigned i = at; i < c->n_order; i++)
        c->order[i] = c->order[i + 1];
    c->head++;
    head_make_room(c);
    peer->in_order = false;
    c->changed = true;
}

/* Its best message is nearer to its end than before. */
static void order_advance(struct control_host *c, struct control_peer *peer)
{
    unsigned at = order_find(c, peer);
    while (at > 0 && goes_before(peer, c->order[at - 1])) {
        c->order[at] = c->order[at - 1];
        c->order[--at] = peer;
        c->changed = true;
    }
}

/* Brings the order up to date with the peer's messages. */
static void peer_moved(struct control_host *c, struct control_peer *peer)
{
    const struct smt_heap_node *best = smt_heap_min(&peer->msgs);
    if (best == NULL) {
        if (peer->in_order)
            order_remove(c, peer);
    } else if (!peer->in_order) {
        peer->key = best->key;
        peer->tie = best->tie;
        order_insert(c, peer);
    } else if (best->key < peer->key) {
        peer->key = best->key;
        peer->tie = best->tie;
        order_advance(c, peer);
    } else if (best->key != peer->key || best->tie != peer->tie) {
        order_remove(c, peer);
        peer->key = best->key;
        peer->tie = best->tie;
        order_insert(c, peer);
    }
}

/* ---- grants ---- */

static void grant_send(struct control_host *c, const struct control_peer *peer,
                       const struct control_rx *rx, uint32_t data, unsigned prio)
{
    struct control *all = c->all;
    struct smt_net_pkt *p =
        smt_net_pkt_new(c->h, peer->number, all->hdr->grant, control_level(all, 0));
    p->type = CONTROL_GRANT;
    p->msg = rx->m;
    p->offset = rx->granted;
    p->len = data;
    p->prio = (uint8_t)control_level(all, prio);
    p->next = NULL;
    if (c->grants.first == NULL)
        c->grants.first = p;
    else
        c->grants.last->next = p;
    c->grants.last = p;
    all->n_grants++;
}

/* The slot's priority, or a better one when the end of the message is near. */
static unsigned grant_prio(const struct control *all, unsigned slot, uint32_t left, uint32_t data,
                           uint32_t wire)
{
    unsigned prio = all->n_unsched + (slot < all->n_sched ? slot : all->n_sched - 1);
    uint64_t left_wire = left + (uint64_t)(left + data - 1) / data * (wire - data);
    if (left_wire < CONTROL_WINDOW) {
        unsigned tail = control_unsched_prio(all, left);
        prio = tail < prio ? tail : prio;
    }
    return prio;
}

static void grants_run(struct control_host *c);

static void grant_timer(void *ctx, void *arg)
{
    struct control_peer *peer = arg;
    struct smt_net *net = ctx;
    if (peer->timer_at != net->des.now)
        return;
    peer->timer_at = SMT_NEVER;
    struct control_host *c = peer->host;
    c->changed = true;
    grants_run(c);
    smt_net_wake(c->h);
}

/* Gives the sender at that place of the order one packet if it may have one. */
static bool grant_one(struct control_host *c, unsigned at)
{
    struct control *all = c->all;
    struct control_peer *peer = c->order[at];
    unsigned slot = c->head + at;
    if (peer->timer_at != SMT_NEVER && slot >= peer->last_slot)
        return false;
    struct control_rx *rx = SMT_CONTAINER_OF(smt_heap_min(&peer->msgs), struct control_rx, node);
    uint32_t left = rx->m->len - rx->granted;
    uint32_t data = smt_net_cut(all->hdr, rx->m->len, rx->granted, all->unsched);
    uint32_t wire = wire_of(all, rx->granted, data);
    if (rx->in_flight >= CONTROL_WINDOW)
        return false;
    grant_send(c, peer, rx, data, grant_prio(all, slot, left, data, wire));
    rx->granted += data;
    rx->in_flight += wire;
    if (rx->granted == rx->m->len)
        smt_heap_remove(&peer->msgs, &rx->node);
    else
        smt_heap_update(&peer->msgs, &rx->node, rx->m->len - rx->granted);
    peer->last_slot = (uint8_t)slot;
    peer_moved(c, peer);
    const struct smt_net_port *down = &all->net->ports[all->net->n_hosts + c->h->number];
    peer->timer_at = all->net->des.now + wire * down->ps_per_byte;
    smt_des_at(&all->net->des, peer->timer_at, grant_timer, peer);
    return true;
}

static void grants_run(struct control_host *c)
{
    while (c->changed) {
        c->changed = false;
        for (unsigned i = 0; i < c->n_order && i < c->all->overcommit && !c->changed; i++)
            grant_one(c, i);
    }
    bool withheld = c->n_order > c->all->overcommit;
    if (withheld != c->h->withheld)
        smt_net_set_withheld(c->h, withheld);
}

/* ---- data ---- */

static struct control_rx *rx_new(struct control_host *c, struct control_peer *peer,
                                 struct smt_net_msg *m)
{
    struct control *all = c->all;
    struct control_rx *rx = smt_pool_get(&all->rxs);
    if (rx == NULL)
        smt_net_fatal("no memory for messages");
    *rx = (struct control_rx){.m = m};
    m->rx = rx;
    do {
        uint32_t data = smt_net_cut(all->hdr, m->len, rx->granted, all->unsched);
        rx->in_flight += wire_of(all, rx->granted, data);
        rx->granted += data;
    } while (rx->granted < m->len && rx->granted < all->unsched);
    if (rx->granted < m->len) {
        rx->node.key = m->len - rx->granted;
        rx->node.tie = m->number;
        if (smt_heap_insert(&peer->msgs, &rx->node) < 0)
            smt_net_fatal("no memory for messages");
        peer_moved(c, peer);
    }
    return rx;
}

void smt_control_data_came(struct control_host *c, const struct smt_net_pkt *p)
{
    struct smt_net_msg *m = p->msg;
    struct control_peer *peer = &c->peers[p->src];
    struct control_rx *rx = m->rx != NULL ? m->rx : rx_new(c, peer, m);
    rx->received += p->len;
    rx->in_flight -= p->wire_len;
    if (rx->received == m->len) {
        smt_pool_put(&c->all->rxs, rx);
        smt_net_deliver(c->h, m);
    } else if (smt_heap_has(&rx->node) && !c->changed) {
        unsigned at = order_find(c, peer);
        if (at < c->all->overcommit)
            grant_one(c, at);
    }
    grants_run(c);
}
