/* Several endpoints behind one port, as the peers of a `ud` device see them: who is asked for which
 * packet, whose answer comes back to whom, and what happens when they come and go. Over the
 * provider in software, the exchange on the loopback; time is a variable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/dev_impl.h"
#include "dev/steer.h"
#include "dev/ud_peers.h"
#include "dev/ud_resolve.h"
#include "verbs_model.h"

enum { PATIENCE_MS = 60000, QKEY = 0x1234567, N = 3, MANY = 255 };
#define START (1000 * SMT_SEC)

static uint64_t now;
static const struct smt_addr loopback = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};

struct side {
    struct smt_ud_port port;
    struct ibv_pd *pd;
    struct smt_ud_peers *peers;
    struct smt_addr addr;
};

static void side_open(struct side *s, uint16_t udp_port, uint32_t qpn, uint8_t number,
                      uint8_t share)
{
    struct smt_dev_config dev = {.spec = "ud", .bind_host = "127.0.0.1"};
    assert_int_equal(smt_ud_port_open(&dev, &s->port), 0);
    s->pd = ibv_alloc_pd(s->port.ctx);
    assert_non_null(s->pd);
    struct smt_ud_peers_config config = {
        .port = &s->port,
        .pd = s->pd,
        .qpns = {qpn},
        .n_qps = 1,
        .qkey = QKEY,
        .udp_port = udp_port,
        .number = number,
        .share = share,
        .max_peers = 64,
        .now = now,
    };
    assert_int_equal(smt_ud_peers_open(&config, &s->peers), 0);
    s->addr = loopback;
    s->addr.port = smt_ud_peers_port(s->peers);
}

static void side_close(struct side *s)
{
    smt_ud_peers_close(s->peers);
    assert_int_equal(ibv_dealloc_pd(s->pd), 0);
    smt_ud_port_close(&s->port);
}

/* Queue pairs `qpn`, `qpn` + 1 … */
static void group_open(struct side *sides, uint8_t n, uint32_t qpn)
{
    for (uint8_t i = 0; i < n; i++)
        side_open(&sides[i], i > 0 ? sides[0].addr.port : 0, qpn + i, i, n);
}

static void group_close(struct side *sides, uint8_t n)
{
    while (n-- > 0)
        side_close(&sides[n]);
}

static const struct smt_ud_peers_stats *stats(const struct side *s)
{
    return smt_ud_peers_stats(s->peers);
}

/* Datagrams on the loopback are there when sent. */
static void all_poll(struct side **sides, unsigned n)
{
    for (unsigned turn = 0; turn < 4; turn++) {
        for (unsigned i = 0; i < n; i++)
            (void)smt_ud_peers_poll(sides[i]->peers, now);
    }
}

/* The route of a packet for the endpoint of this number. */
static enum smt_ud_found find(struct side *s, const struct smt_addr *to, uint8_t number,
                              struct smt_ud_route *out)
{
    uint8_t packet[64] = {[SMT_STEER_AT] = number};
    memset(out, 0, sizeof(*out));
    return smt_ud_peers_find(s->peers, to, packet, sizeof(packet), 0, now, out);
}

/* The queue pair that a packet goes to once everybody has spoken; 0: it is still asked for. */
static uint32_t qpn_of(struct side *s, const struct smt_addr *to, uint8_t number,
                       struct side **others, unsigned n)
{
    struct smt_ud_route route;
    for (unsigned turn = 0; turn < 2; turn++) {
        if (find(s, to, number, &route) == SMT_UD_FOUND)
            return route.qpn;
        all_poll(others, n);
        (void)smt_ud_peers_poll(s->peers, now);
        all_poll(others, n);
    }
    return find(s, to, number, &route) == SMT_UD_FOUND ? route.qpn : 0;
}

/* Something of the endpoint with this number has arrived. */
static void hear(struct side *s, const struct smt_addr *from, uint8_t number)
{
    const struct ibv_wc wc = {
        .wc_flags = IBV_WC_GRH | IBV_WC_WITH_IMM,
        .imm_data = htonl((uint32_t)number << 16 | from->port),
    };
    uint8_t grh[40] = {[20] = 0x45}, ecn;
    struct smt_addr got;
    memcpy(grh + 32, from->ip + 12, 4);
    memcpy(grh + 36, loopback.ip + 12, 4);
    assert_true(smt_ud_peers_source(s->peers, &wc, grh, &got, &ecn));
    assert_true(smt_addr_equal(&got, from));
}

