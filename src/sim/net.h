/* A leaf-spine network of hosts in virtual time: links with rate, store-and-forward switches with
 * priority queues, and on every host a transport policy that is asked for packets.
 *
 * A packet's way: the source's NIC asks its policy for the next packet when the link is free and
 * sends it; after the host's outgoing delay it is in the ToR switch; after the switch delay it
 * stands in the queue of an output port; queues serve the highest level first, first come first
 * served within a level, and never interrupt a packet. To another rack each packet takes a spine
 * drawn at random. The last port sends it to the destination, whose policy gets it after the
 * incoming delay. All is decided by the configuration and the seed; `trace` is a hash of what was
 * received and when.
 *
 * Times are picoseconds (des.h); only smt_net_ns gives what the library calls `now`. Levels: 0 is
 * the lowest, n_levels - 1 is served first. Running out of memory ends the process. */
#ifndef SMT_SIM_NET_H
#define SMT_SIM_NET_H

#include "base/list.h"
#include "base/pool.h"
#include "base/prng.h"
#include "sim/des.h"

enum { SMT_NET_MAX_LEVELS = 128, SMT_NET_MAX_PAYLOAD = 1472 };

struct smt_net;
struct smt_net_host;
struct smt_net_port;

/* Sizes of a transport's headers in bytes of UDP payload, the same for all policies of a run. */
struct smt_net_headers {
    uint32_t max_payload; /* of a packet */
    uint32_t first;       /* header and trailer of the packet with a message's first byte */
    uint32_t unsched;     /* of other packets that went without a grant */
    uint32_t sched;       /* of packets that were granted */
    uint32_t grant;       /* a whole GRANT packet */
    uint32_t ack;         /* a whole acknowledgement, for transports that send one */
    bool even;            /* a message is cut in equal parts, not in full packets and a rest */
};

extern const struct smt_net_headers smt_net_headers_smt; /* this library's, docs/wire.md */
extern const struct smt_net_headers smt_net_headers_s;   /* HomaSimulation's */

/* Bytes that UDP, IP and Ethernet add (preamble, gap and least frame length included). */
uint32_t smt_net_wire_len(uint32_t payload);

/* Data bytes of the packet that begins at `offset` of a message of `len`; `unsched` is how much of
 * the message goes without a grant. At least 1 while offset < len; an empty message has one packet
 * of 0. */
uint32_t smt_net_cut(const struct smt_net_headers *hdr, uint32_t len, uint32_t offset,
                     uint32_t unsched);
/* UDP payload of that packet with `data` bytes in it. */
uint32_t smt_net_payload(const struct smt_net_headers *hdr, uint32_t offset, uint32_t data,
                         uint32_t unsched);

/* What a whole message costs. */
struct smt_net_cost {
    uint64_t data_wire;   /* bytes on the wire of its packets */
    uint64_t grant_wire;  /* and of one grant for each packet beyond `unsched` */
    uint32_t n_packets, n_grants;
    uint32_t max_wire; /* its largest packet */
};
struct smt_net_cost smt_net_message_cost(const struct smt_net_headers *hdr, uint32_t len,
                                         uint32_t unsched);

/* One message. Made by whoever loads the network, kept until the network is freed. */
struct smt_net_msg {
    uint64_t created;    /* ps */
    uint64_t done;       /* when it was delivered, SMT_NEVER before */
    uint64_t number;     /* in order of creation, from 0 */
    uint32_t len;
    uint16_t src, dst;
    uint8_t kind;        /* enum smt_net_msg_kind */
    bool measured;
    bool failed;
    struct smt_net_msg *call; /* of a response: its request */
    void *tx, *rx;       /* the policy's own, at the source and at the destination */
};

enum smt_net_msg_kind { SMT_NET_ONE_WAY, SMT_NET_REQUEST, SMT_NET_RESPONSE };

/* One packet. What stands after `owner` means something to policies only. */
struct smt_net_pkt {
    struct smt_net_pkt *next;
    struct smt_net_port *port; /* where it is or goes to */
    uint64_t queued_at;
    uint32_t payload_len; /* UDP payload */
    uint32_t wire_len;
    uint16_t src, dst;
    uint8_t level;
    uint8_t ecn; /* 2: capable, 3: congestion experienced */
    /* For policies: */
    uint8_t type;
    uint8_t prio;         /* a grant's: level for the granted bytes */
    uint32_t offset, len;
    uint64_t word;
    struct smt_net_msg *msg;
    uint8_t *data; /* config.mtu bytes when the policy asked for them, else NULL */
};

