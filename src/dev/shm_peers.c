/* Who is reached by shared memory: the table of peers by address, the addresses of this machine,
 * and who could not be reached and is left alone for a while.
 *
 * A destination that is not on this machine costs one look into the set of addresses; the set is
 * read anew when the kernel says that it has changed. */
#include "dev/shm.h"

#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_LOCALS = SMT_SHM_SLOTS / 2 };
#define MISS_TIME (200 * SMT_MSEC)

static uint32_t ip_hash(const uint8_t ip[16])
{
    uint64_t a, b;
    memcpy(&a, ip, 8);
    memcpy(&b, ip + 8, 8);
    return (uint32_t)((a ^ b * 3) * 0x9e3779b97f4a7c15ull >> 40);
}

static uint32_t addr_hash(const struct smt_addr *a)
{
    return ip_hash(a->ip) ^ a->port * 0x9e37u;
}

/* ---- the machine's addresses ---- */

static void local_add(struct smt_shm_locals *l, const uint8_t ip[16])
{
    if (l->n >= MAX_LOCALS)
        return;
    uint32_t i = ip_hash(ip) % SMT_SHM_SLOTS;
    while (l->slots[i].is_used) {
        if (memcmp(l->slots[i].ip, ip, 16) == 0)
            return;
        i = (i + 1) % SMT_SHM_SLOTS;
    }
    memcpy(l->slots[i].ip, ip, 16);
    l->slots[i].is_used = true;
    l->n++;
}

static void locals_load(struct smt_shm_locals *l)
{
    *l = (struct smt_shm_locals){0};
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *it = all; it != NULL; it = it->ifa_next) {
        if (it->ifa_addr == NULL ||
            (it->ifa_addr->sa_family != AF_INET && it->ifa_addr->sa_family != AF_INET6))
            continue;
        struct sockaddr_storage sa = {0};
        bool is_v4 = it->ifa_addr->sa_family == AF_INET;
        memcpy(&sa, it->ifa_addr,
               is_v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        struct smt_addr addr;
        if (smt_addr_from_sockaddr(&sa, &addr))
            local_add(l, addr.ip);
    }
    freeifaddrs(all);
}

bool smt_shm_is_local(struct smt_shm *d, const struct smt_addr *addr)
{
    struct smt_shm_locals *l = &d->locals;
    if (smt_addr_is_ipv4(addr) && addr->ip[12] == 127)
        return true;
    if (SMT_UNLIKELY(l->is_stale))
        locals_load(l);
    for (uint32_t i = ip_hash(addr->ip) % SMT_SHM_SLOTS; l->slots[i].is_used;
         i = (i + 1) % SMT_SHM_SLOTS) {
        if (memcmp(l->slots[i].ip, addr->ip, 16) == 0)
            return true;
    }
    return false;
}