static int setup(void **state)
{
    verbs_model_reset();
    now = START;
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(verbs_model_n_live(), 0);
    return 0;
}

/* Each number is asked for by itself and has its own queue pair; nobody hears what is another's. */
static void test_each_has_its_own(void **state)
{
    struct side group[N], a, *others[N] = {&group[0], &group[1], &group[2]};
    struct smt_ud_route route;
    group_open(group, N, 200);
    side_open(&a, 0, 100, 0, 0);
    for (uint8_t i = 0; i < N; i++)
        assert_int_equal(qpn_of(&a, &group[0].addr, i, others, N), 200 + i);
    /* By the remainder, as the kernel's programs have it. */
    assert_int_equal(find(&a, &group[0].addr, 2 * N + 1, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 201);
    assert_int_equal(route.qkey, QKEY);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(stats(&group[i])->n_answers, 1);
        assert_int_equal(stats(&group[i])->n_unproven, 0);
        assert_int_equal(stats(&group[i])->n_misled, 0);
        /* The ACK told each of them. */
        assert_int_equal(find(&group[i], &a.addr, 0, &route), SMT_UD_FOUND);
        assert_int_equal(route.qpn, 100);
    }
    assert_int_equal(stats(&a)->n_unproven, 0);
    /* Without its bytes a packet has no queue pair yet. */
    assert_int_equal(smt_ud_peers_find(a.peers, &group[0].addr, NULL, 64, 0, now, &route),
                     SMT_UD_FOUND);
    assert_int_equal(route.qpn, 0);
    side_close(&a);
    group_close(group, N);
}

/* Who asks is one of several, too: its answer comes back to it, and the other side learns of those
 * that have asked, and asks for those that have not. */
static void test_groups_on_both_sides(void **state)
{
    struct side servers[N], clients[N];
    struct side *all[2 * N];
    group_open(servers, N, 200);
    group_open(clients, N, 300);
    for (unsigned i = 0; i < N; i++) {
        all[i] = &servers[i];
        all[N + i] = &clients[i];
    }
    for (uint8_t c = 0; c < N; c++) {
        for (uint8_t s = 0; s < N; s++)
            assert_int_equal(qpn_of(&clients[c], &servers[0].addr, s, all, 2 * N), 200 + s);
    }
    for (unsigned i = 0; i < 2 * N; i++)
        assert_int_equal(stats(all[i])->n_unproven, 0);
    for (uint8_t s = 0; s < N; s++) {
        assert_int_equal(stats(&servers[s])->n_queries, 0);
        for (uint8_t c = 0; c < N; c++)
            assert_int_equal(qpn_of(&servers[s], &clients[0].addr, c, all, 2 * N), 300 + c);
        assert_int_equal(stats(&servers[s])->n_queries, 0);
    }
    group_close(clients, N);
    group_close(servers, N);
}

/* Only number 2 of a group has spoken: it is known, and number 0 is asked for along with it. */
static void test_only_one_has_asked(void **state)
{
    struct side s, clients[N], *others[N] = {&clients[0], &clients[1], &clients[2]};
    struct smt_ud_route route;
    side_open(&s, 0, 200, 0, 0);
    group_open(clients, N, 300);
    assert_int_equal(find(&clients[2], &s.addr, 0, &route), SMT_UD_ASKING);
    struct side *both[2] = {&s, &clients[2]};
    all_poll(both, 2);
    assert_int_equal(find(&s, &clients[0].addr, 2, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 302);
    assert_int_equal(stats(&s)->n_queries, 1);
    all_poll(others, N);
    (void)smt_ud_peers_poll(s.peers, now);
    assert_int_equal(find(&s, &clients[0].addr, 0, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 300);
    group_close(clients, N);
    side_close(&s);
}

/* A peer of flesh and blood: a socket. */
static int stranger_open(struct smt_addr *addr)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof(sa);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *addr = loopback;
    addr->port = ntohs(sa.sin_port);
    return fd;
}

static struct smt_ud_msg stranger_receive(int fd)
{
    uint8_t bytes[SMT_UD_MSG_LEN];
    struct smt_ud_msg msg;
    assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &msg), 0);
    return msg;
}

