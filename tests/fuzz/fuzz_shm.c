/* The device `shm` beside a process of the same host that means harm: an input is a program of what
 * that one says on its connections and writes into its memory, between the victim's own calls.
 *
 * The other end is real: UNIX sockets, sealed memory, both ways of meeting. Words get the stamp
 * that the reader waits for, or nothing would come behind it. Whatever was done, packets lie in
 * memory of our own, the victim can send and receive, and when the connections have ended it has
 * no peer, no memory and no descriptor more than before. */
#include "fuzz.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "dev/shm.h"

enum {
    N_CONNS = 4,
    N_FROM = 3, /* ports that it calls itself by; the first is the one it listens on */
    MAX_STEPS = 200,
    ACCEPTED = 4, /* at least so many connections by one look of the victim, if there are */
    MAX_ROUNDS = 2 * SMT_SHM_RING / SMT_SHM_LINE, /* of receiving, until a full ring is read */
};

enum step {
    STEP_CONNECT,
    STEP_ACCEPT,
    STEP_HELLO,  /* a good one but for one byte */
    STEP_SAY,    /* any bytes, with any descriptor */
    STEP_CLOSE,
    STEP_WORD,   /* an entry where the victim reads next */
    STEP_BYTES,  /* anywhere in its memory */
    STEP_TAKEN,  /* how far it says it has read */
    STEP_SLEEPS,
    STEP_SEND,   /* the victim sends to it */
    STEP_RX,
    STEP_ARM,
    N_STEP_KINDS,
};

/* One connection of the other end. */
struct conn {
    int fd; /* -1: none */
    uint8_t *half;
    int half_fd;
};

struct reader {
    const uint8_t *p;
    size_t left;
};

static struct smt_dev inner;
static struct smt_dev *victim;
static struct smt_shm *shm;
static struct smt_addr self, others[N_FROM]; /* addresses of the victim and of the other end */
static int listener = -1, plain_fd = -1, odd_fd = -1;
static struct conn conns[N_CONNS];
static unsigned n_connected; /* in this input; the victim may not have looked at all of them */

static uint8_t take8(struct reader *r)
{
    if (r->left == 0)
        return 0;
    r->left--;
    return *r->p++;
}

static uint64_t take(struct reader *r, unsigned n_bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n_bytes; i++)
        v = v << 8 | take8(r);
    return v;
}

/* ---- a device that carries nothing, under the victim ---- */

static uint16_t inner_port(struct smt_dev *dev)
{
    (void)dev;
    return self.port;
}

static void inner_close(struct smt_dev *dev)
{
    (void)dev;
}

static uint8_t *inner_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                              uint8_t prio)
{
    static uint8_t place[SMT_DEV_MAX_PACKET];
    (void)dev;
    (void)to;
    (void)prio;
    FUZZ_CHECK(len <= sizeof(place));
    return place;
}

static void inner_unreserve(struct smt_dev *dev)
{
    (void)dev;
}

static int inner_nothing(struct smt_dev *dev)
{
    (void)dev;
    return 0;
}

static int inner_no_fd(struct smt_dev *dev)
{
    (void)dev;
    return -1;
}

static int inner_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    (void)dev;
    (void)pkts;
    (void)n;
    return 0;
}

static uint32_t inner_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    (void)dev;
    (void)to;
    return 1472;
}

static const struct smt_dev_ops inner_ops = {
    .name = "nothing",
    .close = inner_close,
    .tx_reserve = inner_reserve,
    .tx_unreserve = inner_unreserve,
    .tx_flush = inner_nothing,
    .rx = inner_rx,
    .mtu = inner_mtu,
    .fd = inner_no_fd,
    .arm = inner_nothing,
    .port = inner_port,
};

/* ---- the other end ---- */

/* A free port of loopback, held for the life of the process: names are made of ports. */
static uint16_t port_hold(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(s >= 0 && bind(s, (struct sockaddr *)&sa, len) == 0);
    FUZZ_CHECK(getsockname(s, (struct sockaddr *)&sa, &len) == 0);
    return ntohs(sa.sin_port);
}

static socklen_t name_of(uint16_t port, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(sa->sun_path + 1, sizeof(sa->sun_path) - 1,
                       "smt-shm/1/%u/::ffff:127.0.0.1%%0", port);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
}

static struct smt_addr loopback(uint16_t port)
{
    return (struct smt_addr){
        .ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
        .port = port,
    };
}

