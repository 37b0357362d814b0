/* Profiles homa-main, homa-6.1 and smt1: their rows, and their peers. A peer is known by its
 * address; nothing of it is proven but under smt1, where a stranger stays unproven until a record
 * of its opened, and where the pair of keys belongs to the first peer that is proven or called:
 * the format's nonces are made of ids that every client counts for itself, so a second peer would
 * use them again (reference: SMT v1; docs/security.md). */
#include "core/kernel.h"

#include "base/mem.h"

/* Strangers of smt1 that may be listened to at once; a server's conns of clients that fell silent
 * end after this long unless the endpoint says otherwise. */
enum { MAX_UNPROVEN = 16 };
static const uint64_t idle_default = 300 * SMT_SEC;

/* Bits of a number: the kernel's SMT makes nonces of the low 48, so all profiles stay below. */
enum { NUMBER_BITS = 47 };

int smt_kernel_begin(struct smt_engine *e, const struct smt_homa_format *format)
{
    const struct smt_profile *p = e->config.profile;
    struct smt_kernel *k = smt_mem_alloc(sizeof(*k));
    if (k == NULL)
        return SMT_ENOMEM;
    k->format = format;
    e->kernel = k;
    e->config.random(e->config.random_arg, &k->next_number, sizeof(k->next_number));
    k->next_number &= ((uint64_t)1 << NUMBER_BITS) - 1;
    struct smt_tune defaults;
    smt_tune_init(&defaults);
    if (e->config.tune.unsched_first == defaults.unsched_first)
        e->config.tune.unsched_first = p->unsched;
    if (e->config.tune.window_first == defaults.window_first)
        e->config.tune.window_first = p->window;
    if (e->config.idle_timeout == 0 && e->config.accept)
        e->config.idle_timeout = idle_default;
    /* Version 0 is a peer that was told nothing. */
    smt_cutoffs_renew(&e->cutoffs);
    return 0;
}

void smt_kernel_end(struct smt_engine *e)
{
    smt_mem_free(e->kernel);
    e->kernel = NULL;
}

/* The two words are made so that two addresses which share them lie in one /64 network: its owner
 * gets in nobody's way but his own. */
static struct smt_map_key key_of(const struct smt_addr *addr)
{
    uint64_t w[3];
    memcpy(w, addr, sizeof(w));
    return (struct smt_map_key){w[0] ^ w[2] * 0x9e3779b97f4a7c15ull, smt_engine_addr_hash(addr)};
}

struct smt_conn *smt_kernel_conn_find(const struct smt_engine *e, const struct smt_addr *addr)
{
    struct smt_conn *c = smt_map_get(&e->peer_map, key_of(addr));
    return c != NULL && smt_addr_equal(&c->addr, addr) ? c : NULL;
}

int smt_kernel_conn_begin(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    struct smt_kernel *k = e->kernel;
    struct smt_map_key key = key_of(&c->addr);
    if (smt_map_get(&e->peer_map, key) != NULL)
        return SMT_ESTATE;
    if (smt_map_put(&e->peer_map, key, c) < 0)
        return SMT_ENOMEM;
    c->in_hs_map = true;
    c->peer_id = key.a;
    c->keys.ready = true;
    c->id_base = k->next_number;
    c->peer_open = e->config.max_open_rpcs;
    c->peer_bytes = UINT64_MAX;
    c->peer_max_message = e->config.profile->max_message;
    c->unsched_limit = UINT32_MAX;
    c->up_at = c->opened_at;
    if (!c->initiator && e->config.profile->keyed) {
        k->n_unproven++;
        smt_conn_set_state(c, SMT_CONN_AWAIT_CONFIRM);
        return 0;
    }
    smt_conn_set_state(c, SMT_CONN_UP);
    smt_evlink_raise(&e->events, &c->ev, SMT_EE_UP);
    return 0;
}

void smt_kernel_conn_end(struct smt_conn *c)
{
    struct smt_kernel *k = c->e->kernel;
    if (c->state == SMT_CONN_AWAIT_CONFIRM)
        k->n_unproven--;
    /* Numbers that were used are not used again by the conn that comes after it. */
    if (c->id_base + c->next_id > k->next_number)
        k->next_number = c->id_base + c->next_id;
}

