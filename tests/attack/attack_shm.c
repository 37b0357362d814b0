/* Peers on this host that mean harm, hang or die, to the device `shm` (docs/security.md): its
 * connections are refused or closed, its memory is not believed, and another peer is served all the
 * while. In a network namespace of its own where the system lets us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/prng.h"
#include "dev/shm.h"

enum { PATIENCE_MS = 60000, N_KILLS = 50 };

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct smt_dev *dev_open(uint16_t port)
{
    char text[256];
    const struct smt_dev_config config = {.spec = "shm",
                                          .bind_host = "127.0.0.1",
                                          .port = port,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    int r = smt_dev_open(&config, &dev);
    if (r < 0)
        fail_msg("%s", text);
    return dev;
}

static struct smt_addr addr_of(uint16_t port)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve("127.0.0.1", port, &a, 1), 1);
    return a;
}

/* The victim, and a good peer of it. */
struct fixture {
    struct smt_dev *victim, *good;
    struct smt_addr to_victim, to_good;
    uint8_t n;
};

static bool send_one(struct smt_dev *dev, const struct smt_addr *to, uint8_t what, size_t len)
{
    uint8_t *p = dev->ops->tx_reserve(dev, to, len, 0);
    if (p == NULL)
        return false;
    memset(p, what, len);
    return dev->ops->tx_flush(dev) == 0;
}

/* One packet each way between the victim and the good peer. */
static void is_served(struct fixture *f)
{
    for (unsigned way = 0; way < 2; way++) {
        struct smt_dev *from = way == 0 ? f->good : f->victim;
        struct smt_dev *to = way == 0 ? f->victim : f->good;
        uint8_t what = (uint8_t)(++f->n | 0x80);
        assert_true(send_one(from, way == 0 ? &f->to_victim : &f->to_good, what, 100));
        uint64_t end = now_ms() + PATIENCE_MS;
        for (bool got = false; !got;) {
            struct smt_pkt pkts[32];
            int n = to->ops->rx(to, pkts, 32);
            assert_true(n >= 0);
            for (int i = 0; i < n; i++) {
                for (uint32_t k = 1; k < pkts[i].len; k++)
                    (void)*(volatile uint8_t *)&pkts[i].data[k];
                got |= pkts[i].len == 100 && pkts[i].data[0] == what;
            }
            assert_true(from->ops->rx(from, pkts, 32) >= 0);
            if (now_ms() > end)
                fail_msg("not served any more");
        }
    }
}

/* As around a sleep: all that came to the victim's sockets has been looked at. */
static void victim_looks(struct fixture *f)
{
    struct smt_pkt pkts[32];
    (void)f->victim->ops->arm(f->victim);
    assert_true(f->victim->ops->rx(f->victim, pkts, 32) >= 0);
    assert_true(f->victim->ops->rx(f->victim, pkts, 32) >= 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (f == NULL)
        return -1;
    f->victim = dev_open(0);
    f->good = dev_open(0);
    f->to_victim = addr_of(f->victim->ops->port(f->victim));
    f->to_good = addr_of(f->good->ops->port(f->good));
    *state = f;
    is_served(f);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->victim->ops->close(f->victim);
    f->good->ops->close(f->good);
    free(f);
    return 0;
}

static struct smt_shm *shm_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_shm, base);
}

/* ---- a peer made by hand ---- */

static int name_connect(uint16_t port)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int len = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "smt-shm/1/%u/::ffff:127.0.0.1%%0",
                       port);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(s >= 0);
    if (connect(s, (struct sockaddr *)&sa,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0) {
        close(s);
        return -1;
    }
    return s;
}

static void say(int s, const void *what, size_t len, const int *fds, unsigned n_fds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)what, .iov_len = len};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > 0) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    (void)sendmsg(s, &m, MSG_NOSIGNAL);
}

static struct smt_shm_hello hello_good(const struct fixture *f)
{
    struct smt_shm_hello h = {
        .magic = SMT_SHM_MAGIC,
        .kind = SMT_SHM_HELLO,
        .half_len = SMT_SHM_HALF,
        .from = addr_of(9),
        .to = f->to_victim,
    };
    return h;
}