static void open_once(void)
{
    struct sockaddr_un name;
    self = loopback(port_hold());
    for (unsigned i = 0; i < N_FROM; i++)
        others[i] = loopback(port_hold());
    smt_dev_init(&inner, &inner_ops);
    const struct smt_dev_config config = {.spec = "shm", .bind_host = "127.0.0.1"};
    FUZZ_CHECK(smt_shm_wrap(&config, &inner, &victim) == 0);
    shm = SMT_CONTAINER_OF(victim, struct smt_shm, base);
    FUZZ_CHECK(shm->listener >= 0);
    listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = name_of(others[0].port, &name);
    FUZZ_CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&name, len) == 0);
    FUZZ_CHECK(listen(listener, N_CONNS) == 0);
    plain_fd = memfd_create("plain", MFD_CLOEXEC);
    odd_fd = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    FUZZ_CHECK(plain_fd >= 0 && ftruncate(plain_fd, SMT_SHM_HALF) == 0 && odd_fd >= 0);
    for (unsigned i = 0; i < N_CONNS; i++)
        conns[i].fd = -1;
}

static void conn_close(struct conn *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    close(c->half_fd);
    smt_shm_half_free(c->half);
    c->fd = -1;
}

static void conn_begin(struct conn *c, int fd)
{
    conn_close(c);
    if (fd < 0)
        return;
    FUZZ_CHECK(smt_shm_half_new(&c->half, &c->half_fd) == 0);
    c->fd = fd;
}

static int name_connect(void)
{
    struct sockaddr_un name;
    socklen_t len = name_of(self.port, &name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(fd >= 0);
    if (connect(fd, (struct sockaddr *)&name, len) == 0) {
        n_connected++;
        return fd;
    }
    close(fd); /* its queue is full */
    return -1;
}

static void say(const struct conn *c, const void *what, size_t len, const int *fds, unsigned n_fds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)what, .iov_len = len};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&m);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
    }
    (void)sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void say_hello(const struct conn *c, struct reader *r)
{
    uint8_t how = take8(r), at = take8(r), what = take8(r);
    struct smt_shm_hello h = {
        .magic = SMT_SHM_MAGIC,
        .kind = (how & 1) != 0 ? SMT_SHM_WELCOME : SMT_SHM_HELLO,
        .half_len = SMT_SHM_HALF,
        .from = others[(how >> 1) % N_FROM],
        .to = self,
    };
    if ((how & 0x80) != 0) { /* one of five */
        h.kind += SMT_SHM_HELLO_ONE_OF - SMT_SHM_HELLO;
        h.number = how >> 4 & 3;
        h.share = 5;
    }
    if (at < sizeof(h))
        ((uint8_t *)&h)[at] ^= what;
    say(c, &h, sizeof(h), &c->half_fd, 1);
}

static void say_bytes(const struct conn *c, struct reader *r)
{
    uint8_t bytes[2 * sizeof(struct smt_shm_hello)];
    size_t len = take8(r) % sizeof(bytes);
    uint8_t how = take8(r);
    const int any[] = {c->half_fd, plain_fd, odd_fd, c->fd};
    const int fds[] = {any[how & 3], any[how >> 2 & 3], any[how >> 4 & 3]};
    for (size_t i = 0; i < len; i++)
        bytes[i] = take8(r);
    say(c, bytes, len, fds, how >> 6);
}

/* The victim's end of a connection that shares memory, if there is one. */
static const struct smt_shm_peer *end_of(const struct conn *c)
{
    for (unsigned i = 0; i < shm->n_peers; i++) {
        const struct smt_shm_peer *p = shm->live[i];
        if (p->state != SMT_SHM_UP && p->state != SMT_SHM_DRAIN)
            continue;
        /* One that has read the same memory: its first page is known by a mark of ours. */
        uint64_t mark;
        memcpy(&mark, p->theirs + SMT_SHM_PAGE - sizeof(mark), sizeof(mark));
        if (mark == (uint64_t)(c - conns) + 1)
            return p;
    }
    return NULL;
}

static void word_put(const struct conn *c, struct reader *r)
{
    uint32_t low = (uint32_t)take(r, 4);
    uint8_t skew = take8(r);
    const struct smt_shm_peer *p = end_of(c);
    uint64_t at = (p != NULL ? p->in.at : 0) + (uint64_t)(skew & 15) * SMT_SHM_LINE;
    uint32_t stamp = (uint32_t)(at / SMT_SHM_LINE) | 1u << 31;
    uint64_t word = (uint64_t)stamp << 32 | low;
    memcpy(c->half + SMT_SHM_PAGE + (at & (SMT_SHM_RING - 1)), &word, sizeof(word));
}

static void bytes_put(const struct conn *c, struct reader *r)
{
    size_t at = (size_t)take(r, 3) % SMT_SHM_HALF, len = take8(r);
    for (; len > 0 && at < SMT_SHM_HALF; len--)
        c->half[at++] = take8(r);
}

