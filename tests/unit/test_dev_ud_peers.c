/* The peers of a `ud` device over the provider in software: the exchange on the loopback, attempts
 * to poison the table, and the life of address handles. Time is a variable. */
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

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/ud_peers.h"
#include "dev/ud_resolve.h"
#include "verbs_model.h"

enum { PATIENCE_MS = 60000, QKEY = 0x1234567 };
#define START (1000 * SMT_SEC)

static uint64_t now;

struct side {
    struct smt_ud_port port;
    struct ibv_pd *pd;
    struct smt_ud_peers *peers;
    struct smt_addr addr;
};

static void side_open_on(struct side *s, const char *spec, uint16_t udp_port, uint32_t qpn,
                         uint32_t max_peers)
{
    char text[512] = "";
    struct smt_dev_config dev = {
        .spec = spec,
        .bind_host = "127.0.0.1",
        .error_text = text,
        .error_text_len = sizeof(text),
    };
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
        .max_peers = max_peers,
        .now = now,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    assert_int_equal(smt_ud_peers_open(&config, &s->peers), 0);
    s->addr = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    s->addr.port = smt_ud_peers_port(s->peers);
    assert_true(s->addr.port != 0);
}

static void side_open(struct side *s, uint32_t qpn)
{
    side_open_on(s, "ud", 0, qpn, 0);
}

static void side_close(struct side *s)
{
    smt_ud_peers_close(s->peers);
    assert_int_equal(ibv_dealloc_pd(s->pd), 0);
    smt_ud_port_close(&s->port);
}

static const struct smt_ud_peers_stats *stats(struct side *s)
{
    return smt_ud_peers_stats(s->peers);
}

/* Polls once there is something to read: datagrams on the loopback are there when sent. */
static unsigned side_poll(struct side *s)
{
    struct pollfd p = {.fd = smt_ud_peers_fd(s->peers), .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    return smt_ud_peers_poll(s->peers, now);
}

static enum smt_ud_found find_prio(struct side *s, const struct smt_addr *to, uint8_t prio,
                                   struct smt_ud_route *out)
{
    static const uint8_t packet[64];
    return smt_ud_peers_find(s->peers, to, packet, sizeof(packet), prio, now, out);
}

static enum smt_ud_found find(struct side *s, const struct smt_addr *to, struct smt_ud_route *out)
{
    return find_prio(s, to, 0, out);
}

/* a asks b until both know each other. */
static void introduce(struct side *a, struct side *b)
{
    struct smt_ud_route route;
    assert_int_equal(find(a, &b->addr, &route), SMT_UD_ASKING);
    assert_int_equal(side_poll(b), 0);
    assert_int_equal(side_poll(a), 1);
    assert_int_equal(side_poll(b), 1);
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

/* ---- a peer of flesh and blood: a socket ------------------------------------------------------
 */

struct stranger {
    int fd;
    struct smt_addr addr;
};

static void stranger_open(struct stranger *s)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof(sa);
    s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(s->fd >= 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&sa, &len), 0);
    s->addr = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    s->addr.port = ntohs(sa.sin_port);
}

static struct smt_ud_msg stranger_msg(const struct stranger *s, uint8_t kind, uint64_t nonce,
                                      uint64_t echo)
{
    struct smt_ud_msg m = {
        .kind = kind,
        .link = SMT_UD_LINK_ROCE,
        .port = s->addr.port,
        .mtu = 1024,
        .qpn = 77,
        .qkey = 88,
        .nonce = nonce,
        .echo = echo,
    };
    memcpy(m.gid, s->addr.ip, 16);
    return m;
}

static void stranger_send(const struct stranger *s, const struct side *to,
                          const struct smt_ud_msg *msg)
{
    uint8_t bytes[SMT_UD_MSG_LEN];
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    sa.sin_port = htons(to->addr.port);
    smt_ud_msg_build(msg, bytes);
    assert_int_equal(sendto(s->fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&sa, sizeof(sa)),
                     sizeof(bytes));
}

static struct smt_ud_msg stranger_receive(const struct stranger *s)
{
    uint8_t bytes[128];
    struct smt_ud_msg msg;
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
    ssize_t n = recv(s->fd, bytes, sizeof(bytes), 0);
    assert_int_equal(smt_ud_msg_parse(bytes, (size_t)n, &msg), 0);
    return msg;
}

/* ---- the exchange -----------------------------------------------------------------------------
 */