struct smt_policy_config {
    const struct smt_net_headers *hdr;
    const struct smt_workload *workload; /* sizes to come, for cutoffs that are known in advance */
    unsigned levels;      /* priority levels of the network that may be used */
    unsigned overcommit;  /* messages or peers granted at once; 0 = the policy's own choice */
    uint32_t unsched;     /* bytes without grant; 0 = the policy's own choice */
    bool fifo;            /* senders first come first served: a negative control */
    uint64_t seed;
    /* name=value,… : whatever else a policy understands */
    const char *tune;
};

/* A transport. The network calls; `host->state` is the policy's. */
struct smt_policy {
    const char *name, *text;
    unsigned levels;   /* levels of the network it wants when nobody says otherwise */
    bool wants_data;   /* packets carry bytes */

    /* Makes the state of all hosts (net is complete, time is 0). 0, SMT_ENOMEM, SMT_EINVAL. */
    int (*open)(struct smt_net *net, const struct smt_policy_config *config);
    void (*close)(struct smt_net *net);

    /* The application has a message to send; its struct is lent for ever. */
    void (*message)(struct smt_net_host *h, struct smt_net_msg *m);

    /* A packet has come and is given: free it by smt_net_pkt_free. */
    void (*packet)(struct smt_net_host *h, struct smt_net_pkt *p);

    /* The NIC is free: the next packet to send, made by smt_net_pkt_new, or NULL. After NULL the
     * NIC asks again when smt_net_wake was called; also called after each of message, packet and
     * timer when the NIC is free. */
    struct smt_net_pkt *(*next)(struct smt_net_host *h);

    /* The time set by smt_net_set_timer has come. NULL allowed. */
    void (*timer)(struct smt_net_host *h);

    /* The host has lost its memory and begins anew at once. Messages it was sending or receiving
     * end by smt_net_fail, or never. NULL: the policy cannot. */
    void (*restart)(struct smt_net_host *h);

    /* What hosts learn from their traffic has not changed of late. NULL: they learn nothing. */
    bool (*settled)(struct smt_net *net);

    /* Name and value of counters summed over all hosts; false after the last. NULL allowed. */
    bool (*counter)(struct smt_net *net, unsigned i, const char **name, uint64_t *value);
};

extern const struct smt_policy smt_policy_smt, smt_policy_control, smt_policy_ideal,
    smt_policy_dctcp, smt_policy_mixed;

struct smt_net_port_stats {
    uint64_t n_packets, n_bytes, busy_ps; /* bytes on the wire */
    uint64_t max_queue;                   /* waiting bytes, the packet being sent not counted */
    unsigned __int128 queue_integral;     /* byte ps */
    uint64_t n_marked, n_dropped, n_lost;
};

struct smt_net_queue {
    struct smt_net_pkt *first, *last;
};

enum smt_net_port_kind {
    SMT_NET_HOST_UP, SMT_NET_HOST_DOWN, SMT_NET_TOR_UP, SMT_NET_SPINE_DOWN, SMT_NET_PORT_KINDS
};

struct smt_net_port {
    enum smt_net_port_kind kind;
    uint16_t number;      /* host; ToR (up) or spine (down) */
    uint16_t peer;        /* spine (ToR up) or ToR (spine down) */
    uint16_t sw;          /* switch whose buffer it uses; ToRs first, then spines */
    uint8_t lane;         /* how long from the end of sending to what comes next */
    uint64_t ps_per_byte;
    struct smt_net_pkt *sending;
    uint64_t free_at;
    uint64_t queued;      /* waiting bytes */
    uint64_t changed;     /* when `queued` changed last */
    uint64_t down_until;  /* what it sends before that is lost */
    uint64_t levels[2];   /* bit set: that queue holds something */
    struct smt_net_queue *queues; /* n_levels */
    struct smt_net_port_stats stats;
};

struct smt_net_host {
    struct smt_net *net;
    uint16_t number;
    void *state; /* the policy's */
    uint64_t timer_at, timer_event;
    bool withheld, idle_withheld;
    bool pulling, woken; /* next is running; it is worth another call */
    uint64_t withheld_since, withheld_idle_ps; /* downlink idle though more could be granted */
    uint64_t rx_stall_ps; /* a slow receiver: least time between two packets it takes */
    uint64_t rx_free;
};