static int memfd(size_t len, int seals)
{
    int fd = memfd_create("half", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)len) == 0);
    if (seals != 0)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static unsigned n_fds_open(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* The victim has thrown it out. */
static void is_thrown_out(struct fixture *f, int s, const char *why)
{
    victim_looks(f);
    is_served(f);
    char byte[64];
    ssize_t n;
    while ((n = recv(s, byte, sizeof(byte), MSG_DONTWAIT)) > 0)
        ;
    if (n < 0)
        fail_msg("still connected: %s", why);
    close(s);
}

static void test_bad_hellos(void **state)
{
    struct fixture *f = *state;
    enum { FUTURE_WRITE = 0x10, ALL = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | FUTURE_WRITE };
    is_served(f);
    unsigned before = n_fds_open();
    const struct smt_shm_hello good = hello_good(f);
    for (unsigned i = 0; i < 17; i++) {
        struct smt_shm_hello h = good;
        size_t len = sizeof(h), half = SMT_SHM_HALF;
        int seals = ALL;
        unsigned n_fds = 1;
        static const char *const names[] = {
            "magic",    "kind",       "length said",  "no port",     "not of this machine",
            "to",       "half short", "half long",    "no seals",    "may shrink",
            "writable", "no half",    "two halves",   "cut",         "a byte with a half",
            "not a memfd", "a welcome without being asked",
        };
        switch (i) {
        case 0: h.magic++; break;
        case 1: h.kind = 7; break;
        case 2: h.half_len *= 2; break;
        case 3: h.from.port = 0; break;
        case 4: h.from.ip[12] = 8; break;
        case 5: h.to.port++; break;
        case 6: half -= 4096; break;
        case 7: half += 4096; break;
        case 8: seals = 0; break;
        case 9: seals &= ~F_SEAL_SHRINK; break;
        case 10: seals &= ~FUTURE_WRITE; break;
        case 11: n_fds = 0; break;
        case 12: n_fds = 2; break;
        case 13: len--; break;
        case 14: len = 1; break;
        case 15: break;
        default: h.kind = SMT_SHM_WELCOME; break;
        }
        int s = name_connect(f->to_victim.port);
        assert_true(s >= 0);
        int fd = i == 15 ? open("/proc/self/exe", O_RDONLY | O_CLOEXEC) : memfd(half, seals);
        const int fds[2] = {fd, fd};
        say(s, &h, len, fds, n_fds);
        close(fd);
        is_thrown_out(f, s, names[i]);
    }
    assert_int_equal(n_fds_open(), before);
}

static int attach_as(struct fixture *f, const struct smt_addr *from, uint8_t **half, int *s)
{
    *s = name_connect(f->to_victim.port);
    if (*s < 0)
        return -1;
    int fd;
    assert_int_equal(smt_shm_half_new(half, &fd), 0);
    struct smt_shm_hello h = hello_good(f);
    h.from = *from;
    say(*s, &h, sizeof(h), &fd, 1);
    close(fd);
    victim_looks(f);
    return 0;
}

/* The good hello of the same hand is taken, so that the others were refused for what they were. */
static int attach(struct fixture *f, uint8_t **half, int *s)
{
    const struct smt_addr from = addr_of(9);
    int r = attach_as(f, &from, half, s);
    if (r == 0)
        is_served(f);
    return r;
}

static void test_good_hello(void **state)
{
    struct fixture *f = *state;
    uint8_t *half;
    int s;
    unsigned before = shm_of(f->victim)->n_peers;
    assert_int_equal(attach(f, &half, &s), 0);
    assert_int_equal(shm_of(f->victim)->n_peers, before + 1);
    struct smt_shm_hello h;
    assert_int_equal(recv(s, &h, sizeof(h), MSG_DONTWAIT), sizeof(h));
    assert_int_equal(h.kind, SMT_SHM_WELCOME);
    close(s);
    victim_looks(f);
    assert_int_equal(shm_of(f->victim)->n_peers, before);
    smt_shm_half_free(half);
}

/* One that calls itself by the good peer's address gets what is sent there, for as long as it is
 * there; not where the victim itself went to the good one. */
static void test_impostor(void **state)
{
    struct fixture *f = *state;
    for (unsigned turn = 0; turn < 2; turn++) {
        uint8_t *half;
        int s;
        assert_int_equal(attach_as(f, &f->to_good, &half, &s), 0);
        const struct smt_shm_peer *p = smt_shm_peer_at(shm_of(f->victim), &f->to_good);
        assert_non_null(p);
        assert_int_equal(p->is_asked, turn);
        if (turn > 0)
            is_served(f);
        close(s);
        victim_looks(f);
        is_served(f);
        smt_shm_half_free(half);
        if (turn > 0)
            return;
        /* The good one begins anew, and the victim goes to it. */
        f->good->ops->close(f->good);
        victim_looks(f);
        f->good = dev_open(0);
        f->to_good = addr_of(f->good->ops->port(f->good));
        assert_true(send_one(f->victim, &f->to_good, 1, 100));
        is_served(f);
    }
}

/* The victim's half, as a peer gets it, cannot be written, nor made so, nor shortened. */
static void test_half_is_read_only(void **state)
{
    (void)state;
    uint8_t *half;
    int fd;
    assert_int_equal(smt_shm_half_new(&half, &fd), 0);
    assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(mprotect(p, 4096, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    half[0] = 7;
    assert_int_equal(*(volatile uint8_t *)p, 7);
    munmap(p, 4096);
    close(fd);
    smt_shm_half_free(half);
}

/* Connections without a word: they have their places for a second, no more than there are, and
 * peers that are there do not notice. */
static void test_too_many(void **state)
{
    struct fixture *f = *state;
    enum { MANY = 200 };
    int s[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        s[i] = name_connect(f->to_victim.port);
        victim_looks(f);
        is_served(f);
        assert_true(shm_of(f->victim)->n_peers <= SMT_SHM_PEERS);
    }
    assert_int_equal(shm_of(f->victim)->n_peers, SMT_SHM_PEERS);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (shm_of(f->victim)->n_peers > 1) {
        victim_looks(f);
        is_served(f);
        assert_true(now_ms() < end);
    }
    for (unsigned i = 0; i < MANY; i++) {
        if (s[i] >= 0)
            close(s[i]);
    }
}

/* Writes nonsense into its half as fast as it can, some of it nearly right. */
static void scribble(uint8_t *half, int s, uint64_t seed)
{
    struct smt_prng g;
    smt_prng_seed(&g, seed);
    uint64_t at = 0;
    for (;;) {
        uint64_t low = smt_prng_next64(&g) >> smt_prng_below(&g, 64) & 0xffffffff;
        if (smt_prng_below(&g, 4) > 0)
            low = 1 + smt_prng_below(&g, 3000);
        if (smt_prng_below(&g, 200) == 0)
            low = 1u << 30;
        uint64_t word = (uint64_t)((uint32_t)(at / 64) | 1u << 31) << 32 | low;
        volatile uint64_t *place = (volatile uint64_t *)(void *)(half + SMT_SHM_PAGE +
                                                                  at % SMT_SHM_RING);
        *place = word;
        /* Another length the next moment. */
        if (smt_prng_below(&g, 2) == 0)
            *place = word ^ smt_prng_below(&g, 1 << 16);
        uint64_t *words = (uint64_t *)(void *)half;
        if (smt_prng_below(&g, 50) == 0)
            __atomic_store_n(&words[smt_prng_below(&g, 16)], smt_prng_next64(&g), __ATOMIC_RELAXED);
        at += smt_prng_below(&g, 8) == 0 ? SMT_SHM_RING - at % SMT_SHM_RING
                                         : (8 + low % 3000 + 63) & ~63ull;
        if (smt_prng_below(&g, 100) == 0)
            (void)send(s, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* A child process that lives until it is killed, and dies with us. */
static pid_t child_begin(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static void child_kill(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_scribbler(void **state)
{
    struct fixture *f = *state;
    struct smt_addr to_bad = addr_of(9);
    for (unsigned round = 0; round < 20; round++) {
        uint8_t *half;
        int s;
        assert_int_equal(attach(f, &half, &s), 0);
        pid_t pid = child_begin();
        if (pid == 0)
            scribble(half, s, round + 1);
        for (unsigned i = 0; i < 300; i++) {
            is_served(f);
            assert_true(send_one(f->victim, &to_bad, 1, 20000));
        }
        child_kill(pid);
        close(s);
        smt_shm_half_free(half);
    }
    victim_looks(f);
    is_served(f);
    assert_int_equal(shm_of(f->victim)->n_peers, 1);
}

/* ---- peers that hang or die ---- */

/* Sends back whatever comes, and to `to` without being asked. */
static void echo_run(uint16_t port, const struct smt_addr *to, bool is_sleeper)
{
    struct smt_dev *dev = dev_open(port);
    for (unsigned k = 0;; k++) {
        struct smt_pkt pkts[32];
        int n = dev->ops->rx(dev, pkts, 32);
        for (int i = 0; i < n; i++) {
            uint8_t *p = dev->ops->tx_reserve(dev, pkts[i].from, pkts[i].len, 0);
            if (p != NULL)
                memcpy(p, pkts[i].data, pkts[i].len);
        }
        if (k % 64 == 0)
            (void)send_one(dev, to, 3, 9000);
        (void)dev->ops->tx_flush(dev);
        if (is_sleeper && n == 0 && dev->ops->arm(dev) == 0)
            usleep(200);
    }
}

/* Fifty deaths in the middle of everything, each followed by a successor on the same port. */
static void test_kills(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *probe = dev_open(0);
    uint16_t port = probe->ops->port(probe);
    probe->ops->close(probe);
    struct smt_addr to = addr_of(port);
    unsigned n_by_memory = 0;
    for (unsigned round = 0; round < N_KILLS; round++) {
        pid_t pid = child_begin();
        if (pid == 0) {
            /* What the parent has open is not ours. */
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
            echo_run(port, &f->to_victim, round % 2 == 1);
        }
        uint8_t what = (uint8_t)(round + 1);
        unsigned n_back = 0;
        uint64_t end = now_ms() + PATIENCE_MS;
        while (n_back < 20 + round * 3) {
            assert_true(send_one(f->victim, &to, what, 1 + round * 300));
            struct smt_pkt pkts[32];
            int n = f->victim->ops->rx(f->victim, pkts, 32);
            assert_true(n >= 0);
            for (int i = 0; i < n; i++)
                n_back += pkts[i].len == 1 + round * 300 && pkts[i].data[0] == what;
            if (now_ms() > end)
                fail_msg("no answer after death %u", round);
        }
        n_by_memory += smt_shm_peer_at(shm_of(f->victim), &to) != NULL;
        child_kill(pid);
        is_served(f);
    }
    assert_true(n_by_memory > N_KILLS / 2);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (shm_of(f->victim)->n_peers > 1) {
        victim_looks(f);
        is_served(f);
        assert_true(now_ms() < end);
    }
}

/* Stopped, not dead: its packets are lost, everybody else is served, and it goes on later. */
static void test_stopped(void **state)
{
    struct fixture *f = *state;
    pid_t pid = child_begin();
    struct smt_dev *probe = pid != 0 ? NULL : dev_open(0);
    if (pid == 0) {
        probe->ops->close(probe);
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
        echo_run(f->to_good.port == 40404 ? 40405 : 40404, &f->to_victim, false);
    }
    struct smt_addr to = addr_of(f->to_good.port == 40404 ? 40405 : 40404);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (smt_shm_peer_at(shm_of(f->victim), &to) == NULL) {
        assert_true(send_one(f->victim, &to, 1, 100));
        is_served(f);
        assert_true(now_ms() < end);
    }
    assert_int_equal(kill(pid, SIGSTOP), 0);
    uint64_t full = shm_of(f->victim)->stats.tx_full;
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(send_one(f->victim, &to, 1, 20000));
        if (i % 10 == 0)
            is_served(f);
    }
    assert_true(shm_of(f->victim)->stats.tx_full > full);
    assert_int_equal(kill(pid, SIGCONT), 0);
    unsigned n_back = 0;
    end = now_ms() + PATIENCE_MS;
    while (n_back < 100) {
        assert_true(send_one(f->victim, &to, 77, 500));
        struct smt_pkt pkts[32];
        int n = f->victim->ops->rx(f->victim, pkts, 32);
        for (int i = 0; i < n; i++)
            n_back += pkts[i].data[0] == 77 && pkts[i].len == 500;
        assert_true(now_ms() < end);
    }
    child_kill(pid);
}

/* Another user's process has the name: it is not believed, and packets go by UDP. */
static void test_other_user(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0)
        skip();
    /* The victim's port as another user asks for it. */
    pid_t pid = child_begin();
    if (pid == 0) {
        if (setresuid(12345, 12345, 12345) < 0)
            _exit(2);
        int s = name_connect(f->to_victim.port);
        if (s < 0)
            _exit(3);
        const struct smt_shm_hello h = hello_good(f);
        int fd = memfd(SMT_SHM_HALF, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | 0x10);
        say(s, &h, sizeof(h), &fd, 1);
        uint64_t end = now_ms() + PATIENCE_MS;
        char byte[128];
        ssize_t n;
        while ((n = recv(s, byte, sizeof(byte), MSG_DONTWAIT)) != 0) {
            if (n > 0 || now_ms() > end)
                _exit(4);
            usleep(1000);
        }
        _exit(0);
    }
    int status = -1;
    while (waitpid(pid, &status, WNOHANG) == 0)
        is_served(f);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(shm_of(f->victim)->n_peers, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good_hello, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_hellos, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_impostor, set_up, tear_down),
        cmocka_unit_test(test_half_is_read_only),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scribbler, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kills, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_user, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