static void test_exchange(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    side_open(&a, 100);
    side_open(&b, 200);
    assert_false(smt_ud_peers_is_asking(a.peers));
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_ASKING);
    assert_true(smt_ud_peers_is_asking(a.peers));
    /* Within 20 ms nothing more is sent. */
    now += 19 * SMT_MSEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_ASKING);
    assert_int_equal(stats(&a)->n_queries, 1);
    now += SMT_MSEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_ASKING);
    assert_int_equal(stats(&a)->n_queries, 2);

    assert_int_equal(side_poll(&b), 0);
    assert_int_equal(stats(&b)->n_answers, 2);
    assert_int_equal(side_poll(&a), 1);
    assert_int_equal(stats(&a)->n_acks, 1);
    assert_int_equal(stats(&a)->n_unproven, 1); /* the second answer to one nonce */
    assert_int_equal(side_poll(&b), 1);

    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 200);
    assert_int_equal(route.qkey, QKEY);
    assert_int_equal(route.mtu, a.port.mtu);
    assert_non_null(route.ah);
    assert_int_equal(find(&b, &a.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 100);
    assert_int_equal(stats(&b)->n_queries, 0);
    now += SMT_SEC;
    assert_int_equal(smt_ud_peers_poll(a.peers, now), 0);
    assert_false(smt_ud_peers_is_asking(a.peers));
    side_close(&a);
    side_close(&b);
}

/* Many queue pairs: a peer is always told the same one. */
static void test_one_of_many_qps(void **state)
{
    struct side a;
    side_open(&a, 100);
    smt_ud_peers_close(a.peers);
    struct smt_ud_peers_config config = {
        .port = &a.port, .pd = a.pd, .qpns = {10, 11, 12, 13}, .n_qps = 4, .qkey = 1, .now = now};
    assert_int_equal(smt_ud_peers_open(&config, &a.peers), 0);
    a.addr.port = smt_ud_peers_port(a.peers);
    unsigned seen = 0;
    for (unsigned i = 0; i < 64; i++) {
        struct stranger s;
        stranger_open(&s);
        uint32_t qpn = 0;
        for (unsigned k = 0; k < 2; k++) {
            struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 5, 0);
            stranger_send(&s, &a, &m);
            side_poll(&a);
            m = stranger_receive(&s);
            assert_in_range(m.qpn, 10, 13);
            assert_true(k == 0 || m.qpn == qpn);
            qpn = m.qpn;
        }
        seen |= 1u << (qpn - 10);
        close(s.fd);
    }
    assert_int_equal(seen, 15);
    side_close(&a);
}

static void test_backoff(void **state)
{
    struct side a;
    struct stranger s;
    struct smt_ud_route route;
    side_open(&a, 100);
    stranger_open(&s);
    for (unsigned ms = 0; ms < 10000; ms++) {
        assert_int_equal(find(&a, &s.addr, &route), SMT_UD_ASKING);
        now += SMT_MSEC;
    }
    /* 0, 20, 60, 140, 300, 620, 1260, then each second. */
    assert_int_equal(stats(&a)->n_queries, 6 + 9);
    char text[512];
    assert_true(smt_ud_peers_explain(a.peers, &s.addr, text, sizeof(text)));
    assert_non_null(strstr(text, "answered 15 resolve queries"));
    /* The nonce is the same in all of them, so that a slow answer counts. */
    uint64_t nonce = stranger_receive(&s).nonce;
    for (unsigned i = 1; i < 15; i++)
        assert_true(stranger_receive(&s).nonce == nonce);
    struct smt_ud_msg m = stranger_msg(&s, SMT_UD_ANSWER, 9, nonce);
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 1);
    struct smt_ud_msg ack = stranger_receive(&s);
    assert_int_equal(ack.kind, SMT_UD_ACK);
    assert_true(ack.echo == 9);
    assert_false(smt_ud_peers_explain(a.peers, &s.addr, text, sizeof(text)));
    assert_true(smt_ud_peers_note(a.peers, &s.addr, text, sizeof(text)));
    assert_non_null(strstr(text, "1024 are used"));
    close(s.fd);
    side_close(&a);
}

/* ---- poisoning --------------------------------------------------------------------------------
 */

