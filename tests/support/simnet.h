/* A network of engines in virtual time: the same seed and the same calls give the same run, byte
 * for byte.
 *
 * A host is one engine behind a device-like send queue; each ordered pair of hosts has a link with
 * delay, packet limit and faults. simnet_step moves to the earliest of packet arrivals, engine
 * deadlines, send queues with room again and the test's own timers; ties go by order of creation.
 * Everything that is sent and every event goes into one trace hash.
 *
 * Handshakes run without TLS: the initiator sends its parameter block, the responder answers with
 * its own, the initiator's "finished" ends it; both install a secret made from the two session ids.
 * The responder installs only after "finished", as the real one does. */
#ifndef SMT_TESTS_SIMNET_H
#define SMT_TESTS_SIMNET_H

#include <stdio.h>

#include "base/prng.h"
#include "checking_aead.h"
#include "core/engine.h"

enum { SIM_MAX_PACKET = 9216, SIM_MAX_HOSTS = 64, SIM_MAX_BURST = 24576 };
enum { SIM_ALWAYS = 10000 }; /* fault rates are parts of 10,000 */

struct simnet;
struct sim_host;
struct sim_nic;

struct sim_link {
    uint64_t delay; /* ns, one way */
    uint32_t mtu;   /* longer packets vanish; 0 = no limit */
    uint32_t drop, dup, reorder, corrupt;
    uint64_t reorder_ns;            /* a reordered packet is late by up to this much */
    uint32_t ce;                    /* marked "congestion experienced" */
    uint64_t dark_from, dark_until; /* nothing passes in between */
};

/* A packet on its way. A hook may change data, len (up to SIM_MAX_PACKET) and delay. */
struct sim_packet {
    uint64_t at; /* when it arrives */
    uint64_t seq;
    unsigned from, to; /* host numbers; from >= n_hosts: nobody's */
    struct smt_addr source;
    uint64_t extra_delay;
    uint32_t len;
    uint8_t prio;
    uint8_t ecn;
    uint16_t ip_id;
    uint8_t *data;           /* SIM_MAX_PACKET bytes */
    struct sim_packet *next; /* of the free list */
};

enum sim_verdict { SIM_PASS, SIM_DROP };

/* Sees every packet as it is sent, before the link's faults. */
typedef enum sim_verdict sim_hook(void *arg, struct simnet *net, struct sim_packet *pkt);

/* An event that is not of the handshake; conn's user pointer belongs to simnet, see
 * sim_conn_user. */
typedef void sim_event_fn(void *arg, struct sim_host *host, const struct smt_engine_event *ev);

typedef void sim_timer_fn(void *arg, struct simnet *net);

struct sim_host {
    struct simnet *net;
    unsigned number;
    struct smt_addr addr;
    struct smt_engine_config config; /* change before simnet_start or a restart */
    struct smt_engine *engine;       /* NULL while the host is down */
    /* what the send queue says; longer packets of before are lost */
    uint32_t mtu;
    uint64_t rate;       /* bytes a second out of it, 0 = at once */
    uint64_t queue_len;  /* bytes that wait before it is full, 0 = endless */
    uint64_t poll_ns;    /* packets are taken at multiples of this, 0 = at once */
    uint64_t down_rate;  /* bytes a second into it, 0 = no bottleneck */
    bool cuts_bursts;    /* the send queue cuts records into slices */
    uint32_t run_max;    /* it takes runs of packets, of so many bytes; 0 = none */
    struct sim_nic *nic; /* it seals, too (sim_nic.h); lent */
    uint64_t down_queue; /* bytes that wait there before it drops, 0 = endless */
    uint64_t packet_ns;  /* what each packet takes its processor; the two above do not count then */
    uint32_t max_waiting; /* packets that wait for it before more are dropped */
    sim_event_fn *on_event;
    void *arg;
    uint64_t n_sent, n_received, bytes_sent;
    bool refuse;                  /* answers no handshake */
    struct sim_host_state *state; /* simnet's */
};

struct simnet_config {
    uint64_t seed;
    unsigned n_hosts;
    const struct smt_aead *aead;
    struct sim_link link; /* for every pair; change single ones by simnet_link */
    const char *pcap;     /* file to write, NULL = none */
};

