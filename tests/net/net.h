/* Two endpoints in one process over a real device, and the credentials to open them with. Public
 * API only.
 *
 * The device is UDP on loopback unless the environment names another and the addresses on it:
 * SMT_TEST_DEVICE and SMT_TEST_HOST, for ends that do not accept also SMT_TEST_CLIENT_DEVICE and
 * SMT_TEST_CLIENT_HOST. SMT_TEST_SLOW=N multiplies the times of endpoints and all patience.
 *
 * No test asserts that something is soon: time is bounded from below, or by a hang. Where "soon" is
 * meant, what would come instead takes longer than a test waits. */
#ifndef SMT_TESTS_NET_NET_H
#define SMT_TESTS_NET_NET_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <smt/smt.h>

enum net_security {
    NET_PLAIN,
    NET_CERT, /* cert, key, ca */
    NET_PSK,
    NET_PIN,           /* cert, key, pin of the same certificate */
    NET_CERT_STRANGER, /* a certificate of another CA, which trusts ours */
    NET_PSK_OTHER,     /* the identity of NET_PSK with another key */
    NET_PSK_UNKNOWN,   /* an identity that NET_PSK does not know */
    NET_PIN_WRONG,     /* a pin of another key */
    NET_CA_ONLY,       /* no certificate of its own */
    NET_CERT_ANYBODY,  /* cert, key, ca; clients need no certificate */
    NET_N_SECURITIES,
};

enum { NET_QUEUE = 8192 };

struct net_end {
    const char *host;
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    struct smt_event queue[NET_QUEUE];
    unsigned n;
};

struct net_pair {
    struct net_end server, client;
    struct smt_session *session; /* the client's */
    struct smt_session *peer;    /* the server's, once SESSION_UP came there */
};

/* Certificates and key files for the whole program: cmocka group setup and teardown. */
int net_setup(void **state);
int net_teardown(void **state);

/* Monotonic ns. */
uint64_t net_now(void);

/* How many times as long as a machine of our own takes anything may take before a test fails: what
 * that ends is a hang, never a slow machine. */
unsigned net_slow(void);

/* Address that endpoints are bound to: those that accept, and others. */
const char *net_host(bool accepts);

/* A context of that kind on the device of endpoints that accept. `log` to stderr when SMT_TEST_LOG
 * is set. */
struct smt_ctx *net_ctx(enum net_security security);

/* An endpoint of its own context; `config` NULL: defaults, port 0. bind_host NULL: net_host, "*":
 * all. */
void net_end_open(struct net_end *end, enum net_security security, bool accept,
                  const struct smt_ep_config *config);
void net_end_close(struct net_end *end);

/* The same at the place of those that accept, though it may not. */
void net_end_open_there(struct net_end *end, enum net_security security, bool accept,
                        const struct smt_ep_config *config);

/* "127.0.0.1:port". Static buffer. */
const char *net_address(const struct net_end *end);

/* The same of a host and a port. Static buffer. */
const char *net_address_of(const char *host, uint16_t port);

/* Server and client endpoints and a session that is up on both sides. */
void net_pair_open(struct net_pair *pair, enum net_security security,
                   const struct smt_ep_config *server, const struct smt_ep_config *client);
void net_pair_close(struct net_pair *pair);

/* Polls both ends once and queues what comes; sleeps a little when nothing does. */
void net_pump(struct net_pair *pair);

/* Pumps for so long. */
void net_pump_for(struct net_pair *pair, uint64_t ns);

/* The next event of this type at this end, others stay queued. Fails the test after 10 s (times
 * net_slow). */
struct smt_event net_expect(struct net_pair *pair, struct net_end *end, enum smt_event_type type);

/* How many events of this type wait in the queue. */
unsigned net_count(const struct net_end *end, enum smt_event_type type);

/* The first queued event of this type, removed. False: none. */
bool net_take(struct net_end *end, enum smt_event_type type, struct smt_event *out);

/* Answers every queued request of the server with its own bytes. Returns how many. */
unsigned net_echo(struct net_end *end);

/* Posts a call of one piece. Returns the code; *id may be NULL. */
int net_call(struct smt_session *s, const void *p, size_t len, uint64_t deadline_ns, void *user,
             uint64_t *id);

/* Bytes that tell where they belong. */
void net_fill(uint8_t *p, size_t len, uint64_t seed);
void net_check(const void *p, size_t len, uint64_t seed);

/* A counter by name; fails the test when there is none of that name. */
uint64_t net_counter(const struct smt_ep *ep, const char *name);

/* A file of the credentials directory. */
const char *net_file(const char *name);

/* Uses a directory that another process has filled. */
void net_use_dir(const char *path);

/* A process with a server that echoes: made by running this program again with the arguments "serve
 * PORT SECURITY DIR", so that it shares nothing with us. Port 0 = any. */
struct net_process {
    int pid;
    uint16_t port;
};
void net_process_start(struct net_process *p, uint16_t port, enum net_security security);
void net_process_kill(struct net_process *p); /* SIGKILL */
void net_process_term(struct net_process *p); /* asks it to drain and close; waits for its end */

/* Call first in main: runs the server when the arguments ask for one and never returns then. */
void net_process_main(int argc, char **argv);

#endif