static void test_forged_answers(void **state)
{
    struct side a;
    struct stranger s, liar;
    struct smt_ud_route route;
    side_open(&a, 100);
    stranger_open(&s);
    stranger_open(&liar);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_ASKING);
    struct smt_ud_msg query = stranger_receive(&s);
    assert_int_equal(query.kind, SMT_UD_QUERY);
    assert_int_equal(query.port, a.addr.port);
    assert_int_equal(query.qpn, 100);

    /* The right peer without the nonce; the right nonce from the wrong port, and with fields that
     * do not fit where it comes from. */
    struct smt_ud_msg m = stranger_msg(&s, SMT_UD_ANSWER, 1, query.nonce + 1);
    stranger_send(&s, &a, &m);
    m = stranger_msg(&liar, SMT_UD_ANSWER, 1, query.nonce);
    stranger_send(&liar, &a, &m);
    m = stranger_msg(&s, SMT_UD_ANSWER, 1, query.nonce);
    stranger_send(&liar, &a, &m);
    m.gid[15]++;
    stranger_send(&s, &a, &m);
    m = stranger_msg(&s, SMT_UD_ANSWER, 1, query.nonce);
    m.link = SMT_UD_LINK_IB;
    m.lid = 5;
    stranger_send(&s, &a, &m);
    m = stranger_msg(&s, SMT_UD_ACK, 1, query.nonce);
    stranger_send(&s, &a, &m);
    for (unsigned i = 0; stats(&a)->n_received < 6 && i < 6; i++)
        assert_int_equal(side_poll(&a), 0);
    assert_int_equal(stats(&a)->n_unproven, 6);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_ASKING);

    m = stranger_msg(&s, SMT_UD_ANSWER, 1, query.nonce);
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 1);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 77);
    assert_int_equal(route.mtu, 1024);

    /* The nonce is used up: the same answer with another queue pair changes nothing. */
    m.qpn = 78;
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 77);
    assert_int_equal(stats(&a)->n_changed, 0);
    close(s.fd);
    close(liar.fd);
    side_close(&a);
}

static void test_forged_acks(void **state)
{
    struct side a;
    struct stranger s, liar;
    struct smt_ud_route route;
    side_open(&a, 100);
    stranger_open(&s);
    stranger_open(&liar);
    struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 42, 0);
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    struct smt_ud_msg answer = stranger_receive(&s);
    assert_int_equal(answer.kind, SMT_UD_ANSWER);
    assert_true(answer.echo == 42);
    /* A query alone makes no entry, nor does a wrong cookie or somebody else with the right one. */
    m = stranger_msg(&s, SMT_UD_ACK, 42, answer.nonce ^ 1);
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    m = stranger_msg(&liar, SMT_UD_ACK, 42, answer.nonce);
    stranger_send(&liar, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    assert_int_equal(stats(&a)->n_unproven, 2);
    assert_int_equal(find(&a, &liar.addr, &route), SMT_UD_ASKING);

    m = stranger_msg(&s, SMT_UD_ACK, 42, answer.nonce);
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 1);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_FOUND);
    /* The same again is nothing new; too late it proves nothing. */
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    now += 20 * SMT_SEC;
    m.qpn = 99;
    stranger_send(&s, &a, &m);
    assert_int_equal(side_poll(&a), 0);
    assert_int_equal(stats(&a)->n_unproven, 3);
    assert_int_equal(find(&a, &s.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 77);
    close(s.fd);
    close(liar.fd);
    side_close(&a);
}

static void test_malformed(void **state)
{
    struct side a;
    struct stranger s;
    side_open(&a, 100);
    stranger_open(&s);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    sa.sin_port = htons(a.addr.port);
    struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 1, 0);
    uint8_t bytes[SMT_UD_MSG_LEN + 1] = {0};
    smt_ud_msg_build(&m, bytes);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        if (len != SMT_UD_MSG_LEN)
            assert_int_equal(sendto(s.fd, bytes, len, 0, (struct sockaddr *)&sa, sizeof(sa)), len);
    }
    bytes[4] = 9;
    assert_int_equal(sendto(s.fd, bytes, SMT_UD_MSG_LEN, 0, (struct sockaddr *)&sa, sizeof(sa)),
                     SMT_UD_MSG_LEN);
    while (stats(&a)->n_received < SMT_UD_MSG_LEN + 2)
        assert_int_equal(side_poll(&a), 0);
    assert_int_equal(stats(&a)->n_malformed, SMT_UD_MSG_LEN + 1);
    assert_int_equal(stats(&a)->n_version, 1);
    assert_int_equal(stats(&a)->n_answers, 0);
    close(s.fd);
    side_close(&a);
}

