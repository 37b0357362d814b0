/* Which of several endpoints on one port gets a packet: programs for the kernel, and what a sender
 * has to keep apart for them. The one place below the api that knows where a packet names its
 * endpoint: bytes that are the same in all versions (docs/wire.md 2). */
#ifndef SMT_DEV_STEER_H
#define SMT_DEV_STEER_H

#include "base/defs.h"

enum { SMT_STEER_AT = 20 }; /* top byte of the session id of the packet's receiver */

/* Has a bound UDP socket of a group (SO_REUSEPORT) choose among `n`, in the order in which they
 * were bound. 0 or -1 with errno. */
SMT_MUST_CHECK int smt_steer_sockets(int fd, unsigned n);

/* The same for the sockets on which devices `ud` resolve their peers: messages of ud_resolve.h. */
SMT_MUST_CHECK int smt_steer_resolve(int fd);

/* Has a bound packet socket join the fan-out group `id` of `n`. 0 or -1 with errno. */
SMT_MUST_CHECK int smt_steer_rings(int fd, unsigned n, uint16_t id);

/* Which of `n` endpoints on a port gets this packet: what the kernel's programs do, for who sends
 * to each by itself. */
unsigned smt_steer_number(const uint8_t *packet, size_t len, unsigned n);

/* How many of `n` segments from the first on go to one endpoint of their receiver: the kernel
 * steers a super-frame by its first segment. */
uint32_t smt_steer_run(const uint8_t *data, uint32_t seg_len, uint32_t last_len, uint32_t n);

#endif
