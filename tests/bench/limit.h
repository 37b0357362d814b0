/* What the limit programs share: messages cut into segments of one length, each sealed and opened,
 * a closed loop of -t in flight, both sides spinning. A carrier moves the segments.
 *
 * No handshake, no retransmission, no flow control, no ordering, no sessions: a lost segment ends
 * the run by its alarm. Not a transport, but no transport over the same carrier can pass it. */
#ifndef SMT_TESTS_BENCH_LIMIT_H
#define SMT_TESTS_BENCH_LIMIT_H

#include "peer.h"

enum {
    LIMIT_MAX_DATA = 1440, /* of a message in a segment: 1,472 bytes with head and tag */
    LIMIT_MAX_SIZE = 1 << 20,
};

struct limit_carrier {
    const char *name;

    /* Makes both ends before the fork: [0] the client's, [1] the server's. */
    void (*open)(const struct peer_args *args, void *ends[2]);

    /* Place for one segment; what was reserved before is whole. Hands over a full batch. */
    uint8_t *(*reserve)(void *end, size_t len);

    void (*flush)(void *end);

    /* Bytes of one batch that came, in segments of *segment bytes; 0: none. Good until the next
     * call. */
    size_t (*take)(void *end, const uint8_t **data, size_t *segment);
};

int limit_main(int argc, char **argv, const struct limit_carrier *carrier);

#endif