/* A flood of askers costs answers up to the limit and no memory; who is known stays known. */
static void test_flood_of_askers(void **state)
{
    enum { FLOOD = 6000, LOT = 50 };
    struct side a, b;
    struct stranger s;
    struct smt_ud_route route;
    side_open(&a, 100);
    side_open(&b, 200);
    introduce(&b, &a);
    stranger_open(&s);
    struct smt_mem_stats before = smt_mem_live();
    uint64_t base = stats(&a)->n_received, answered = stats(&a)->n_answers;
    for (unsigned i = 0; i < FLOOD; i += LOT) {
        for (unsigned k = 0; k < LOT; k++) {
            struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 1 + i + k, 0);
            stranger_send(&s, &a, &m);
        }
        while (stats(&a)->n_received < base + i + LOT)
            side_poll(&a);
    }
    assert_int_equal(
        stats(&a)->n_answers + stats(&a)->n_send_failed - answered + stats(&a)->n_limited, FLOOD);
    assert_true(stats(&a)->n_limited >= FLOOD - 4096);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    /* Limits fill again with time. */
    now += SMT_SEC;
    uint64_t limited = stats(&a)->n_limited;
    struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 1, 0);
    stranger_send(&s, &a, &m);
    side_poll(&a);
    assert_int_equal(stats(&a)->n_limited, limited);
    close(s.fd);
    side_close(&a);
    side_close(&b);
}

/* Addresses that somebody made up push out each other, not a peer in use. */
static void test_flood_of_questions(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    side_open_on(&a, "ud", 0, 100, 8);
    side_open(&b, 200);
    introduce(&a, &b);
    struct smt_addr to = b.addr;
    for (unsigned i = 1; i <= 5000; i++) {
        to.ip[13] = (uint8_t)(i >> 8);
        to.ip[14] = (uint8_t)i;
        enum smt_ud_found found = find(&a, &to, &route);
        assert_true(found == SMT_UD_ASKING || found == SMT_UD_NOROUTE);
    }
    assert_int_equal(stats(&a)->n_evicted, 5000 - 16);
    assert_true(stats(&a)->n_queries + stats(&a)->n_send_failed + stats(&a)->n_noroute +
                    stats(&a)->n_limited >=
                5000);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    side_close(&a);
    side_close(&b);
}

/* ---- peers that change ------------------------------------------------------------------------
 */

static void test_restarted_peer(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    side_open(&a, 100);
    side_open(&b, 200);
    uint16_t port = b.addr.port;
    introduce(&a, &b);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    side_close(&b);
    side_open_on(&b, "ud", port, 201, 0);
    now += 249 * SMT_MSEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(stats(&a)->n_queries, 1);
    now += SMT_MSEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 200); /* the old route stays in use */
    assert_int_equal(stats(&a)->n_queries, 2);
    assert_int_equal(side_poll(&b), 0);
    assert_int_equal(side_poll(&a), 1);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 201);
    assert_int_equal(stats(&a)->n_changed, 1);
    assert_int_equal(side_poll(&b), 1);

    /* The one who restarted may ask first. */
    side_close(&b);
    side_open_on(&b, "ud", port, 202, 0);
    introduce(&b, &a);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(route.qpn, 202);
    assert_int_equal(stats(&a)->n_queries, 2);
    side_close(&a);
    side_close(&b);
}

static struct ibv_wc wc_with_imm(uint32_t imm)
{
    return (struct ibv_wc){.wc_flags = IBV_WC_GRH | IBV_WC_WITH_IMM, .imm_data = htonl(imm)};
}

static void grh_of_ipv4(uint8_t grh[40], const uint8_t from[4], const uint8_t to[4], uint8_t tos)
{
    memset(grh, 0xd7, 20);
    memset(grh + 20, 0, 20);
    grh[20] = 0x45;
    grh[21] = tos;
    grh[29] = 17;
    memcpy(grh + 32, from, 4);
    memcpy(grh + 36, to, 4);
}

/* A peer that is heard is not asked again, whatever it is that it sends. */
static void test_heard_peer(void **state)
{
    static const uint8_t ip[4] = {127, 0, 0, 1};
    struct side a, b;
    struct smt_ud_route route;
    struct smt_addr from;
    uint8_t ecn, grh[40];
    side_open(&a, 100);
    side_open(&b, 200);
    introduce(&a, &b);
    grh_of_ipv4(grh, ip, ip, 0);
    struct ibv_wc wc = wc_with_imm(b.addr.port);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
        now += 200 * SMT_MSEC;
        assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
        assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
        assert_true(smt_addr_equal(&from, &b.addr));
    }
    assert_int_equal(stats(&a)->n_queries, 1);
    /* Silence, however long, is nothing while nothing is sent. */
    now += 100 * SMT_SEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_int_equal(stats(&a)->n_queries, 1);
    side_close(&a);
    side_close(&b);
}

