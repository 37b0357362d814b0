/* What an engine is made of. Fields of a part belong to that part's file; what is loose here
 * belongs to engine.c. */
#ifndef SMT_CORE_STATE_H
#define SMT_CORE_STATE_H

#include "base/bufpool.h"
#include "base/chains.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/prng.h"
#include "base/wheel.h"
#include "core/burst.h"
#include "core/conn.h"
#include "core/cutoffs.h"
#include "core/engine.h"
#include "core/grant.h"
#include "core/half_open.h"
#include "core/incast.h"
#include "core/memory.h"
#include "core/pace.h"
#include "core/srpt.h"
#include "core/stateless.h"
#include "core/stats.h"

enum { SMT_ENGINE_MAX_CIPHERS = 4 };

struct smt_engine {
    struct smt_engine_config config;
    uint64_t farewell_at; /* when the first of the last n_farewells CLOSEs was queued */
    uint32_t n_farewells; /* within a millisecond */
    uint64_t now;
    uint64_t idle_at; /* when there was nothing to receive; 0 = not known */
    struct smt_prng prng;
    struct smt_stats stats;
    struct smt_wheel wheel;

    struct smt_pool conns, rpcs, iov_blocks, ctl_bufs, replays, flights;
    struct smt_ranges_pool ranges;
    struct smt_bufpool bufs;
    struct smt_memory memory;
    struct smt_half_open half_open;

    struct smt_map conn_map;  /* (session id, 0) */
    struct smt_conn *found;   /* the last one looked for in it, still there; or NULL */
    struct smt_map peer_map;  /* (peer's session id, address hash): handshakes and NO_SESSION */
    struct smt_chains rpc_index; /* (id with role, conn slot) */

    struct smt_keys_env keys_envs[SMT_ENGINE_MAX_CIPHERS];

    struct smt_list events;    /* struct smt_evlink */
    struct smt_list live;      /* conns, by all_link */
    struct smt_list dead;      /* closed conns, by all_link */
    struct smt_list over;      /* those that nobody holds: freed at the next call with a time */
    struct smt_list posted;    /* rpcs posted since the last call with a time, by wait_link */
    uint32_t posted_len;       /* of the last one's message; 0: there was none */
    bool posted_mixed;         /* some may be shorter than those before them */
    struct smt_list ctl_ready; /* conns with frames, by ctl.link */
    struct smt_list acks_due;  /* conns whose ACKs may leave alone, by acks.due */
    struct smt_list hs_ready;  /* conns with handshake bytes or probes, by hs_link */
    struct smt_list senders;   /* conns that sent messages of late, by sender_link */

    struct smt_bursts bursts;
    struct smt_srpt srpt;
    struct smt_pace pace;
    struct smt_grants grants;
    struct smt_incast incast;
    struct smt_asks asks;       /* of peers that were silent */
    struct smt_cutoffs cutoffs; /* ours, told to peers */
    uint64_t cutoffs_looked_at;
    struct smt_rtt path;        /* the best of all conns */
    uint32_t tx_batch;          /* bytes of a message that leave at one go lately (path.h) */
    uint64_t fill;
    uint64_t total_bytes, total_at; /* received since then */
    struct smt_stateless stateless;
    struct smt_kernel *kernel; /* of the kernel's profiles; NULL natively */

    uint8_t *scratch;          /* one record's plaintext, for the rare detour */
};

/* What conns of a cipher row share, made at its first use. NULL: no memory or too many ciphers. */
struct smt_keys_env *smt_engine_keys_env(struct smt_engine *e, const struct smt_aead *aead);

/* What control packets take. */
static inline uint8_t smt_engine_top_prio(const struct smt_engine *e)
{
    return (uint8_t)(e->config.tune.n_prios - 1);
}

/* A 64-bit digest of an address, for maps. */
uint64_t smt_engine_addr_hash(const struct smt_addr *a);

/* An rpc has a message to send from the next call with a time on. */
static inline void smt_engine_posted(struct smt_engine *e, struct smt_rpc *r)
{
    if (SMT_UNLIKELY(r->tx.len < e->posted_len))
        e->posted_mixed = true;
    e->posted_len = r->tx.len;
    smt_list_push_tail(&e->posted, &r->wait_link);
}

/* A conn has handshake bytes or a probe to send. */
void smt_engine_hs_ready(struct smt_conn *c);

#endif
