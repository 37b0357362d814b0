/* How two ends on one host find each other and exchange their halves.
 *
 * Each listens on an abstract UNIX socket named by its port and the address it is bound to. Such
 * names belong to the network namespace as ports do, reach nobody on another host, and are gone
 * with their owner. Who wants to send connects, looks at whose process it is, sends a HELLO with
 * its half and begins to write there; the other accepts, looks at whose process it is, and answers
 * by a WELCOME with its own half. Afterwards the connection carries single bytes that wake who
 * sleeps, and its end says that the other is dead.
 *
 * Where several endpoints share a port each has a name with its number. Who does not know of them
 * finds the plain name free, goes to number 0 and is told by its WELCOME how many there are; what
 * there is to send goes the inner way meanwhile. Then he goes to each as packets for it come up.
 *
 * (An eventfd would wake for less, and was not taken: its writer can be made to block for ever by
 * who has the other end. A send that is told not to wait never waits.) */
#include "dev/shm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dev/machine.h"

enum {
    BACKLOG = 64,
    ACCEPTS = 8, /* a look */
    BELLS = 64,  /* of a peer, the same */
    EVENTS = 16,
    UID_OVERFLOW = 65534, /* how users appear that our user namespace does not know */
    NAME_LEN = 96,
    ALONE = -1,
};
#define PATIENCE (1 * SMT_SEC)

/* The name of the endpoint with this port, bound to its address or to all of them; of several on
 * the port that with this number, or ALONE. */
static socklen_t name_make(const struct smt_addr *addr, bool is_bound, int number,
                           struct sockaddr_un *out)
{
    char text[INET6_ADDRSTRLEN + 12] = "any", suffix[12] = "";
    if (is_bound) {
        char ip[INET6_ADDRSTRLEN];
        inet_ntop(AF_INET6, addr->ip, ip, sizeof(ip));
        snprintf(text, sizeof(text), "%s%%%" PRIu32, ip, addr->scope);
    }
    if (number != ALONE)
        snprintf(suffix, sizeof(suffix), "#%d", number);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(out->sun_path + 1, NAME_LEN, "smt-shm/1/%u/%s%s", addr->port, text, suffix);
    assert(len > 0 && len < NAME_LEN);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

static int watch(const struct smt_shm *d, int fd, uint32_t tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = tag};
    return epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

void smt_shm_listen(struct smt_shm *d)
{
    struct sockaddr_un sa;
    int number = d->share > 0 ? d->number : ALONE;
    socklen_t len = name_make(&d->bound, d->is_bound, number, &sa);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0)
        return;
    if (bind(s, (const struct sockaddr *)&sa, len) < 0 || listen(s, BACKLOG) < 0 ||
        watch(d, s, SMT_SHM_TAG_LISTENER) < 0) {
        close(s);
        return;
    }
    d->listener = s;
}

/* A process that could do as it likes with ours anyway: the same user's, or the system's. */
static bool is_trusted(const struct smt_shm *d, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    return d->any_user || cred.uid == 0 || (cred.uid == geteuid() && cred.uid != UID_OVERFLOW);
}

static bool hello_send(int fd, const struct smt_shm_hello *h, int half_fd)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)h, .iov_len = sizeof(*h)};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))] = {0};
    struct msghdr m = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &half_fd, sizeof(half_fd));
    return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*h);
}

/* Our half, to the peer, with what we say of ourselves. */
static int half_give(const struct smt_shm *d, struct smt_shm_peer *p, bool is_hello,
                     const struct smt_addr *from)
{
    static const uint32_t kinds[2][2] = {
        {SMT_SHM_WELCOME, SMT_SHM_WELCOME_ONE_OF},
        {SMT_SHM_HELLO, SMT_SHM_HELLO_ONE_OF},
    };
    const struct smt_shm_hello h = {
        .magic = SMT_SHM_MAGIC,
        .kind = kinds[is_hello][d->share > 0],
        .half_len = SMT_SHM_HALF,
        .number = d->number,
        .share = d->share,
        .from = *from,
        .to = p->addr,
    };
    int fd;
    int r = smt_shm_half_new(&p->ours, &fd);
    if (r < 0)
        return r;
    smt_shm_out_init(&p->out, p->ours);
    if (!hello_send(p->fd, &h, fd))
        r = SMT_ESYSTEM;
    close(fd);
    return r;
}