struct simnet {
    uint64_t seed, now;
    uint64_t trace; /* hash of the run so far */
    uint64_t n_steps, n_packets, n_dropped;
    unsigned n_hosts;
    struct sim_host hosts[SIM_MAX_HOSTS];
    struct smt_prng rng; /* faults; tests draw from it too */
    const struct smt_aead *aead;
    sim_hook *hook;
    void *hook_arg;
    /* extra bytes in each handshake message, as certificates make */
    uint32_t hs_pad;
    struct simnet_state *state;
};

/* Hosts 10.0.0.1 …, defaults of smt_engine_config_init, 10 us links, 25 Gbit/s. Empties the book of
 * the checking cipher. Change hosts[], then start. */
struct simnet *simnet_new(const struct simnet_config *config);
void simnet_start(struct simnet *net);
void simnet_free(struct simnet *net);

struct sim_link *simnet_link(struct simnet *net, unsigned from, unsigned to);
void simnet_set_links(struct simnet *net, const struct sim_link *link);

/* Runs one moment: false when nothing will ever happen again or the next thing is after `until`. */
bool simnet_step(struct simnet *net, uint64_t until);

/* Runs until done(arg) or `until`; true when done said so. */
bool simnet_run(struct simnet *net, uint64_t until, bool (*done)(void *arg), void *arg);

/* Runs `len` ns more, whatever happens. */
void simnet_sleep(struct simnet *net, uint64_t len);

/* Runs until every engine is at rest and no packet is under way; fails the test at `until`. */
void simnet_settle(struct simnet *net, uint64_t until);

/* Calls fn at that time. */
void simnet_at(struct simnet *net, uint64_t when, sim_timer_fn *fn, void *arg);

/* Says that the test called into a host's engine: it is run before time moves on. */
void simnet_poke(struct sim_host *host);

/* Opens a conn and begins its handshake. Fails the test on an error. */
struct smt_conn *simnet_connect(struct sim_host *host, const struct sim_host *to);
/* The same and waits for UP on the initiator; events meanwhile go where they belong. */
struct smt_conn *simnet_connect_wait(struct sim_host *host, const struct sim_host *to);

/* The conn of `host` that is the other end of `c`; NULL when there is none. */
struct smt_conn *simnet_peer_conn(const struct sim_host *host, const struct smt_conn *c);
/* How many conns the host has. */
unsigned simnet_n_conns(const struct sim_host *host);

/* The test's own pointer of a conn, which simnet's handshake record carries. */
void sim_conn_set_user(struct smt_conn *c, void *user);
void *sim_conn_user(const struct smt_conn *c);
bool sim_conn_is_up(const struct smt_conn *c);

/* The engine is gone without a word / comes anew with other random numbers. */
void simnet_kill(struct sim_host *host);
void simnet_revive(struct sim_host *host);

/* Puts a packet on the wire towards `to` by hand, past hook and faults. */
void simnet_inject(struct simnet *net, const struct smt_addr *source, unsigned to,
                   const uint8_t *bytes, size_t len, uint64_t delay);

/* The value of a counter; fails the test when there is none of that name. */
uint64_t sim_counter(const struct smt_engine *e, const char *name);
/* The sum of all counters whose names begin so. */
uint64_t sim_counter_sum(const struct smt_engine *e, const char *prefix);
void sim_counters_print(const struct smt_engine *e, FILE *out);

/* The secret that simnet installs for a pair of session ids. */
void sim_secret(uint64_t initiator_id, uint64_t responder_id, uint8_t out[SMT_SECRET_LEN]);

/* Prints seed, time and counters, then fails the test. */
void sim_fail(struct simnet *net, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));

#define SIM_CHECK(net, cond, ...)                                                                  \
    do {                                                                                           \
        if (SMT_UNLIKELY(!(cond)))                                                                 \
            sim_fail((net), __FILE__, __LINE__, #cond ": " __VA_ARGS__);                           \
    } while (0)

/* Scale of long tests in percent: environment SMT_SIM_SCALE, default 100 (20 under a sanitizer). */
unsigned sim_scale(void);
/* `n` scaled, at least 1. */
uint64_t sim_scaled(uint64_t n);
/* The seed of a test: environment SMT_SIM_SEED, else `fallback`. */
uint64_t sim_seed(uint64_t fallback);

#endif
