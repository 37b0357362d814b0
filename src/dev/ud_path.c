/* Paths and their address handles.
 *
 * Owns every ibv_ah of a device: how its attributes follow from a path, how many there may be, and
 * when one that packets may still refer to is destroyed. Which peers use a path is ud_peers.c's.
 * Handles of all priorities made at once would cost eight system calls for a peer that uses two. */
#include "dev/ud_path.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "dev/ud_resolve.h"

enum {
    FIRST_PATHS = 64,
    MAX_AHS = 1 << 15, /* Soft-RoCE's own limit */
    AHS_RESERVE = 64,  /* below the limit: what packets in flight may keep alive */
    STRIP_SEARCH = 64,
    HOP_LIMIT = 64,
    ECT0 = 2,
    FLOW_LABEL_MASK = 0xfffff,
};
#define RETRY_GAP (100 * SMT_MSEC)

int smt_ud_paths_init(struct smt_ud_paths *t, const struct smt_ud_port *port, struct ibv_pd *pd,
                      uint32_t max_paths, const uint64_t key[2])
{
    *t = (struct smt_ud_paths){.port = port, .pd = pd, .key = {key[0], key[1]}};
    uint32_t device_max = port->attr.max_ah > 0 ? (uint32_t)port->attr.max_ah : MAX_AHS;
    t->max_ahs = device_max < MAX_AHS ? device_max : MAX_AHS;
    smt_list_init(&t->lru);
    smt_list_init(&t->fresh);
    smt_list_init(&t->waiting);
    uint32_t first = max_paths < FIRST_PATHS ? max_paths : FIRST_PATHS;
    int r = smt_pool_init(&t->pool, sizeof(struct smt_ud_path), first, max_paths);
    if (r == 0)
        r = smt_pool_init(&t->ahs, sizeof(struct smt_ud_ah), first, t->max_ahs);
    if (r == 0)
        r = smt_map_init(&t->by_ip, key, first);
    if (r == 0)
        r = smt_map_init(&t->by_wire, key, first);
    if (r < 0)
        smt_ud_paths_fini(t);
    return r;
}

static void ah_destroy(struct smt_ud_paths *t, struct smt_ud_ah *a)
{
    /* What the driver says changes nothing: there is no use for the handle in any case. */
    (void)ibv_destroy_ah(a->ah);
    t->n_ahs--;
    smt_pool_put(&t->ahs, a);
}

static void list_destroy(struct smt_ud_paths *t, struct smt_list *list)
{
    struct smt_list *l;
    while ((l = smt_list_pop_head(list)) != NULL) {
        t->n_retired--;
        ah_destroy(t, SMT_CONTAINER_OF(l, struct smt_ud_ah, link));
    }
}

void smt_ud_paths_fini(struct smt_ud_paths *t)
{
    smt_ud_paths_renew(t);
    list_destroy(t, &t->fresh);
    list_destroy(t, &t->waiting);
    smt_map_fini(&t->by_ip);
    smt_map_fini(&t->by_wire);
    smt_pool_fini(&t->pool);
    smt_pool_fini(&t->ahs);
}

/* Two addresses are more than a key holds, so the second goes in by hash; what is found is compared
 * in full. */
static struct smt_map_key key_of(const struct smt_ud_paths *t, const struct smt_addr *ip,
                                 const struct smt_addr *local)
{
    const uint64_t words[3] = {smt_get_be64(local->ip), smt_get_be64(local->ip + 8), ip->scope};
    return (struct smt_map_key){
        smt_get_be64(ip->ip) ^ smt_ud_siphash(t->key, words, SMT_ARRAY_LEN(words)),
        smt_get_be64(ip->ip + 8),
    };
}

static struct smt_map_key key_of_gid(const uint8_t gid[16])
{
    return (struct smt_map_key){smt_get_be64(gid), smt_get_be64(gid + 8)};
}

/* No GID has a subnet prefix of 0. */
static struct smt_map_key key_of_lid(uint16_t lid)
{
    return (struct smt_map_key){0, lid};
}