static void stranger_send(int fd, const struct side *to, const struct smt_ud_msg *msg)
{
    uint8_t bytes[SMT_UD_MSG_LEN];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    sa.sin_port = htons(to->addr.port);
    smt_ud_msg_build(msg, bytes);
    assert_int_equal(sendto(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&sa, sizeof(sa)),
                     sizeof(bytes));
}

static struct smt_ud_msg answer_to(const struct smt_ud_msg *query, const struct smt_addr *from)
{
    struct smt_ud_msg answer = *query;
    answer.kind = SMT_UD_ANSWER;
    answer.port = from->port;
    answer.qpn = 77;
    answer.nonce = 5;
    answer.echo = query->nonce;
    return answer;
}

/* An answer that says nothing of numbers, as of who knows none: one endpoint for every packet. */
static void test_old_answer(void **state)
{
    struct side a;
    struct smt_ud_route route;
    struct smt_addr to;
    side_open(&a, 0, 100, 0, 0);
    int fd = stranger_open(&to);
    assert_int_equal(find(&a, &to, 7, &route), SMT_UD_ASKING);
    struct smt_ud_msg query = stranger_receive(fd);
    /* And the question is the one that such a peer knows. */
    assert_int_equal(query.wanted | query.number | query.share, 0);
    struct smt_ud_msg answer = answer_to(&query, &to);
    stranger_send(fd, &a, &answer);
    assert_int_equal(smt_ud_peers_poll(a.peers, now), 1);
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(find(&a, &to, (uint8_t)i, &route), SMT_UD_FOUND);
        assert_int_equal(route.qpn, 77);
    }
    close(fd);
    side_close(&a);
}

/* How many there are is believed with a proof only, and of a number only who was asked for it. */
static void test_forged_numbers(void **state)
{
    struct side a;
    struct smt_ud_route route;
    struct smt_addr to;
    side_open(&a, 0, 100, 0, 0);
    int fd = stranger_open(&to);
    assert_int_equal(find(&a, &to, 1, &route), SMT_UD_ASKING);
    struct smt_ud_msg query = stranger_receive(fd), answer = answer_to(&query, &to);
    struct smt_ud_msg forged = answer;
    forged.share = 2;
    forged.echo ^= 1;
    stranger_send(fd, &a, &forged);
    forged = answer; /* number 0 was asked */
    forged.share = 2;
    forged.number = 1;
    stranger_send(fd, &a, &forged);
    stranger_send(fd, &a, &answer);
    assert_int_equal(smt_ud_peers_poll(a.peers, now), 1);
    (void)stranger_receive(fd);
    forged = answer; /* the question is closed */
    forged.share = 2;
    stranger_send(fd, &a, &forged);
    forged.kind = SMT_UD_ACK;
    stranger_send(fd, &a, &forged);
    assert_int_equal(smt_ud_peers_poll(a.peers, now), 0);
    assert_int_equal(stats(&a)->n_unproven, 4);
    assert_int_equal(find(&a, &to, 1, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 77);
    close(fd);
    side_close(&a);
}

/* What is for a number that is not open reaches another, which says nothing; later it is there. */
static void test_not_open_yet(void **state)
{
    struct side group[2], a, *others[2] = {&group[0], &group[1]};
    char text[512];
    side_open(&a, 0, 100, 0, 0);
    side_open(&group[0], 0, 200, 0, 2);
    assert_int_equal(qpn_of(&a, &group[0].addr, 0, others, 1), 200);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(qpn_of(&a, &group[0].addr, 1, others, 1), 0);
        now += SMT_SEC;
    }
    assert_int_equal(stats(&group[0])->n_misled, 4);
    assert_true(smt_ud_peers_explain(a.peers, &group[0].addr, text, sizeof(text)));
    assert_int_equal(qpn_of(&a, &group[0].addr, 0, others, 1), 200);
    side_open(&group[1], group[0].addr.port, 201, 1, 2);
    assert_int_equal(qpn_of(&a, &group[0].addr, 1, others, 2), 201);
    hear(&a, &group[0].addr, 0);
    hear(&a, &group[0].addr, 1);
    assert_false(smt_ud_peers_explain(a.peers, &group[0].addr, text, sizeof(text)));
    side_close(&a);
    group_close(group, 2);
}