/* Answers come, packets do not: handles are made anew (another MAC address?), and it is said. */
static void test_answers_but_no_packets(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    char text[512];
    side_open(&a, 100);
    side_open(&b, 200);
    introduce(&a, &b);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    assert_false(smt_ud_peers_explain(a.peers, &b.addr, text, sizeof(text)));
    assert_int_equal(stats(&a)->n_ahs_made, 1);
    for (unsigned i = 0; i < 3; i++) {
        now += 2 * SMT_SEC;
        assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
        side_poll(&b);
        assert_int_equal(side_poll(&a), 0);
        side_poll(&b);
        assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    }
    assert_int_equal(stats(&a)->n_ahs_made, 4);
    assert_int_equal(smt_ud_peers_n_retired(a.peers), 3);
    assert_true(smt_ud_peers_explain(a.peers, &b.addr, text, sizeof(text)));
    assert_non_null(strstr(text, "4791"));
    side_close(&a);
    side_close(&b);
}

/* ---- who sent a packet ------------------------------------------------------------------------
 */

static void test_source_ipv4(void **state)
{
    static const uint8_t own[4] = {127, 0, 0, 1}, peer[4] = {10, 1, 2, 3}, zero[4] = {0},
                         group[4] = {224, 0, 0, 1};
    struct side a;
    struct smt_addr from;
    uint8_t ecn = 9, grh[40];
    side_open(&a, 100);
    struct ibv_wc wc = wc_with_imm(4000);
    grh_of_ipv4(grh, peer, own, 0xe3);
    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(ecn, 3);
    assert_int_equal(from.port, 4000);
    assert_memory_equal(from.ip + 12, peer, 4);
    assert_true(smt_addr_is_ipv4(&from));

    grh_of_ipv4(grh, peer, peer, 0); /* not to us */
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    grh_of_ipv4(grh, zero, own, 0);
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    grh_of_ipv4(grh, group, own, 0);
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    memset(grh, 0, sizeof(grh));
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(stats(&a)->n_bad_grh, 4);

    grh_of_ipv4(grh, peer, own, 0);
    static const uint32_t imms[] = {0, 0x10000, 0x1000001, 0xffffffff, 0x80000001};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(imms); i++) {
        wc = wc_with_imm(imms[i]);
        assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    }
    wc = wc_with_imm(4000);
    wc.wc_flags = IBV_WC_GRH;
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(stats(&a)->n_bad_imm, 6);
    side_close(&a);
}

static void test_source_ipv6(void **state)
{
    struct side a;
    struct smt_dev_config dev = {.spec = "ud:model0"};
    assert_int_equal(smt_ud_port_open(&dev, &a.port), 0);
    a.pd = ibv_alloc_pd(a.port.ctx);
    struct smt_ud_peers_config config = {
        .port = &a.port, .pd = a.pd, .qpns = {10}, .n_qps = 1, .qkey = 1, .now = now};
    assert_int_equal(smt_ud_peers_open(&config, &a.peers), 0);

    uint8_t grh[40] = {0x6a, 0x20}, ecn;
    grh[8] = 0x20;
    grh[9] = 0x01;
    grh[23] = 7;
    memcpy(grh + 24, (uint8_t[16]){[15] = 1}, 16);
    struct smt_addr from;
    struct ibv_wc wc = wc_with_imm(99);
    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(ecn, 2);
    assert_memory_equal(from.ip, grh + 8, 16);
    assert_int_equal(from.scope, 0);
    /* A link-local sender is one of our interface. */
    grh[8] = 0xfe;
    grh[9] = 0x80;
    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(from.scope, a.port.ifindex);
    /* An IPv4 address inside of IPv6 is nobody's. */
    memcpy(grh + 8, (uint8_t[16]){[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1}, 16);
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    /* What an older IPv6 packet left before an IPv4 header does not matter. */
    memset(grh + 20, 0, 20);
    grh[20] = 0x45;
    memcpy(grh + 32, (uint8_t[]){10, 0, 0, 9, 127, 0, 0, 1}, 8);
    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_true(smt_addr_is_ipv4(&from));
    assert_int_equal(from.ip[15], 9);
    side_close(&a);
}

static void test_no_route(void **state)
{
    struct side a;
    struct smt_ud_route route;
    side_open(&a, 100);
    struct smt_addr to = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE); /* port 0 */
    to.port = 9;
    to.ip[12] = 239;
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    memset(to.ip + 12, 0, 4);
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    to = (struct smt_addr){.ip = {[0] = 0xff, [15] = 1}, .port = 9};
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    char text[512];
    to = (struct smt_addr){.ip = {[0] = 0xfe, [1] = 0x80, [15] = 1}, .port = 9, .scope = 9999};
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    assert_true(smt_ud_peers_explain(a.peers, &to, text, sizeof(text)));
    assert_non_null(strstr(text, "%lo]"));
    /* Its answers would come with the scope, as from somebody else. */
    to.scope = 0;
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    assert_true(smt_ud_peers_explain(a.peers, &to, text, sizeof(text)));
    /* The device has an IPv4 address only, because that is what was bound. */
    to = (struct smt_addr){.ip = {[15] = 1}, .port = 9};
    assert_int_equal(find(&a, &to, &route), SMT_UD_NOROUTE);
    assert_true(smt_ud_peers_explain(a.peers, &to, text, sizeof(text)));
    assert_non_null(strstr(text, "no route to [::1]:9"));
    assert_int_equal(stats(&a)->n_queries, 0);
    side_close(&a);
}

