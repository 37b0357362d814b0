/* Memory for received messages: what each host may hold of the engine's, and the line of messages
 * that wait for some. */
#ifndef SMT_CORE_MEMORY_H
#define SMT_CORE_MEMORY_H

#include "base/addr.h"
#include "base/heap.h"
#include "base/map.h"
#include "base/pool.h"

struct smt_conn;
struct smt_engine;
struct smt_rpc;

/* One host, whatever sessions it has: an IPv4 address or the first half of an IPv6 one. */
struct smt_memory_host {
    uint64_t held;             /* bytes received from it and not given back */
    struct smt_heap waiting;   /* its messages without memory, by length */
    struct smt_heap_node node; /* in the line while some wait; key: held + the shortest of them */
    struct smt_map_key key;
    uint32_t n_conns;
    uint64_t rtt_peak; /* largest round trip of late to any of its conns (pacer.c) */
};

struct smt_memory {
    uint64_t held, max;
    struct smt_heap line;      /* hosts */
    uint64_t tie;
    bool due;                  /* memory came back since the last run, and somebody waits */
    struct smt_pool hosts;
    struct smt_map map;        /* of addresses */
};

/* At most `max` bytes for all. */
SMT_MUST_CHECK int smt_memory_init(struct smt_memory *m, const uint64_t seed[2], uint64_t max);
/* No host may be left. Harmless when zeroed. */
void smt_memory_fini(struct smt_memory *m);

/* The host of an address, for a conn that begins; drop it with the conn. NULL: no memory. */
struct smt_memory_host *smt_memory_host_get(struct smt_memory *m, const struct smt_addr *addr);
void smt_memory_host_drop(struct smt_memory *m, struct smt_memory_host *h);

/* A conn's address has changed: what it holds counts for the new host. */
void smt_memory_move(struct smt_conn *c);

/* Its place in the line after `held` changed. */
void smt_memory_rank(struct smt_memory *m, struct smt_memory_host *h);

/* May this host hold `len` more? With them no more than is left for others; and one message may
 * always, when nothing else is held. */
static inline bool smt_memory_fits(const struct smt_memory *m, const struct smt_memory_host *h,
                                   uint64_t len)
{
    return m->held == 0 || m->held + h->held + len <= m->max;
}

/* How much more fits, however it is divided, without a change of any line. */
static inline uint64_t smt_memory_room(const struct smt_memory *m,
                                       const struct smt_memory_host *h)
{
    uint64_t used = m->held + h->held;
    return smt_heap_has(&h->node) || used > m->max ? 0 : (m->max - used) / 2;
}

static inline void smt_memory_take(struct smt_memory *m, struct smt_memory_host *h, uint64_t len)
{
    m->held += len;
    h->held += len;
    if (SMT_UNLIKELY(smt_heap_has(&h->node)))
        smt_memory_rank(m, h);
}

static inline void smt_memory_give(struct smt_memory *m, struct smt_memory_host *h, uint64_t len)
{
    m->held -= len;
    h->held -= len;
    if (SMT_LIKELY(smt_heap_min(&m->line) == NULL))
        return;
    m->due = true;
    if (smt_heap_has(&h->node))
        smt_memory_rank(m, h);
}

/* Somebody waits for memory. */
static inline bool smt_memory_is_short(const struct smt_memory *m)
{
    return smt_heap_min(&m->line) != NULL;
}

/* A message of known length found no memory: it waits for some. What comes of it until then is
 * dropped; its sender hears BUSY. */
void smt_memory_wait(struct smt_rpc *r);

/* Its own timer asks, in case that it is in no line: for want of room in it, or because only its
 * conn's limit is in the way. */
void smt_memory_again(struct smt_rpc *r);

/* It is over. Harmless when it does not wait. */
void smt_memory_forget(struct smt_rpc *r);

/* Others wait for memory while this message's sender does not send what it may: it loses what has
 * come of it, and waits. */
void smt_memory_take_back(struct smt_rpc *r);

/* Gives what came back to those who wait: their senders are asked for all of it. */
void smt_memory_run(struct smt_engine *e);

#endif
