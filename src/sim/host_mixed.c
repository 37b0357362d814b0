/* The policy `mixed`: the library beside plain TCP in one network. Every host has both; messages
 * from even hosts go by the library, those from odd hosts by TCP (the policy dctcp with reno=1).
 * Its counters say how much of each came through, for that is the question: how two that know
 * nothing of each other share a link.
 *
 * The network keeps one state for a policy and one for each host: they are the library's, and TCP's
 * are put there while one of its functions runs. */
#include "base/mem.h"
#include "sim/net.h"

/* What is no longer carries no data worth counting. */
enum { SMALL = 200 };

struct mixed_host {
    void *tcp;
    bool tcp_next; /* whose turn it is to send */
};

struct mixed {
    void *tcp;
    struct mixed_host *hosts;
    uint64_t smt_bytes, tcp_bytes; /* on the wire, arrived; without acknowledgements and grants */
};

struct held {
    void *policy, *host;
};

static struct held tcp_enter(struct smt_net_host *h)
{
    const struct mixed *m = h->net->outer_state;
    struct held held = {h->net->policy_state, h->state};
    h->net->policy_state = m->tcp;
    h->state = m->hosts[h->number].tcp;
    return held;
}

static void tcp_leave(struct smt_net_host *h, struct held held)
{
    h->net->policy_state = held.policy;
    h->state = held.host;
}

static void mixed_message(struct smt_net_host *h, struct smt_net_msg *msg)
{
    if (msg->src % 2 == 0) {
        smt_policy_smt.message(h, msg);
        return;
    }
    struct held held = tcp_enter(h);
    smt_policy_dctcp.message(h, msg);
    tcp_leave(h, held);
}

/* The library's packets name no message. */
static void mixed_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    struct mixed *m = h->net->outer_state;
    uint32_t data = p->payload_len > SMALL ? p->wire_len : 0;
    if (p->msg == NULL) {
        m->smt_bytes += data;
        smt_policy_smt.packet(h, p);
        return;
    }
    m->tcp_bytes += data;
    struct held held = tcp_enter(h);
    smt_policy_dctcp.packet(h, p);
    tcp_leave(h, held);
}

static struct smt_net_pkt *tcp_next(struct smt_net_host *h)
{
    struct held held = tcp_enter(h);
    struct smt_net_pkt *p = smt_policy_dctcp.next(h);
    tcp_leave(h, held);
    return p;
}

static struct smt_net_pkt *mixed_next(struct smt_net_host *h)
{
    const struct mixed *m = h->net->outer_state;
    struct mixed_host *host = &m->hosts[h->number];
    struct smt_net_pkt *p = NULL;
    if (host->tcp_next)
        p = tcp_next(h);
    host->tcp_next = p == NULL;
    if (p == NULL)
        p = smt_policy_smt.next(h);
    if (p == NULL)
        p = tcp_next(h);
    return p;
}

static void mixed_close(struct smt_net *net)
{
    struct mixed *m = net->outer_state;
    if (m == NULL)
        return;
    smt_policy_smt.close(net);
    net->policy_state = m->tcp;
    smt_policy_dctcp.close(net);
    if (m->hosts != NULL)
        smt_mem_block_free(m->hosts, net->n_hosts * sizeof(*m->hosts));
    smt_mem_free(m);
    net->outer_state = NULL;
}

static int tcp_open(struct smt_net *net, struct mixed *m, const struct smt_policy_config *config)
{
    struct smt_policy_config tcp = *config;
    tcp.tune = "reno=1";
    int rc = smt_policy_dctcp.open(net, &tcp);
    m->tcp = net->policy_state;
    net->policy_state = NULL;
    for (unsigned i = 0; rc == 0 && i < net->n_hosts; i++)
        m->hosts[i].tcp = net->hosts[i].state;
    return rc;
}

static int mixed_open(struct smt_net *net, const struct smt_policy_config *config)
{
    struct mixed *m = smt_mem_alloc(sizeof(*m));
    if (m == NULL)
        return SMT_ENOMEM;
    net->outer_state = m;
    m->hosts = smt_mem_block(net->n_hosts * sizeof(*m->hosts));
    int rc = m->hosts != NULL ? tcp_open(net, m, config) : SMT_ENOMEM;
    if (rc == 0)
        rc = smt_policy_smt.open(net, config);
    if (rc < 0)
        mixed_close(net);
    return rc;
}

static bool mixed_counter(struct smt_net *net, unsigned i, const char **name, uint64_t *value)
{
    const struct mixed *m = net->outer_state;
    if (i >= 2)
        return smt_policy_smt.counter(net, i - 2, name, value);
    *name = i == 0 ? "smt_wire_bytes" : "tcp_wire_bytes";
    *value = i == 0 ? m->smt_bytes : m->tcp_bytes;
    return true;
}

static void mixed_timer(struct smt_net_host *h)
{
    smt_policy_smt.timer(h);
}

const struct smt_policy smt_policy_mixed = {
    .name = "mixed",
    .text = "even hosts send by smt, odd hosts by plain TCP",
    .levels = 1,
    .wants_data = true,
    .open = mixed_open,
    .close = mixed_close,
    .message = mixed_message,
    .packet = mixed_packet,
    .next = mixed_next,
    .timer = mixed_timer,
    .counter = mixed_counter,
};