/* ---- address handles --------------------------------------------------------------------------
 */

static void test_handles_per_priority(void **state)
{
    struct side a, b, c;
    struct smt_ud_route route, again;
    side_open(&a, 100);
    side_open(&b, 200);
    side_open(&c, 300);
    introduce(&a, &b);
    introduce(&a, &c);
    assert_int_equal(stats(&a)->n_ahs, 0);
    for (uint8_t prio = 0; prio < 8; prio++) {
        assert_int_equal(find_prio(&a, &b.addr, prio, &route), SMT_UD_FOUND);
        assert_int_equal(stats(&a)->n_ahs, prio + 1);
        /* All ports of an IP address share them. */
        assert_int_equal(find_prio(&a, &c.addr, prio, &again), SMT_UD_FOUND);
        assert_ptr_equal(route.ah, again.ah);
        assert_int_equal(again.qpn, 300);
    }
    assert_int_equal(stats(&a)->n_ahs_made, 8);
    side_close(&a);
    side_close(&b);
    side_close(&c);
}

static void test_handle_cannot_be_made(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    side_open(&a, 100);
    side_open(&b, 200);
    introduce(&a, &b);
    verbs_model.fail[VERBS_MODEL_CREATE_AH] = (struct verbs_model_failure){0, 1, ETIMEDOUT};
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_NOROUTE);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_NOROUTE);
    assert_int_equal(stats(&a)->n_ahs_failed, 1); /* not tried again at once */
    now += 100 * SMT_MSEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    side_close(&a);
    side_close(&b);
}

/* The least recently used peer goes, but its handle only when no packet can refer to it. */
static void test_lru_with_handles_in_use(void **state)
{
    struct side a, other[3];
    struct smt_ud_route route;
    verbs_model_set_gid(0, 5, "127.0.0.1", IBV_GID_TYPE_ROCE_V2, "lo");
    side_open_on(&a, "ud", 0, 100, 2);
    for (unsigned i = 0; i < 3; i++)
        side_open(&other[i], 200 + i);
    for (unsigned i = 0; i < 2; i++) {
        introduce(&a, &other[i]);
        assert_int_equal(find(&a, &other[i].addr, &route), SMT_UD_FOUND);
        now += SMT_SEC;
    }
    /* The first is used again, so the second is the one that goes. */
    assert_int_equal(find(&a, &other[0].addr, &route), SMT_UD_FOUND);
    now += 10 * SMT_MSEC;
    uint64_t posted = 10;
    introduce(&a, &other[2]);
    assert_int_equal(stats(&a)->n_evicted, 1);
    assert_int_equal(find(&a, &other[0].addr, &route), SMT_UD_FOUND);
    assert_int_equal(find(&a, &other[2].addr, &route), SMT_UD_FOUND);
    assert_int_equal(find(&a, &other[1].addr, &route), SMT_UD_ASKING);
    /* They share an IP address, so the path lived on. Renewal retires its handle. */
    assert_int_equal(smt_ud_peers_n_retired(a.peers), 0);
    smt_ud_peers_refresh(a.peers);
    assert_int_equal(smt_ud_peers_n_retired(a.peers), 1);
    struct ibv_ah *old = route.ah;
    assert_int_equal(find(&a, &other[0].addr, &route), SMT_UD_FOUND);
    assert_ptr_not_equal(route.ah, old);
    smt_ud_peers_reap(a.peers, posted, posted - 1);
    smt_ud_peers_reap(a.peers, posted + 5, posted - 1);
    assert_int_equal(verbs_model_counts.ahs_destroyed, 0);
    smt_ud_peers_reap(a.peers, posted + 5, posted);
    assert_int_equal(verbs_model_counts.ahs_destroyed, 1);
    assert_int_equal(smt_ud_peers_n_retired(a.peers), 0);
    side_close(&a);
    for (unsigned i = 0; i < 3; i++)
        side_close(&other[i]);
}