/* A connection to the name of an address, or -1. */
static int name_connect(const struct smt_addr *to, bool is_bound, int number)
{
    struct sockaddr_un sa;
    socklen_t len = name_make(to, is_bound, number, &sa);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -1;
    if (connect(s, (const struct sockaddr *)&sa, len) < 0) {
        close(s);
        return -1;
    }
    return s;
}

static int any_name_connect(const struct smt_addr *to, int number)
{
    int s = name_connect(to, true, number);
    return s < 0 ? name_connect(to, false, number) : s;
}

struct smt_shm_peer *smt_shm_ask(struct smt_shm *d, const struct smt_addr *to, uint8_t number,
                                 uint8_t share, const char **why)
{
    int s = share == 0 ? any_name_connect(to, ALONE) : -1;
    bool is_one_of = s < 0;
    if (s < 0)
        s = any_name_connect(to, number);
    if (s < 0) {
        *why = "it does not offer shared memory, or is in another namespace";
        return NULL;
    }
    struct smt_shm_peer *p = NULL;
    if (!is_trusted(d, s)) {
        *why = "it belongs to another user";
    } else {
        p = smt_shm_peer_new(d, s, SMT_SHM_AWAIT_WELCOME);
        *why = p == NULL ? "there are too many peers on this host" : NULL;
    }
    if (p == NULL) {
        close(s);
        return NULL;
    }
    p->addr = *to;
    p->is_asked = true;
    p->is_one_of = is_one_of;
    p->number = number;
    p->share = share;
    struct smt_addr from = d->bound;
    bool is_known = d->is_bound || smt_path_local(to, NULL, &from);
    from.port = d->bound.port;
    if (!is_known || half_give(d, p, true, &from) < 0 ||
        watch(d, s, (uint32_t)(p - d->peers)) < 0) {
        *why = "no shared memory is to be had";
        smt_shm_peer_end(d, p);
        return NULL;
    }
    smt_shm_peer_enter(d, p);
    return p;
}

void smt_shm_ring_bell(const struct smt_shm_peer *p)
{
    /* Its queue is full: then it has been rung for. Dead: the look at the sockets finds it. */
    static const uint8_t bell;
    (void)send(p->fd, &bell, sizeof(bell), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* One message of the connection, with at most one descriptor, -1: none. Its length; 0: the end of
 * the connection or nonsense; -1: nothing there. */
static ssize_t message_take(int s, struct smt_shm_hello *h, int *fd)
{
    struct iovec iov = {.iov_base = h, .iov_len = sizeof(*h)};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
    struct msghdr m = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    *fd = -1;
    ssize_t n = recvmsg(s, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    bool is_odd = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_fds; i++) {
            int got;
            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(got));
            if (*fd >= 0) {
                close(got);
                is_odd = true;
            } else {
                *fd = got;
            }
        }
    }
    return is_odd ? 0 : n;
}

/* May somebody call himself so? An endpoint of this host, and not ourselves. */
static bool from_is_good(struct smt_shm *d, const struct smt_addr *from)
{
    if (from->port == 0 || from->zero != 0)
        return false;
    return smt_shm_is_local(d, from);
}

/* Is it the first message that is awaited, and does it say who it is? */
static bool hello_is_good(const struct smt_shm_peer *p, const struct smt_shm_hello *h)
{
    if (h->magic != SMT_SHM_MAGIC || h->half_len != SMT_SHM_HALF)
        return false;
    bool is_one_of = h->kind == SMT_SHM_HELLO_ONE_OF || h->kind == SMT_SHM_WELCOME_ONE_OF;
    if (is_one_of && (h->share < 2 || h->number >= h->share))
        return false;
    if (p->state != SMT_SHM_AWAIT_WELCOME)
        return h->kind == SMT_SHM_HELLO || h->kind == SMT_SHM_HELLO_ONE_OF;
    if (h->kind != SMT_SHM_WELCOME && h->kind != SMT_SHM_WELCOME_ONE_OF)
        return false;
    return is_one_of == p->is_one_of && (!is_one_of || h->number == p->number);
}