struct smt_conn *smt_kernel_conn_of_client(struct smt_engine *e, uint64_t now,
                                           const struct smt_addr *addr)
{
    const struct smt_kernel *k = e->kernel;
    struct smt_conn *c = smt_kernel_conn_find(e, addr);
    if (SMT_LIKELY(c != NULL))
        return c;
    if (!e->config.accept) {
        e->stats.drop_no_session++;
        return NULL;
    }
    if (k->bound && !smt_addr_equal(&k->peer, addr)) {
        e->stats.drop_other_peer++;
        return NULL;
    }
    if (smt_pool_n_live(&e->conns) >= e->config.max_conns || k->n_unproven >= MAX_UNPROVEN ||
        smt_conn_new(e, now, addr, false, &c) < 0) {
        e->stats.drop_no_memory++;
        return NULL;
    }
    e->stats.conns_accepted++;
    return c;
}

int smt_kernel_may_post(struct smt_conn *c, uint64_t len, bool one_way)
{
    (void)c;
    return len == 0 || one_way ? SMT_EUNSUPPORTED : 0;
}

static int may_reply(struct smt_conn *c, uint64_t len)
{
    (void)c;
    return len == 0 ? SMT_EUNSUPPORTED : 0;
}

static void response_came(struct smt_rpc *r)
{
    smt_acks_add(r->conn, smt_rpc_frame_id(r), r->rx.len);
}

static void nothing_kept(struct smt_rpc *r)
{
    (void)r;
}

static int main_begin(struct smt_engine *e)
{
    return smt_kernel_begin(e, &smt_homa_main);
}

static int homa_6_1_begin(struct smt_engine *e)
{
    return smt_kernel_begin(e, &smt_homa_6_1);
}

const struct smt_profile smt_profile_homa_main = {
    .name = "homa-main",
    .ip_protocol = 146,
    .ip_class_shift = 5,
    .max_message = SMT_HOMA_MAX_MESSAGE,
    .unsched = 40000,
    .window = 200000,
    .no_handshake = true,
    .no_farewell = true,
    .begin = main_begin,
    .end = smt_kernel_end,
    .conn_begin = smt_kernel_conn_begin,
    .conn_end = smt_kernel_conn_end,
    .may_post = smt_kernel_may_post,
    .may_reply = may_reply,
    .receive = smt_kernel_receive,
    .send = smt_kernel_send,
    .ctl_add = smt_kernel_ctl_add,
    .ctl_send = smt_kernel_ctl_send,
    .acks_send = smt_kernel_acks_send,
    .answers_send = smt_kernel_answers_send,
    .response_came = response_came,
    .tx_end = nothing_kept,
    .rx_end = nothing_kept,
};

const struct smt_profile smt_profile_homa_6_1 = {
    .name = "homa-6.1",
    .ip_protocol = 253,
    .ip_class_shift = 4,
    .max_message = SMT_HOMA_MAX_MESSAGE,
    .unsched = 10000,
    .window = 40000,
    .no_handshake = true,
    .no_farewell = true,
    .begin = homa_6_1_begin,
    .end = smt_kernel_end,
    .conn_begin = smt_kernel_conn_begin,
    .conn_end = smt_kernel_conn_end,
    .may_post = smt_kernel_may_post,
    .may_reply = may_reply,
    .receive = smt_kernel_receive,
    .send = smt_kernel_send,
    .ctl_add = smt_kernel_ctl_add,
    .ctl_send = smt_kernel_ctl_send,
    .acks_send = smt_kernel_acks_send,
    .answers_send = smt_kernel_answers_send,
    .response_came = response_came,
    .tx_end = nothing_kept,
    .rx_end = nothing_kept,
};

const struct smt_profile smt_profile_smt1 = {
    .name = "smt1",
    .ip_protocol = 253,
    .ip_class_shift = 4,
    .max_message = SMT_HOMA_MAX_MESSAGE,
    .unsched = 10000,
    .window = 40000,
    .keyed = true,
    .no_ipv6 = true,
    .no_handshake = true,
    .no_farewell = true,
    .begin = smt_records_begin,
    .end = smt_records_end,
    .conn_begin = smt_records_conn_begin,
    .conn_end = smt_kernel_conn_end,
    .may_post = smt_records_may_post,
    .may_reply = may_reply,
    .receive = smt_kernel_receive,
    .send = smt_records_send,
    .ctl_add = smt_kernel_ctl_add,
    .ctl_send = smt_kernel_ctl_send,
    .acks_send = smt_kernel_acks_send,
    .answers_send = smt_kernel_answers_send,
    .response_came = response_came,
    .tx_end = smt_records_tx_end,
    .rx_end = smt_records_rx_end,
};