/* Our own address goes away: who knew us by it is asked again from another, or not reached. */
static void test_own_address_gone(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    side_open(&a, 100);
    side_open(&b, 200);
    introduce(&a, &b);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    memset(verbs_model.devices[0].gids, 0, sizeof(verbs_model.devices[0].gids));
    assert_int_equal(smt_ud_port_refresh(&a.port), 0);
    assert_int_equal(a.port.n_gids, 0);
    smt_ud_peers_refresh(a.peers);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_NOROUTE);
    verbs_model_set_gid(0, 3, "127.0.0.1", IBV_GID_TYPE_ROCE_V2, "lo");
    assert_int_equal(smt_ud_port_refresh(&a.port), 0);
    now += SMT_SEC;
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_ASKING);
    assert_int_equal(side_poll(&b), 0);
    assert_int_equal(side_poll(&a), 1);
    assert_int_equal(side_poll(&b), 0); /* it knew */
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_FOUND);
    side_close(&a);
    side_close(&b);
}

/* ---- InfiniBand -------------------------------------------------------------------------------
 */

static void ib_make(void)
{
    struct verbs_model_device *d = &verbs_model.devices[0];
    d->is_ib = true;
    d->lid = 17;
    memset(d->gids, 0, sizeof(d->gids));
    verbs_model_set_gid(0, 0, "fe80::5:6", IBV_GID_TYPE_IB, "lo");
    d->gids[0].gid_type = IBV_GID_TYPE_IB;
}

static void test_infiniband(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    struct smt_addr from;
    uint8_t grh[40] = {0x60}, ecn = 9;
    ib_make();
    side_open(&a, 100);
    side_open(&b, 200);
    assert_true(a.port.is_ib);
    assert_int_equal(a.port.lid, 17);
    struct ibv_wc wc = {.wc_flags = IBV_WC_WITH_IMM, .imm_data = htonl(b.addr.port), .slid = 17};
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(stats(&a)->n_unknown_source, 1);
    introduce(&a, &b);
    for (uint8_t prio = 0; prio < 8; prio++)
        assert_int_equal(find_prio(&a, &b.addr, prio, &route), SMT_UD_FOUND);
    assert_int_equal(stats(&a)->n_ahs_made, 1);

    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_true(smt_addr_equal(&from, &b.addr));
    assert_int_equal(ecn, 0);
    wc.slid = 18;
    assert_false(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    wc.wc_flags |= IBV_WC_GRH;
    memcpy(grh + 8, a.port.gids[0].gid, 16);
    grh[1] = 0x30;
    assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn));
    assert_int_equal(ecn, 3);
    side_close(&a);
    side_close(&b);
}

/* The first packet overtakes the ACK: it is looked for, once between two polls. */
static void test_infiniband_overtaken_ack(void **state)
{
    struct side a, b;
    struct smt_ud_route route;
    struct smt_addr from;
    uint8_t grh[40] = {0}, ecn;
    ib_make();
    side_open(&a, 100);
    side_open(&b, 200);
    assert_int_equal(find(&a, &b.addr, &route), SMT_UD_ASKING);
    assert_int_equal(side_poll(&b), 0);
    struct ibv_wc wc = {.wc_flags = IBV_WC_WITH_IMM, .imm_data = htonl(a.addr.port), .slid = 17};
    assert_false(smt_ud_peers_source(b.peers, &wc, grh, &from, &ecn));
    assert_int_equal(side_poll(&a), 1); /* sends its ACK */
    assert_false(smt_ud_peers_source(b.peers, &wc, grh, &from, &ecn));
    assert_int_equal(stats(&b)->n_unknown_source, 2); /* one look was all for now */
    side_close(&b);

    side_open(&b, 201);
    struct smt_addr to = b.addr;
    assert_int_equal(find(&a, &to, &route), SMT_UD_ASKING);
    assert_int_equal(side_poll(&b), 0);
    assert_int_equal(side_poll(&a), 1);
    assert_true(smt_ud_peers_source(b.peers, &wc, grh, &from, &ecn));
    assert_true(smt_addr_equal(&from, &a.addr));
    assert_int_equal(stats(&b)->n_unknown_source, 0);
    side_close(&a);
    side_close(&b);
}

