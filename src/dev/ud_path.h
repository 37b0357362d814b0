/* Paths of a `ud` device: one for each pair {IP address of a peer, address of ours}, with its
 * address handles. All ports of one host share a path.
 *
 * A handle is made when a priority is first used, one for each priority on RoCE (the traffic class
 * is part of it), one in all on InfiniBand. A handle that is given up is *retired*: destroyed once
 * reap has been told that the packets posted before that have completed. */
#ifndef SMT_DEV_UD_PATH_H
#define SMT_DEV_UD_PATH_H

#include <infiniband/verbs.h>

#include "base/addr.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "dev/ud_port.h"

enum { SMT_UD_PRIOS = 8 };

/* How long the kernel certainly remembers a neighbour it has just spoken to. */
#define SMT_UD_PROOF_AGE (10 * SMT_SEC)

struct smt_ud_ah {
    struct smt_list link; /* among the retired */
    struct ibv_ah *ah;
    uint64_t stamp; /* packets posted when it was retired */
};

struct smt_ud_path {
    struct smt_list lru; /* most recently used last */
    struct smt_map_key key;
    struct smt_addr ip, local; /* ports 0; local is zero on InfiniBand */
    uint8_t gid[16];           /* of the peer; its IP address on RoCE */
    uint16_t lid;              /* InfiniBand */
    uint32_t n_users;
    struct smt_ud_ah *ah[SMT_UD_PRIOS];
    uint64_t retry_at; /* no handle is tried before this: the last could not be made */
    uint64_t made_at;  /* when the newest handle was made */
    uint64_t proved_at; /* when the host was last known to answer there */
};

struct smt_ud_paths {
    const struct smt_ud_port *port;
    struct ibv_pd *pd;
    uint64_t key[2];        /* of hashes */
    struct smt_map by_ip;   /* and by our address */
    struct smt_map by_wire; /* InfiniBand: by GID and by LID */
    struct smt_pool pool, ahs;
    struct smt_list lru;
    struct smt_list fresh, waiting; /* retired: not stamped, stamped (oldest first) */
    uint32_t n_ahs, max_ahs, n_retired;
    uint64_t n_made, n_failed;
};

SMT_MUST_CHECK int smt_ud_paths_init(struct smt_ud_paths *t, const struct smt_ud_port *port,
                                     struct ibv_pd *pd, uint32_t max_paths, const uint64_t key[2]);

/* Destroys every handle, retired or not: the queue pairs must be gone. */
void smt_ud_paths_fini(struct smt_ud_paths *t);

/* The path of these two addresses, made if new, with one more user; GID and LID replace what was
 * known (and its handles, when they differ). NULL when there is no memory. */
struct smt_ud_path *smt_ud_path_take(struct smt_ud_paths *t, const struct smt_addr *ip,
                                     const struct smt_addr *local, const uint8_t gid[16],
                                     uint16_t lid, uint64_t now);

/* One user less; the last one takes the path away. */
void smt_ud_path_drop(struct smt_ud_paths *t, struct smt_ud_path *path);

/* True when a handle for this priority is there, or can be made without waiting: the kernel looks
 * for the neighbour's MAC address, a second long when nobody answers, and everything else of the
 * endpoint waits with it. A host that has just answered is a neighbour whom the kernel knows. */
static inline bool smt_ud_path_is_ready(const struct smt_ud_paths *t,
                                        const struct smt_ud_path *path, uint8_t prio, uint64_t now)
{
    return t->port->is_ib || path->ah[prio] != NULL || now - path->proved_at < SMT_UD_PROOF_AGE;
}

/* The handle for a priority; makes it if needed (a system call, see above). NULL when it cannot be
 * made; then not tried again before 100 ms are over, or 16 times as long as it took. */
struct ibv_ah *smt_ud_path_ah_make(struct smt_ud_paths *t, struct smt_ud_path *path, uint8_t prio,
                                   uint64_t now);

static inline struct ibv_ah *smt_ud_path_ah(struct smt_ud_paths *t, struct smt_ud_path *path,
                                            uint8_t prio, uint64_t now)
{
    const struct smt_ud_ah *a = path->ah[t->port->is_ib ? 0 : prio];
    return SMT_LIKELY(a != NULL) ? a->ah : smt_ud_path_ah_make(t, path, prio, now);
}

/* Marks it as the one used last. */
void smt_ud_path_touch(struct smt_ud_paths *t, struct smt_ud_path *path);

/* Gives up the handles of one path, or of all, so that they are made anew. */
void smt_ud_path_renew(struct smt_ud_paths *t, struct smt_ud_path *path);
void smt_ud_paths_renew(struct smt_ud_paths *t);

/* InfiniBand: who sends from this GID, or from this LID (gid NULL); NULL = nobody who proved it. */
struct smt_ud_path *smt_ud_path_of_wire(const struct smt_ud_paths *t, const uint8_t *gid,
                                        uint16_t lid);

/* See smt_ud_peers_reap. */
void smt_ud_paths_reap(struct smt_ud_paths *t, uint64_t posted, uint64_t done);

#endif
