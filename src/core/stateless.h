/* Answers to packets that belong to no conn: RETRY, NO_SESSION, VERSION. Nothing is remembered of
 * whom they go to. */
#ifndef SMT_CORE_STATELESS_H
#define SMT_CORE_STATELESS_H

#include "base/addr.h"
#include "wire/wire.h"

struct smt_engine;
struct smt_tx_sink;

enum { SMT_STATELESS_MAX = 64 };

struct smt_stateless_packet {
    struct smt_addr to;
    uint8_t kind;
    uint16_t dport;
    uint64_t session_id;
    uint8_t cookie[SMT_COOKIE_LEN];
};

struct smt_stateless {
    struct smt_stateless_packet queue[SMT_STATELESS_MAX];
    unsigned n;
    uint64_t tokens_at;  /* when the bucket was last filled */
    uint32_t tokens;     /* answers that may still be given */
};

void smt_stateless_init(struct smt_stateless *s);

/* Queues an answer; dropped when the rate limit or the queue is used up. `cookie` for RETRY, else
 * NULL. */
void smt_stateless_add(struct smt_engine *e, uint64_t now, const struct smt_addr *to,
                       uint16_t dport, uint8_t kind, uint64_t session_id, const uint8_t *cookie);

/* False when the sink is full. */
bool smt_stateless_send(struct smt_engine *e, const struct smt_tx_sink *sink);

#endif