static void wire_remove(struct smt_ud_paths *t, const struct smt_ud_path *path)
{
    struct smt_map_key keys[2] = {key_of_gid(path->gid), key_of_lid(path->lid)};
    for (unsigned i = 0; i < 2; i++) {
        if (smt_map_get(&t->by_wire, keys[i]) == path)
            (void)smt_map_del(&t->by_wire, keys[i]);
    }
}

/* The last one that proves a GID has it: a host with two IP addresses on one port is known by the
 * one it used last. */
static int wire_put(struct smt_ud_paths *t, struct smt_ud_path *path)
{
    int r = smt_map_put(&t->by_wire, key_of_gid(path->gid), path);
    return r < 0 ? r : smt_map_put(&t->by_wire, key_of_lid(path->lid), path);
}

static void path_free(struct smt_ud_paths *t, struct smt_ud_path *path)
{
    smt_ud_path_renew(t, path);
    if (t->port->is_ib)
        wire_remove(t, path);
    (void)smt_map_del(&t->by_ip, path->key);
    smt_list_remove(&path->lru);
    smt_pool_put(&t->pool, path);
}

static struct smt_ud_path *path_new(struct smt_ud_paths *t, struct smt_map_key key,
                                    const struct smt_addr *ip, const struct smt_addr *local)
{
    struct smt_ud_path *path = smt_pool_get(&t->pool);
    if (path == NULL)
        return NULL;
    *path = (struct smt_ud_path){.key = key, .ip = *ip, .local = *local};
    path->ip.port = path->local.port = 0;
    if (smt_map_put(&t->by_ip, key, path) < 0) {
        smt_pool_put(&t->pool, path);
        return NULL;
    }
    smt_list_push_tail(&t->lru, &path->lru);
    return path;
}

struct smt_ud_path *smt_ud_path_take(struct smt_ud_paths *t, const struct smt_addr *ip,
                                     const struct smt_addr *local, const uint8_t gid[16],
                                     uint16_t lid, uint64_t now)
{
    struct smt_map_key key = key_of(t, ip, local);
    struct smt_ud_path *path = smt_map_get(&t->by_ip, key);
    if (path != NULL &&
        (memcmp(path->ip.ip, ip->ip, 16) != 0 || memcmp(path->local.ip, local->ip, 16) != 0))
        return NULL; /* one in 2^64: this pair has to live without a path */
    if (path == NULL)
        path = path_new(t, key, ip, local);
    if (path == NULL)
        return NULL;
    if (memcmp(path->gid, gid, 16) != 0 || path->lid != lid) {
        smt_ud_path_renew(t, path);
        if (t->port->is_ib)
            wire_remove(t, path);
        memcpy(path->gid, gid, 16);
        path->lid = lid;
    }
    if (t->port->is_ib && wire_put(t, path) < 0) {
        if (path->n_users == 0)
            path_free(t, path);
        return NULL;
    }
    path->n_users++;
    path->proved_at = now;
    return path;
}

void smt_ud_path_drop(struct smt_ud_paths *t, struct smt_ud_path *path)
{
    assert(path->n_users > 0);
    if (--path->n_users == 0)
        path_free(t, path);
}

/* What a packet of this priority on this path carries. False when our own address is gone. */
static bool attr_fill(const struct smt_ud_paths *t, const struct smt_ud_path *path, uint8_t prio,
                      struct ibv_ah_attr *out)
{
    *out = (struct ibv_ah_attr){.port_num = t->port->number};
    if (t->port->is_ib) {
        /* Within one subnet the LID is enough, and 40 bytes a packet are saved. */
        out->dlid = path->lid;
        return true;
    }
    const struct smt_ud_gid *source = smt_ud_port_gid_of(t->port, path->local.ip);
    if (source == NULL)
        return false;
    /* One label for all priorities: it becomes the UDP source port, and so the choice among equal
     * routes, which should not differ within a message. */
    const uint64_t words[2] = {smt_get_be64(path->gid), smt_get_be64(path->gid + 8)};
    uint64_t label = smt_ud_siphash(t->key, words, SMT_ARRAY_LEN(words)) & FLOW_LABEL_MASK;
    out->is_global = 1;
    memcpy(out->grh.dgid.raw, path->gid, 16);
    out->grh.flow_label = label != 0 ? (uint32_t)label : 1;
    out->grh.sgid_index = (uint8_t)source->index;
    out->grh.hop_limit = HOP_LIMIT;
    out->grh.traffic_class = (uint8_t)(prio << 5 | ECT0);
    return true;
}