static void taken_put(const struct conn *c, struct reader *r)
{
    uint8_t how = take8(r);
    const struct smt_shm_peer *p = end_of(c);
    uint64_t taken = take(r, 8);
    if ((how & 1) != 0) /* near what was sent */
        taken = (p != NULL ? p->out.sent : 0) + (uint64_t)(int64_t)(int8_t)taken * SMT_SHM_LINE;
    memcpy(c->half + offsetof(struct smt_shm_page, taken), &taken, sizeof(taken));
}

/* ---- the victim ---- */

static void victim_sends(struct reader *r)
{
    uint8_t how = take8(r);
    size_t len = 1 + (size_t)take(r, 2) % (SMT_SHM_MTU + 100);
    const struct smt_addr *to = &others[how % N_FROM];
    for (unsigned n = how >> 4; n > 0; n--) {
        uint8_t *p = victim->ops->tx_reserve(victim, to, len, 0);
        FUZZ_CHECK(p != NULL);
        p[0] = p[len - 1] = how;
        if ((how & 8) != 0)
            victim->ops->tx_unreserve(victim);
    }
    FUZZ_CHECK(victim->ops->tx_flush(victim) == 0);
}

static unsigned victim_receives(void)
{
    struct smt_pkt pkts[32];
    unsigned sum = 0;
    int n = victim->ops->rx(victim, pkts, 32);
    FUZZ_CHECK(n >= 0 && n <= 32);
    for (int i = 0; i < n; i++) {
        FUZZ_CHECK(pkts[i].len > 0 && pkts[i].len <= SMT_DEV_MAX_PACKET);
        FUZZ_CHECK(pkts[i].data >= shm->rx_mem &&
                   pkts[i].data + pkts[i].len <= shm->rx_mem + SMT_SHM_RX_MEM);
        sum += pkts[i].data[0] + pkts[i].data[pkts[i].len - 1] + pkts[i].from->port;
    }
    return sum;
}

static void victim_looks(void)
{
    (void)victim->ops->arm(victim);
    victim_receives();
}

/* All that stays is what was there before. */
static void all_end(void)
{
    for (unsigned i = 0; i < N_CONNS; i++)
        conn_close(&conns[i]);
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0)
        close(fd);
    FUZZ_CHECK(victim->ops->tx_flush(victim) == 0);
    for (unsigned i = 0; shm->n_peers > 0 || n_connected > 0; i++) {
        victim_looks();
        n_connected = n_connected > ACCEPTED ? n_connected - ACCEPTED : 0;
        FUZZ_CHECK(i < MAX_ROUNDS);
    }
    FUZZ_CHECK(shm->n_waiting == 0 && shm->n_touched == 0 && shm->pending == NULL);
    for (unsigned i = 0; i < SMT_SHM_SLOTS; i++)
        FUZZ_CHECK(shm->by_addr[i] == 0);
    memset(shm->misses, 0, sizeof(shm->misses));
}

static void step(struct reader *r)
{
    uint8_t what = take8(r);
    struct conn *c = &conns[(what >> 4) % N_CONNS];
    enum step kind = (enum step)(what & 15);
    uint64_t mark = (uint64_t)(c - conns) + 1;
    switch (kind) {
    case STEP_CONNECT:
    case STEP_ACCEPT:
        conn_begin(c, kind == STEP_CONNECT ? name_connect()
                                           : accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        if (c->fd >= 0)
            memcpy(c->half + SMT_SHM_PAGE - sizeof(mark), &mark, sizeof(mark));
        return;
    case STEP_SEND:
        victim_sends(r);
        return;
    case STEP_RX:
        victim_receives();
        return;
    case STEP_ARM:
        victim_looks();
        return;
    default:
        break;
    }
    if (c->fd < 0)
        return;
    switch (kind) {
    case STEP_HELLO:
        say_hello(c, r);
        break;
    case STEP_SAY:
        say_bytes(c, r);
        break;
    case STEP_CLOSE:
        conn_close(c);
        break;
    case STEP_WORD:
        word_put(c, r);
        break;
    case STEP_BYTES:
        bytes_put(c, r);
        break;
    case STEP_TAKEN:
        taken_put(c, r);
        break;
    case STEP_SLEEPS:
        c->half[offsetof(struct smt_shm_page, sleeps)] = take8(r);
        break;
    default:
        break;
    }
}

/* A descriptor that was left open would be below it. */
static int first_free_fd(void)
{
    int fd = dup(plain_fd);
    FUZZ_CHECK(fd >= 0);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (victim == NULL)
        open_once();
    int first_free = first_free_fd();
    struct reader r = {data, size};
    for (unsigned i = 0; i < MAX_STEPS && r.left > 0; i++)
        step(&r);
    all_end();
    FUZZ_CHECK(first_free_fd() == first_free);
    return 0;
}