struct smt_net_config {
    unsigned n_tors, hosts_per_tor, n_spines;
    uint64_t host_mbps, core_mbps;
    uint64_t host_out_ns; /* from the end of sending to the ToR: host software and NIC */
    uint64_t host_in_ns;  /* from the last port to the policy */
    uint64_t switch_ns, link_ns;
    unsigned n_levels;
    uint32_t mtu; /* UDP payload of the largest packet; 0 = SMT_NET_MAX_PAYLOAD */
    uint64_t switch_buffer; /* bytes shared by the ports of a switch, 0 = endless */
    uint64_t port_buffer;   /* bytes of one port, 0 = endless */
    uint64_t ecn_bytes;     /* a packet that finds so many waiting is marked; 0 = never */
    uint32_t loss_ppm;      /* of packets, on their way from the sender */
    uint64_t seed;
};

/* What the run is told. */
struct smt_net_hooks {
    void *arg;
    void (*delivered)(void *arg, struct smt_net_host *h, struct smt_net_msg *m);
    void (*failed)(void *arg, struct smt_net_host *h, struct smt_net_msg *m, int error);
};

struct smt_net {
    struct smt_des des;
    struct smt_net_config config;
    struct smt_net_hooks hooks;
    const struct smt_policy *policy;
    unsigned n_hosts, n_ports;
    struct smt_net_host *hosts;
    struct smt_net_port *ports; /* host up, host down, ToR up, spine down */
    uint64_t *sw_queued;        /* bytes waiting in each switch */
    uint64_t *sw_max;
    struct smt_pool pkts, bodies;
    struct smt_prng rng; /* spraying and loss */
    uint64_t trace;
    uint64_t n_sent, n_received, n_dropped, n_lost, n_live; /* packets */
    void *policy_state;  /* what a policy shares between its hosts */
    void *outer_state;   /* of a policy made of others (host_mixed.c) */
};

/* A quiet network at time 0 with the policy's hosts. 0, SMT_ENOMEM, SMT_EINVAL or what the policy
 * said. */
SMT_MUST_CHECK int smt_net_new(const struct smt_net_config *config,
                               const struct smt_policy *policy,
                               const struct smt_policy_config *policy_config,
                               const struct smt_net_hooks *hooks, struct smt_net **out);
void smt_net_free(struct smt_net *net);

static inline uint64_t smt_net_now(const struct smt_net *net)
{
    return net->des.now;
}

/* The time as the library has it. */
static inline uint64_t smt_net_ns(const struct smt_net *net)
{
    return net->des.now / SMT_PS_PER_NS;
}

/* Runs everything up to `until` (included). */
void smt_net_run(struct smt_net *net, uint64_t until);

/* ---- for policies ---- */

/* A packet of h to `dst`; wire_len follows from `payload_len`. With data if the policy wants it. */
struct smt_net_pkt *smt_net_pkt_new(struct smt_net_host *h, unsigned dst, uint32_t payload_len,
                                    unsigned level);
void smt_net_pkt_free(struct smt_net *net, struct smt_net_pkt *p);

/* There is something to send. */
void smt_net_wake(struct smt_net_host *h);

/* The policy's timer is called at `at`, once; a new time replaces the former, SMT_NEVER stops
 * it. */
void smt_net_set_timer(struct smt_net_host *h, uint64_t at);

/* Message m is complete at h, its destination / has ended without. Each once. */
void smt_net_deliver(struct smt_net_host *h, struct smt_net_msg *m);
void smt_net_fail(struct smt_net_host *h, struct smt_net_msg *m, int error);

/* Whether h, as a receiver, holds back grants only because of its overcommitment limit: messages
 * wait whose granted bytes have all come. Time in which its downlink is idle then is counted. */
void smt_net_set_withheld(struct smt_net_host *h, bool withheld);

/* ---- for those who load the network ---- */

/* Hands m to the policy of its source, now. */
void smt_net_post(struct smt_net *net, struct smt_net_msg *m);

/* Both directions of a host's link are dark until then. */
void smt_net_flap(struct smt_net *net, unsigned host, uint64_t until);

/* Best possible time from creation to delivery of a message of `len` in an empty network. */
uint64_t smt_net_ideal(const struct smt_net *net, const struct smt_net_headers *hdr, unsigned src,
                       unsigned dst, uint32_t len, uint32_t unsched);

/* Queues and counters begin anew: the end of the warm-up. */
void smt_net_stats_reset(struct smt_net *net);
/* Brings time integrals up to now. */
void smt_net_stats_settle(struct smt_net *net);

/* Prints the culprit and ends the process: memory is gone or a policy broke its contract. */
void smt_net_fatal(const char *what) __attribute__((noreturn));

#endif