int smt_shm_addresses_open(void)
{
    struct sockaddr_nl sa = {
        .nl_family = AF_NETLINK,
        .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
    };
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void smt_shm_addresses_changed(struct smt_shm *d)
{
    char text[4096];
    while (recv(d->nl, text, sizeof(text), MSG_DONTWAIT) > 0)
        ;
    d->locals.is_stale = true;
    d->last.is_valid = false;
}

/* ---- peers ---- */

static void table_build(struct smt_shm *d)
{
    memset(d->by_addr, 0, sizeof(d->by_addr));
    for (unsigned n = 0; n < d->n_peers; n++) {
        const struct smt_shm_peer *p = d->live[n];
        if (!p->is_entered)
            continue;
        uint32_t i = addr_hash(&p->addr) % SMT_SHM_SLOTS;
        while (d->by_addr[i] != 0)
            i = (i + 1) % SMT_SHM_SLOTS;
        d->by_addr[i] = (uint8_t)(p - d->peers + 1);
    }
    d->last.is_valid = false;
}

struct smt_shm_peer *smt_shm_peer_at(const struct smt_shm *d, const struct smt_addr *addr)
{
    for (uint32_t i = addr_hash(addr) % SMT_SHM_SLOTS; d->by_addr[i] != 0;
         i = (i + 1) % SMT_SHM_SLOTS) {
        const struct smt_shm_peer *p = &d->peers[d->by_addr[i] - 1];
        if (smt_addr_equal(&p->addr, addr))
            return (struct smt_shm_peer *)(uintptr_t)p;
    }
    return NULL;
}

struct smt_shm_peer *smt_shm_member_at(const struct smt_shm *d, const struct smt_addr *addr,
                                       uint8_t number)
{
    for (uint32_t i = addr_hash(addr) % SMT_SHM_SLOTS; d->by_addr[i] != 0;
         i = (i + 1) % SMT_SHM_SLOTS) {
        const struct smt_shm_peer *p = &d->peers[d->by_addr[i] - 1];
        if (p->number == number && smt_addr_equal(&p->addr, addr))
            return (struct smt_shm_peer *)(uintptr_t)p;
    }
    return NULL;
}

struct smt_shm_peer *smt_shm_peer_new(struct smt_shm *d, int fd, enum smt_shm_state state)
{
    for (unsigned i = 0; i < SMT_SHM_PEERS; i++) {
        struct smt_shm_peer *p = &d->peers[i];
        if (p->state != SMT_SHM_FREE)
            continue;
        *p = (struct smt_shm_peer){.state = state, .fd = fd};
        d->live[d->n_peers++] = p;
        d->n_waiting++;
        return p;
    }
    return NULL;
}

void smt_shm_peer_enter(struct smt_shm *d, struct smt_shm_peer *p)
{
    struct smt_shm_peer *other = smt_shm_member_at(d, &p->addr, p->number);
    if (other != NULL)
        other->is_entered = false;
    p->is_entered = true;
    table_build(d);
}

static struct smt_shm_miss *miss_slot(struct smt_shm *d, const struct smt_addr *to, uint8_t number)
{
    return &d->misses[(addr_hash(to) + number) % SMT_SHM_SLOTS];
}

static void miss_note(struct smt_shm *d, const struct smt_addr *to, uint8_t number,
                      const char *why)
{
    *miss_slot(d, to, number) = (struct smt_shm_miss){
        .addr = *to,
        .number = number,
        .until = d->now + MISS_TIME,
        .why = why,
    };
}

void smt_shm_peer_end(struct smt_shm *d, struct smt_shm_peer *p)
{
    assert(p->state != SMT_SHM_FREE && p->state < SMT_SHM_DRAIN);
    /* A forked child may have it open too: then closing alone leaves it in the set. */
    (void)epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, p->fd, NULL);
    close(p->fd);
    p->fd = -1;
    if (p->state == SMT_SHM_UP) {
        p->state = SMT_SHM_DRAIN;
        p->until = p->in.at + SMT_SHM_RING;
    } else {
        if (p->state == SMT_SHM_AWAIT_WELCOME)
            miss_note(d, &p->addr, p->number, "it did not answer when asked for shared memory");
        p->state = SMT_SHM_DONE;
        d->has_done = true;
        d->n_waiting--;
    }
    if (!p->is_entered)
        return;
    p->is_entered = false;
    for (unsigned i = 0; i < d->n_peers; i++) {
        struct smt_shm_peer *other = d->live[i];
        if (other->state == SMT_SHM_UP && other->number == p->number &&
            smt_addr_equal(&other->addr, &p->addr)) {
            other->is_entered = true;
            break;
        }
    }
    table_build(d);
}

static void peer_free(struct smt_shm_peer *p)
{
    smt_shm_half_free(p->ours);
    smt_shm_half_free(p->theirs);
    if (p->fd >= 0)
        close(p->fd);
    *p = (struct smt_shm_peer){.fd = -1};
}

void smt_shm_reap(struct smt_shm *d)
{
    d->has_done = false;
    unsigned n = 0;
    for (unsigned i = 0; i < d->n_touched; i++) {
        if (d->touched[i]->state != SMT_SHM_DONE)
            d->touched[n++] = d->touched[i];
    }
    d->n_touched = n;
    if (d->pending != NULL && d->pending->state == SMT_SHM_DONE)
        d->pending = NULL;
    d->last.is_valid = false;
    n = 0;
    for (unsigned i = 0; i < d->n_peers; i++) {
        if (d->live[i]->state == SMT_SHM_DONE)
            peer_free(d->live[i]);
        else
            d->live[n++] = d->live[i];
    }
    d->n_peers = n;
}

void smt_shm_peers_free(struct smt_shm *d)
{
    while (d->n_peers > 0)
        peer_free(d->live[--d->n_peers]);
}

/* Goes there, unless that was in vain a moment ago. */
static struct smt_shm_peer *ask(struct smt_shm *d, const struct smt_addr *to, uint8_t number,
                                uint8_t share)
{
    const struct smt_shm_miss *m = miss_slot(d, to, number);
    if (d->now < m->until && m->number == number && smt_addr_equal(&m->addr, to))
        return NULL;
    const struct smt_addr addr = *to; /* of an entry that may go */
    const char *why;
    struct smt_shm_peer *p = smt_shm_ask(d, &addr, number, share, &why);
    if (p == NULL)
        miss_note(d, &addr, number, why);
    return p;
}

struct smt_shm_peer *smt_shm_peer_find(struct smt_shm *d, const struct smt_addr *to)
{
    struct smt_shm_peer *p = smt_shm_peer_at(d, to);
    return p != NULL || !smt_shm_is_local(d, to) ? p : ask(d, to, 0, 0);
}

struct smt_shm_peer *smt_shm_member_find(struct smt_shm *d, const struct smt_shm_peer *p,
                                         uint8_t number)
{
    struct smt_shm_peer *member = smt_shm_member_at(d, &p->addr, number);
    return member != NULL ? member : ask(d, &p->addr, number, p->share);
}

const char *smt_shm_why_not(struct smt_shm *d, const struct smt_addr *to)
{
    if (smt_shm_peer_find(d, to) != NULL || !smt_shm_is_local(d, to))
        return NULL;
    return miss_slot(d, to, 0)->why;
}
