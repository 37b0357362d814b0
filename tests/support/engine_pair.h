/* Two engines in one thread over two devices: RPCs of one size, so many in flight. What instruction
 * counts and the checks of the data path drive. Everything that a side does for its RPCs, device
 * included, happens in its turn function, which profilers can collect by name. */
#ifndef SMT_TESTS_SUPPORT_ENGINE_PAIR_H
#define SMT_TESTS_SUPPORT_ENGINE_PAIR_H

#include "base/prng.h"
#include "core/engine.h"
#include "dev/dev.h"

struct engine_side {
    struct smt_engine *e;
    struct smt_dev *dev; /* lent */
    struct smt_tx_sink sink;
    struct smt_conn *conn;
    struct smt_prng prng;
    uint64_t n_flushes; /* turns that had packets to send */
    uint64_t n_reserved;
    uint32_t drop_ppm; /* of the packets that come, so many of a million are lost */
};

struct engine_pair {
    struct engine_side client, server;
    uint8_t *payload; /* given */
    size_t size;
    unsigned room; /* RPCs that may still be posted */
    uint64_t done, now;
};

/* An engine on a device, with fixed random bytes and a cookie anybody can make. Ends the program
 * with a line when that fails. */
void engine_side_open(struct engine_side *s, struct smt_dev *dev, bool accept);

/* What a poll does: send, receive, run timers. */
void engine_side_turn(struct engine_side *s, uint64_t now);

/* Makes both engines and a session between them; packets of the client go to `to`. Ends the program
 * with a line when something fails. */
void engine_pair_open(struct engine_pair *p, struct smt_dev *client, struct smt_dev *server,
                      const struct smt_addr *to, const struct smt_aead *aead, size_t size,
                      unsigned depth);
void engine_pair_close(struct engine_pair *p);

/* One turn each: post, send, receive, timers, take events. */
void engine_client_turn(struct engine_pair *p);
void engine_server_turn(struct engine_pair *p);

/* Turns of both until `n` more RPCs are done. */
void engine_pair_run(struct engine_pair *p, uint64_t n);

/* Ends the program when rc is an error. */
void engine_check(int rc, const char *what);

#endif