/* A number comes back with another queue pair. That the others are heard all the time does not
 * hide its silence. */
static void test_one_comes_back(void **state)
{
    struct side group[2], a, *others[2] = {&group[0], &group[1]};
    side_open(&a, 0, 100, 0, 0);
    group_open(group, 2, 200);
    assert_int_equal(qpn_of(&a, &group[0].addr, 0, others, 2), 200);
    assert_int_equal(qpn_of(&a, &group[0].addr, 1, others, 2), 201);
    side_close(&group[1]);
    side_open(&group[1], group[0].addr.port, 250, 1, 2);
    uint32_t qpn = 0;
    for (unsigned i = 0; i < 30; i++) {
        now += 10 * SMT_MSEC;
        hear(&a, &group[0].addr, 0);
        assert_int_equal(qpn_of(&a, &group[0].addr, 0, others, 2), 200);
        qpn = qpn_of(&a, &group[0].addr, 1, others, 2);
        all_poll(others, 2);
        (void)smt_ud_peers_poll(a.peers, now);
    }
    assert_int_equal(qpn, 250);
    assert_int_equal(stats(&a)->n_changed, 1);
    side_close(&a);
    group_close(group, 2);
}

/* Several become one, and one becomes several: who sends to a number that is no more asks number 0
 * as well. */
static void test_fewer_and_more(void **state)
{
    struct side group[N], a, *others[N] = {&group[0], &group[1], &group[2]};
    struct smt_ud_route route;
    side_open(&a, 0, 100, 0, 0);
    group_open(group, N, 200);
    uint16_t port = group[0].addr.port;
    assert_int_equal(qpn_of(&a, &group[0].addr, 0, others, N), 200);
    assert_int_equal(qpn_of(&a, &group[0].addr, 2, others, N), 202);
    group_close(group, N);
    side_open(&group[0], port, 500, 0, 0);
    uint32_t qpn = 0;
    for (unsigned i = 0; i < 100 && qpn != 500; i++) {
        now += 10 * SMT_MSEC;
        qpn = qpn_of(&a, &group[0].addr, 2, others, 1);
        all_poll(others, 1);
        (void)smt_ud_peers_poll(a.peers, now);
    }
    assert_int_equal(qpn, 500);
    side_close(&group[0]);
    for (uint8_t i = 0; i < N; i++)
        side_open(&group[i], port, 600 + i, i, N);
    for (unsigned i = 0; i < 100 && qpn != 602; i++) {
        now += 10 * SMT_MSEC;
        qpn = qpn_of(&a, &group[0].addr, 2, others, N);
        all_poll(others, N);
        (void)smt_ud_peers_poll(a.peers, now);
    }
    assert_int_equal(qpn, 602);
    assert_int_equal(find(&a, &group[0].addr, 0, &route), SMT_UD_FOUND);
    side_close(&a);
    group_close(group, N);
}

/* Who says that he is very many costs no more than the table has. */
static void test_many_numbers_are_bounded(void **state)
{
    struct side one, a, *others[1] = {&one};
    struct smt_ud_route route;
    side_open(&a, 0, 100, 0, 0);
    side_open(&one, 0, 200, 0, MANY);
    assert_int_equal(qpn_of(&a, &one.addr, 0, others, 1), 200);
    for (unsigned i = 1; i < MANY; i++)
        assert_int_equal(find(&a, &one.addr, (uint8_t)i, &route), SMT_UD_ASKING);
    /* Of 64 peers 16 are asked for; number 0 is proven and stays. */
    assert_int_equal(stats(&a)->n_evicted, MANY - 1 - 16);
    assert_int_equal(find(&a, &one.addr, 0, &route), SMT_UD_FOUND);
    side_close(&one);
    side_close(&a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_each_has_its_own),
        TEST(test_groups_on_both_sides),
        TEST(test_only_one_has_asked),
        TEST(test_old_answer),
        TEST(test_forged_numbers),
        TEST(test_not_open_yet),
        TEST(test_one_comes_back),
        TEST(test_fewer_and_more),
        TEST(test_many_numbers_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