/* Another LID replaces the old; another subnet cannot be reached. */
static void test_infiniband_moves(void **state)
{
    struct side a;
    struct stranger s;
    struct smt_ud_route route;
    char text[512];
    ib_make();
    side_open(&a, 100);
    stranger_open(&s);
    for (uint16_t lid = 30; lid < 33; lid++) {
        struct smt_ud_msg m = stranger_msg(&s, SMT_UD_QUERY, 5, 0);
        m.link = SMT_UD_LINK_IB;
        m.lid = lid;
        memcpy(m.gid, a.port.gids[0].gid, 16);
        m.gid[15] = 9;
        if (lid == 32)
            m.gid[7] = 1;
        stranger_send(&s, &a, &m);
        side_poll(&a);
        m.echo = stranger_receive(&s).nonce;
        m.kind = SMT_UD_ACK;
        stranger_send(&s, &a, &m);
        side_poll(&a);
        assert_int_equal(find(&a, &s.addr, &route), SMT_UD_FOUND);
        struct smt_addr from;
        uint8_t ecn, grh[40] = {0};
        struct ibv_wc wc = {.wc_flags = IBV_WC_WITH_IMM, .imm_data = htonl(1), .slid = lid};
        assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn) == (lid < 32));
        wc.slid = 30;
        assert_true(smt_ud_peers_source(a.peers, &wc, grh, &from, &ecn) == (lid == 30));
    }
    assert_int_equal(stats(&a)->n_ahs_made, 2);
    assert_true(smt_ud_peers_explain(a.peers, &s.addr, text, sizeof(text)));
    close(s.fd);
    side_close(&a);
}

/* ---- opening ----------------------------------------------------------------------------------
 */

static void test_port_in_use(void **state)
{
    struct side a, b;
    char text[512] = "";
    side_open(&a, 100);
    b = a;
    struct smt_ud_peers_config config = {
        .port = &a.port,
        .pd = a.pd,
        .qpns = {1},
        .n_qps = 1,
        .now = now,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    config.udp_port = a.addr.port;
    assert_int_equal(smt_ud_peers_open(&config, &b.peers), SMT_EADDRINUSE);
    assert_non_null(strstr(text, "in use"));
    config.udp_port = 4791;
    assert_int_equal(smt_ud_peers_open(&config, &b.peers), SMT_EADDRINUSE);
    assert_non_null(strstr(text, "RoCE"));
    smt_ud_peers_close(NULL);
    side_close(&a);
}

static void test_no_memory(void **state)
{
    struct side a;
    side_open(&a, 100);
    smt_ud_peers_close(a.peers);
    struct smt_ud_peers_config config = {
        .port = &a.port, .pd = a.pd, .qpns = {10}, .n_qps = 1, .qkey = 1, .now = now};
    struct smt_mem_stats before = smt_mem_live();
    int r = SMT_ENOMEM;
    unsigned n = 0;
    while (r != 0) {
        smt_mem_fail_after((long)n++);
        r = smt_ud_peers_open(&config, &a.peers);
        smt_mem_fail_after(-1);
        if (r != 0) {
            assert_int_equal(r, SMT_ENOMEM);
            assert_true(smt_mem_live().n_live == before.n_live);
        }
    }
    assert_true(n > 4);
    side_close(&a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exchange),
        TEST(test_one_of_many_qps),
        TEST(test_backoff),
        TEST(test_forged_answers),
        TEST(test_forged_acks),
        TEST(test_malformed),
        TEST(test_flood_of_askers),
        TEST(test_flood_of_questions),
        TEST(test_restarted_peer),
        TEST(test_heard_peer),
        TEST(test_answers_but_no_packets),
        TEST(test_source_ipv4),
        TEST(test_source_ipv6),
        TEST(test_no_route),
        TEST(test_handles_per_priority),
        TEST(test_handle_cannot_be_made),
        TEST(test_lru_with_handles_in_use),
        TEST(test_own_address_gone),
        TEST(test_infiniband),
        TEST(test_infiniband_overtaken_ack),
        TEST(test_infiniband_moves),
        TEST(test_port_in_use),
        TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
