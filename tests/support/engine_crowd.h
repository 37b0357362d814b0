/* Two engines in one thread over the in-memory device, with as many sessions between them as are
 * wanted and as many calls open at once: what they cost. Time is virtual. */
#ifndef SMT_TESTS_SUPPORT_ENGINE_CROWD_H
#define SMT_TESTS_SUPPORT_ENGINE_CROWD_H

#include "engine_pair.h"

struct crowd {
    struct engine_side client, server;
    struct smt_dev *devs[2];
    const struct smt_aead *aead; /* static */
    struct smt_addr to;
    struct smt_conn **conns; /* of the client */
    uint32_t n_conns;
    uint64_t now;
    uint8_t *payload;
    size_t size;
    struct smt_rpc **held; /* requests at the server, answered together */
    uint32_t n_held, max_held;
    uint32_t n_up, n_responses, n_failed, n_down;
};

/* Both engines, with default limits. */
void crowd_open(struct crowd *k, const struct smt_aead *aead, uint32_t max_sessions,
                uint32_t max_calls, size_t size);
void crowd_close(struct crowd *k);

/* Begins sessions until there are n, all up at both ends. */
void crowd_connect(struct crowd *k, uint32_t n);

/* Lets so much time pass; whoever has nothing to do until a later deadline takes no turn. */
void crowd_rest(struct crowd *k, uint64_t ns);

/* The same, and the server does nothing. */
void crowd_client_alone(struct crowd *k, uint64_t ns);

/* Opens n calls of the sessions in turn; every one is at the server and held there. */
void crowd_call(struct crowd *k, uint32_t n);

/* The server answers what it holds; every response is at the client. */
void crowd_answer(struct crowd *k);

/* n calls, `depth` at a time, over the sessions in turn, answered at once. */
void crowd_run(struct crowd *k, uint64_t n, uint32_t depth);

#endif