static struct smt_ud_ah *ah_new(struct smt_ud_paths *t, struct ibv_ah_attr *attr)
{
    struct smt_ud_ah *a = t->n_ahs < t->max_ahs ? smt_pool_get(&t->ahs) : NULL;
    if (a == NULL)
        return NULL;
    *a = (struct smt_ud_ah){.ah = ibv_create_ah(t->pd, attr)};
    if (a->ah == NULL) {
        smt_pool_put(&t->ahs, a);
        return NULL;
    }
    smt_list_init(&a->link);
    t->n_ahs++;
    t->n_made++;
    return a;
}

/* Near the limit the path not used for longest gives its handles back. One without any goes to the
 * end, so that those in front have some and the search is short. */
static void room_make(struct smt_ud_paths *t, const struct smt_ud_path *but)
{
    if (t->n_ahs - t->n_retired + AHS_RESERVE < t->max_ahs)
        return;
    uint32_t before = t->n_retired;
    for (unsigned i = 0; i < STRIP_SEARCH && t->n_retired == before; i++) {
        struct smt_list *l = smt_list_first(&t->lru);
        if (l == NULL)
            return;
        struct smt_ud_path *path = SMT_CONTAINER_OF(l, struct smt_ud_path, lru);
        if (path != but)
            smt_ud_path_renew(t, path);
        smt_ud_path_touch(t, path);
    }
}

static uint64_t clock_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}

struct ibv_ah *smt_ud_path_ah_make(struct smt_ud_paths *t, struct smt_ud_path *path, uint8_t prio,
                                   uint64_t now)
{
    if (now < path->retry_at)
        return NULL;
    struct ibv_ah_attr attr;
    struct smt_ud_ah *a = NULL;
    uint64_t begin = clock_now();
    room_make(t, path);
    if (attr_fill(t, path, prio, &attr))
        a = ah_new(t, &attr);
    if (a == NULL) {
        uint64_t took = clock_now() - begin;
        t->n_failed++;
        path->retry_at = now + (16 * took > RETRY_GAP ? 17 * took : RETRY_GAP);
        return NULL;
    }
    path->ah[t->port->is_ib ? 0 : prio] = a;
    path->made_at = now;
    smt_ud_path_touch(t, path);
    return a->ah;
}

void smt_ud_path_touch(struct smt_ud_paths *t, struct smt_ud_path *path)
{
    smt_list_remove(&path->lru);
    smt_list_push_tail(&t->lru, &path->lru);
}

void smt_ud_path_renew(struct smt_ud_paths *t, struct smt_ud_path *path)
{
    for (unsigned i = 0; i < SMT_UD_PRIOS; i++) {
        if (path->ah[i] == NULL)
            continue;
        smt_list_push_tail(&t->fresh, &path->ah[i]->link);
        t->n_retired++;
        path->ah[i] = NULL;
    }
    path->retry_at = 0;
}

void smt_ud_paths_renew(struct smt_ud_paths *t)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &t->lru) {
        smt_ud_path_renew(t, SMT_CONTAINER_OF(it, struct smt_ud_path, lru));
    }
}

struct smt_ud_path *smt_ud_path_of_wire(const struct smt_ud_paths *t, const uint8_t *gid,
                                        uint16_t lid)
{
    return smt_map_get(&t->by_wire, gid != NULL ? key_of_gid(gid) : key_of_lid(lid));
}

void smt_ud_paths_reap(struct smt_ud_paths *t, uint64_t posted, uint64_t done)
{
    struct smt_list *l;
    while ((l = smt_list_pop_head(&t->fresh)) != NULL) {
        SMT_CONTAINER_OF(l, struct smt_ud_ah, link)->stamp = posted;
        smt_list_push_tail(&t->waiting, l);
    }
    while ((l = smt_list_first(&t->waiting)) != NULL) {
        struct smt_ud_ah *a = SMT_CONTAINER_OF(l, struct smt_ud_ah, link);
        if (a->stamp > done)
            return;
        smt_list_remove(l);
        t->n_retired--;
        ah_destroy(t, a);
    }
}
