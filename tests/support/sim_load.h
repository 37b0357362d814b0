/* Applications for the simulator: clients that post calls and one-way messages, servers that answer
 * them, and the books that tell whether each ran exactly once and came over byte for byte.
 *
 * A message of 8 bytes or more begins with its call's tag; the rest is made from the tag, so
 * nothing has to be kept to check it. Shorter messages cannot say who they are and are counted by
 * length. One sim_app serves all hosts of a network; a sim_load is one client's stream of calls on
 * one conn. */
#ifndef SMT_TESTS_SIM_LOAD_H
#define SMT_TESTS_SIM_LOAD_H

#include "simnet.h"

struct sim_app;
struct sim_load;

enum { SIM_MAX_LOADS = 2048 };

struct sim_load_config {
    uint32_t n_calls;
    uint32_t window;     /* calls in flight at once */
    uint32_t max_len;    /* requests: log-uniform 0 … max_len (a power of two) */
    uint32_t max_resp;   /* responses: the same; half of the time the two change places */
    uint32_t min_len;    /* of requests and responses */
    uint32_t fixed_len;  /* not 0: every request has this length */
    unsigned one_way;    /* percent of calls */
    unsigned own_buffer; /* percent of requests with a response buffer of their own */
    unsigned reject;     /* percent that the server refuses */
    unsigned cancel;     /* percent cancelled after up to cancel_ns */
    uint64_t cancel_ns;
    unsigned deadline; /* percent with a deadline of up to deadline_ns */
    uint64_t deadline_ns;
    uint64_t serve_ns; /* the server answers after up to this long */
    uint64_t hold_ns;  /* and gives received memory back after up to this long */
    bool mutate;       /* lent bytes change while they are lent; contents are not checked */
    bool may_fail;     /* the peer may die: calls may end FAILED */
    bool reconnect;    /* after DOWN a new conn takes the rest */
    bool follow_hints; /* NO_SESSION begins a new conn beside the old one, as api/ does */
};

/* What the app does with INCOMING. */
enum sim_incoming { SIM_ACCEPT_OWN, SIM_ACCEPT_LIB, SIM_REJECT, SIM_ACCEPT_LATE, SIM_MIX };

struct sim_app_stats {
    uint64_t requests, messages, responses, sent, failed, incoming, eagain, writable, up, down;
    uint64_t replies_open; /* lent reply buffers */
    uint64_t cancelled, timed_out, refused, maybe, other_errors;
    uint64_t bytes; /* of messages checked */
    uint32_t max_in_flight;
    uint64_t hints;                      /* NO_SESSION events */
    uint64_t held_bytes, max_held_bytes; /* received and not given back */
    uint32_t serving, max_serving;       /* requests without reply */
    uint64_t max_ns;                     /* the longest call, from post to final event */
};

/* Takes over on_event of all hosts. */
struct sim_app *sim_app_new(struct simnet *net);
void sim_app_free(struct sim_app *app);
const struct sim_app_stats *sim_app_stats(const struct sim_app *app);
void sim_app_set_incoming(struct sim_app *app, enum sim_incoming policy, uint64_t late_ns);

/* Another look at every event before the app's own; for tests that add something. */
void sim_app_set_watch(struct sim_app *app, sim_event_fn *watch, void *arg);

/* Opens a conn from `client` to `server` and loads it; begins at once. */
struct sim_load *sim_app_load(struct sim_app *app, struct sim_host *client, struct sim_host *server,
                              const struct sim_load_config *config);
/* The same over a conn that is there, of either role. */
struct sim_load *sim_app_load_on(struct sim_app *app, struct sim_host *client,
                                 struct smt_conn *conn, const struct sim_load_config *config);
struct smt_conn *sim_load_conn(const struct sim_load *load);
uint32_t sim_load_done(const struct sim_load *load);

/* All calls of all loads have had their final event. Fits simnet_run. */
bool sim_app_done(void *app);

/* Runs to the end and checks everything: exactly one final event each, executed once (at most once
 * where it failed), no reply open, engines at rest. Fails the test at `until`. */
void sim_app_finish(struct sim_app *app, uint64_t until);

/* Opens every call of the host to failure and forgets its servers' state: call beside
 * simnet_kill. */
void sim_app_host_killed(struct sim_app *app, struct sim_host *host);

#endif
