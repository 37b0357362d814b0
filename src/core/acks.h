/* Acknowledgements of whole messages: they have time, so they wait for company. */
#ifndef SMT_CORE_ACKS_H
#define SMT_CORE_ACKS_H

#include "base/list.h"

struct smt_conn;
struct smt_engine;
struct smt_tx_sink;

enum { SMT_ACKS_MAX = 24, SMT_ACK_LEN = 9 };

struct smt_acks {
    uint32_t n;
    uint64_t at;           /* when the conn must look at them; SMT_NEVER */
    struct smt_list due;   /* in the engine's list of those that may leave alone */
    uint64_t ids[SMT_ACKS_MAX]; /* as they go into frames */
};

void smt_acks_init(struct smt_acks *a);

/* All of the message with this id (as it goes into the frame) has been authenticated. */
void smt_acks_add(struct smt_conn *c, uint64_t id);

/* Writes up to `room` bytes of ACK frames, which are then no longer due; how many bytes. */
size_t smt_acks_take(struct smt_conn *c, uint8_t *out, size_t room);

/* Takes the one added last; false when there is none. */
bool smt_acks_pop(struct smt_conn *c, uint64_t *id);

/* Sends those that are due in packets of their own. False when the sink is full. */
bool smt_acks_send(struct smt_engine *e, const struct smt_tx_sink *sink);

/* `at` has come. */
void smt_acks_tick(struct smt_conn *c, uint64_t now);

/* The conn is over. */
void smt_acks_drop(struct smt_conn *c);

#endif
