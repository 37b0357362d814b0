/* Hosts that run the library's own engine: what host_smt.c (messages and packets) and smt_hs.c
 * (sessions) share. */
#ifndef SMT_SIM_HOST_SMT_H
#define SMT_SIM_HOST_SMT_H

#include "base/map.h"
#include "core/engine.h"
#include "sim/net.h"

struct smt_host;

/* One wire session of a host with another. */
struct smt_host_conn {
    struct smt_host_conn *next; /* all of a host */
    struct smt_conn *conn;
    uint16_t peer; /* host number */
    bool initiator, has_params, up;
    struct smt_params params;
};

/* Messages that met a limit, in order; per pair of hosts. */
struct smt_host_wait {
    struct smt_net_msg *m;
    struct smt_host_wait *next;
};

struct smt_host_peer {
    struct smt_host_conn *active; /* what new messages take */
    struct smt_host_wait *first, **last;
};

struct smt_host {
    struct smt_net_host *net_host;
    struct smt_hosts *all;
    struct smt_engine *engine;
    struct smt_addr addr;
    struct smt_prng random;
    struct smt_host_conn *conns;
    struct smt_host_peer *peers; /* by host number */
    unsigned life;
    struct smt_net_pkt *made; /* by the sink, in the current tx */
    /* of the engine's cutoffs: changes seen, and how often it had looked at the last */
    uint32_t n_changes, looks_then;
};

struct smt_hosts {
    struct smt_net *net;
    struct smt_policy_config config;
    struct smt_host *hosts;
    struct smt_map ids; /* (source and destination, rpc id) → message under way */
    uint8_t *bytes;     /* what all messages are made of */
    uint64_t n_up;      /* ends of sessions that came up */
    uint64_t n_failed_conns;
    unsigned levels;
};

/* Begins a session from h to `peer`. */
void smt_host_connect(struct smt_host *h, unsigned peer);
/* An event of h's engine that belongs to sessions. */
void smt_host_hs_event(struct smt_host *h, const struct smt_engine_event *ev);
/* Forgets all sessions of a host whose engine is gone. */
void smt_host_hs_forget(struct smt_host *h);
/* The session that carries messages to `peer` now, NULL when none is up or coming up. */
struct smt_host_conn *smt_host_conn_to(struct smt_host *h, unsigned peer);

#endif