/* Their half has come. False: not as it must be. */
static bool half_take(struct smt_shm *d, struct smt_shm_peer *p, const struct smt_shm_hello *h,
                      int fd)
{
    bool is_asked = p->state == SMT_SHM_AWAIT_WELCOME;
    if (fd < 0 || !hello_is_good(p, h))
        return false;
    if (!is_asked && (!from_is_good(d, &h->from) || h->to.port != d->bound.port))
        return false;
    if (smt_shm_half_map(fd, &p->theirs) < 0)
        return false;
    if (!is_asked) {
        p->addr = h->from;
        p->is_one_of = h->kind == SMT_SHM_HELLO_ONE_OF;
        p->number = p->is_one_of ? h->number : 0;
        if (half_give(d, p, false, &h->to) < 0)
            return false;
    }
    smt_shm_in_init(&p->in, p->theirs, p->ours);
    p->out.peer = (const struct smt_shm_page *)(const void *)p->theirs;
    p->share = p->is_one_of ? h->share : 0;
    p->state = SMT_SHM_UP;
    d->n_waiting--;
    if (is_asked)
        return true;
    /* Whoever asks again has forgotten the last time; if both asked, each keeps his own. */
    const struct smt_shm_peer *other = smt_shm_member_at(d, &p->addr, p->number);
    if (other == NULL || !other->is_asked)
        smt_shm_peer_enter(d, p);
    return true;
}

/* One message of a connection. False: there is no more. */
static bool peer_read_one(struct smt_shm *d, struct smt_shm_peer *p)
{
    struct smt_shm_hello h;
    int fd;
    ssize_t n = message_take(p->fd, &h, &fd);
    bool is_waiting = p->state == SMT_SHM_AWAIT_HELLO || p->state == SMT_SHM_AWAIT_WELCOME;
    bool is_good = n == 1 && fd < 0;
    if (n == (ssize_t)sizeof(h) && is_waiting)
        is_good = half_take(d, p, &h, fd);
    if (fd >= 0)
        close(fd);
    if (!is_good && n >= 0)
        smt_shm_peer_end(d, p);
    return is_good;
}

/* All bells, or they would wake us again. */
static void peer_read(struct smt_shm *d, struct smt_shm_peer *p)
{
    for (unsigned i = 0; i < BELLS && peer_read_one(d, p); i++)
        ;
}

static void accept_all(struct smt_shm *d)
{
    for (unsigned i = 0; i < ACCEPTS; i++) {
        int s = accept4(d->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s < 0)
            return;
        struct smt_shm_peer *p =
            is_trusted(d, s) ? smt_shm_peer_new(d, s, SMT_SHM_AWAIT_HELLO) : NULL;
        if (p == NULL) {
            close(s);
            continue;
        }
        if (watch(d, s, (uint32_t)(p - d->peers)) < 0)
            smt_shm_peer_end(d, p);
        else
            peer_read(d, p);
    }
}

/* Who does not go on with what it began. */
static void waiting_expire(struct smt_shm *d)
{
    for (unsigned i = 0; i < d->n_peers; i++) {
        struct smt_shm_peer *p = d->live[i];
        bool is_waiting = p->state == SMT_SHM_AWAIT_HELLO || p->state == SMT_SHM_AWAIT_WELCOME;
        if (is_waiting && p->until == 0)
            p->until = d->now + PATIENCE;
        else if (is_waiting && d->now > p->until)
            smt_shm_peer_end(d, p);
    }
}

void smt_shm_look(struct smt_shm *d)
{
    struct epoll_event events[EVENTS];
    d->now = smt_coarse_now();
    int n = epoll_wait(d->epoll_fd, events, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        uint32_t tag = events[i].data.u32;
        if (tag == SMT_SHM_TAG_LISTENER)
            accept_all(d);
        else if (tag == SMT_SHM_TAG_ADDRESSES)
            smt_shm_addresses_changed(d);
        else if (tag == SMT_SHM_TAG_INNER)
            d->hot = d->hot > 0 ? d->hot : 1;
        else if (d->peers[tag].state != SMT_SHM_FREE && d->peers[tag].state < SMT_SHM_DRAIN)
            peer_read(d, &d->peers[tag]);
    }
    if (d->n_waiting > 0)
        waiting_expire(d);
}
