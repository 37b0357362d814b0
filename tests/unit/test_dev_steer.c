/* The two forms of the steering rule say the same: the kernel's program on a group of sockets, and
 * the function that senders ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/prng.h"
#include "dev/steer.h"
#include "dev/ud_resolve.h"

enum { N = 5, KIND_AT = 13, LEN = 48, EARLY = 0x11, HANDSHAKE = 0x30 };

static int fds[N];
static struct sockaddr_in at;

static int group_open(int (*steer)(int fd))
{
    socklen_t len = sizeof(at);
    at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    for (unsigned i = 0; i < N; i++) {
        int on = 1;
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&at, sizeof(at)), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&at, &len), 0);
    }
    return steer(fds[0]);
}

static void group_close(void)
{
    for (unsigned i = 0; i < N; i++)
        close(fds[i]);
}

/* Who gets this datagram. */
static unsigned receiver_of(int from, const uint8_t *bytes, size_t len)
{
    uint8_t got[64];
    unsigned found = N;
    assert_int_equal(sendto(from, bytes, len, 0, (struct sockaddr *)&at, sizeof(at)), len);
    for (unsigned i = 0; i < N; i++) {
        if (recv(fds[i], got, sizeof(got), 0) < 0)
            continue;
        assert_int_equal(found, N);
        found = i;
    }
    return found;
}

static int steer_packets(int fd)
{
    return smt_steer_sockets(fd, N);
}

static void test_packets(void **state)
{
    static const uint8_t kinds[] = {0x10, EARLY, 0x20, HANDSHAKE, 0x31, 0x32, 0x33, 0xff};
    unsigned n_of[N] = {0};
    struct smt_prng prng;
    smt_prng_seed(&prng, 7);
    int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(group_open(steer_packets), 0);
    for (unsigned i = 0; i < 4000; i++) {
        uint8_t packet[LEN];
        smt_prng_bytes(&prng, packet, LEN);
        packet[KIND_AT] = kinds[i % SMT_ARRAY_LEN(kinds)];
        if (i % 3 == 0)
            memset(packet + SMT_STEER_AT, 0, 8); /* no id yet */
        size_t len = i % 5 == 0 ? 1 + i / 5 % LEN : LEN;
        unsigned number = smt_steer_number(packet, len, N);
        assert_int_equal(receiver_of(from, packet, len), number);
        n_of[number]++;
    }
    for (unsigned i = 0; i < N; i++)
        assert_true(n_of[i] > 4000 / N / 2);
    close(from);
    group_close();
}

static void test_resolve(void **state)
{
    const struct smt_ud_cookie cookie = {.key = {1, 2}, .number = 3, .share = N};
    const struct smt_addr addr = {.ip = {[15] = 1}, .port = 9};
    int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint8_t bytes[SMT_UD_MSG_LEN];
    assert_int_equal(group_open(smt_steer_resolve), 0);
    for (unsigned i = 0; i < N; i++) {
        struct smt_ud_msg query = {.kind = SMT_UD_QUERY, .wanted = (uint8_t)i, .nonce = ~0ull};
        smt_ud_msg_build(&query, bytes);
        assert_int_equal(receiver_of(from, bytes, sizeof(bytes)), i);
        struct smt_ud_msg answer = {.kind = SMT_UD_ANSWER, .wanted = N - 1};
        answer.echo = smt_ud_nonce_for(~0ull, (uint8_t)i, N);
        smt_ud_msg_build(&answer, bytes);
        assert_int_equal(receiver_of(from, bytes, sizeof(bytes)), i);
    }
    struct smt_ud_msg ack = {.kind = SMT_UD_ACK, .echo = smt_ud_cookie_make(&cookie, &addr, 0)};
    smt_ud_msg_build(&ack, bytes);
    assert_int_equal(receiver_of(from, bytes, sizeof(bytes)), 3);
    assert_true(smt_ud_cookie_check(&cookie, &addr, 0, ack.echo));
    /* Too short to tell: the first. */
    assert_int_equal(receiver_of(from, bytes, SMT_UD_ECHO_AT), 0);
    assert_true(smt_ud_nonce_for(0, 0, N) != 0);
    assert_true(smt_ud_nonce_for(~0ull, 0, 0) == ~0ull);
    close(from);
    group_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packets),
        cmocka_unit_test(test_resolve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
