/* Endpoints of the library, TLS and all, on a network that the test holds in its hands: every
 * packet goes through a hook that may look, change, drop, keep, turn round and add. One process,
 * addresses 10.0.0.1, 10.0.0.2 …, and a clock that only the test moves (meson.build: rig_wrap). */
#ifndef SMT_TESTS_RIG_H
#define SMT_TESTS_RIG_H

#include <smt/smt.h>

#include "base/addr.h"
#include "base/prng.h"

enum { RIG_ENDS = 3, RIG_MAX_PACKET = 2048 };

struct rig;

struct rig_packet {
    struct smt_addr from, to;
    uint32_t len;
    uint8_t data[RIG_MAX_PACKET];
};

/* May change the packet; false drops it. */
typedef bool rig_hook(struct rig *rig, struct rig_packet *pkt);

struct rig_end {
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    struct smt_addr addr;
    char name[32]; /* what smt_connect takes */
    unsigned n_up, n_down, n_requests, n_responses, n_failed;
    int error; /* of the last SESSION_DOWN */
    int call_error; /* of the last call that FAILED */
};

struct rig {
    struct rig_end ends[RIG_ENDS];
    rig_hook *hook;
    void *arg;
    struct smt_prng rng;
    uint64_t n_packets;
    char log[65536]; /* what the library logged */
    struct rig_wire *wire;
};

/* What the library and its endpoints read as their clock. */
extern uint64_t rig_now;

/* With certificates or one pre-shared key. All ends accept. */
void rig_open(struct rig *rig, bool with_psk, uint64_t handshake_timeout);
/* With certificates and early data: a bit for each end that wants it. */
void rig_open_early(struct rig *rig, unsigned ends, uint64_t handshake_timeout);
void rig_close(struct rig *rig);

/* Puts a packet on the wire, past the hook. */
void rig_inject(struct rig *rig, const struct smt_addr *from, const struct smt_addr *to,
                const uint8_t *bytes, size_t len);

/* A step of the clock; polls all ends: requests are answered with their own bytes, messages
 * released. */
void rig_pump(struct rig *rig);

/* Pumps until the end has had an UP or a DOWN of a session it dialled; true: UP. Fails the test
 * after `ns`. */
bool rig_connect(struct rig *rig, unsigned from, unsigned to, uint64_t ns,
                 struct smt_session **out);

/* A call of so many bytes that must be answered. */
void rig_call(struct rig *rig, unsigned from, struct smt_session *s, size_t len);

/* cmocka group setup and teardown: credentials. */
int rig_setup(void **state);
int rig_teardown(void **state);
const char *rig_file(const char *name);
uint64_t rig_counter(const struct rig *rig, unsigned end, const char *name);

#endif
