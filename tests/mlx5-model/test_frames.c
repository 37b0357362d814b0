/* Frames: cut, checksummed, steered, carried, and lost when asked. */
#include <signal.h>
#include <string.h>

#include "harness.h"

static struct drive a, b;

static void pair_open(void)
{
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0 && drive_recvs(&b) == 0);
}

static void pair_close(void)
{
    drive_close(&a);
    drive_close(&b);
    CHECK(harness_complained(""));
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static uint32_t words(uint32_t sum, const uint8_t *p, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
    return sum;
}

/* What Linux would say of the checksum of a UDP or TCP segment. */
static bool l4_right(const uint8_t *f, uint32_t len, int version)
{
    uint32_t l4 = version == 4 ? 34 : 54, protocol = version == 4 ? f[23] : f[20];
    uint32_t sum = version == 4 ? words(0, f + 26, 8) : words(0, f + 22, 32);
    sum += protocol + len - l4;
    return fold(words(fold(sum), f + l4, len - l4)) == 0xffff;
}

/* A header of UDP or of TCP's size behind Ethernet and IP. */
static uint32_t plain_header(int version, uint8_t protocol, uint8_t *h)
{
    uint32_t l4 = drive_header(&a, &b, version, protocol, h) - 44;
    if (protocol == 17) {
        h[l4 + 2] = 0x13, h[l4 + 3] = 0x88; /* to port 5000 */
        memset(h + l4 + 4, 0, 4);
        return l4 + 8;
    }
    h[l4 + 12] = 0x50;
    h[l4 + 13] = 0x19; /* ACK, PSH, FIN */
    h[l4 + 4] = 0xff, h[l4 + 5] = 0xff, h[l4 + 6] = 0xff, h[l4 + 7] = 0xff;
    return l4 + 20;
}

static int post_plain(uint32_t header_len, const uint8_t *h, uint32_t mss, uint32_t len)
{
    uint8_t w[1][1024];
    a.tisn = 0;
    if (mss != 0)
        drive_wqe_lso(&a, w[0], h, header_len, mss, (uintptr_t)a.mem, len);
    else
        drive_wqe_send(&a, w[0], h, header_len, (uintptr_t)a.mem, len);
    mm_set(w[0], MM_CTRL_CE, 2);
    CHECK(drive_post(&a, w, 1) == 0);
    return drive_polled(&a, NULL);
}

static void any_flow(struct drive *d)
{
    struct {
        struct ibv_flow_attr attr;
        struct ibv_flow_spec_eth eth;
    } r = {
        .attr = {.type = IBV_FLOW_ATTR_NORMAL, .size = sizeof(r), .num_of_specs = 1, .port = 1},
        .eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof(r.eth)},
    };
    d->flow = ibv_create_flow(d->qp, &r.attr);
    CHECK(d->flow != NULL);
}

static void test_lso(void)
{
    static const uint8_t protocols[] = {254, 17, 6};
    pair_open();
    any_flow(&b);
    for (uint32_t i = 0; i < 3000; i++)
        a.mem[i] = (uint8_t)(i * 13);
    for (int version = 4; version <= 6; version += 2) {
        for (unsigned p = 0; p < 3; p++) {
            uint8_t h[128];
            uint32_t l4 = version == 4 ? 34 : 54, len, at = 0;
            uint32_t header_len = protocols[p] == 254 ? drive_header(&a, &b, version, 254, h)
                                                      : plain_header(version, protocols[p], h);
            CHECK(post_plain(header_len, h, 1000, 2500) == IBV_WC_SUCCESS);
            for (uint32_t i = 0; i < 3; i++) {
                const uint8_t *f = drive_frame(&b, &len);
                uint32_t n = i < 2 ? 1000 : 500;
                CHECK(f != NULL && len == header_len + n);
                CHECK(memcmp(f + header_len, a.mem + at, n) == 0);
                if (version == 4) {
                    CHECK(fold(words(0, f + 14, 20)) == 0xffff);
                    CHECK((uint32_t)(f[16] << 8 | f[17]) == len - 14);
                    CHECK((uint32_t)(f[18] << 8 | f[19]) == i);
                } else {
                    CHECK((uint32_t)(f[18] << 8 | f[19]) == len - 54);
                }
                if (protocols[p] == 254)
                    CHECK(memcmp(f + l4, h + l4, 44) == 0);
                else
                    CHECK(l4_right(f, len, version));
                if (protocols[p] == 17)
                    CHECK((uint32_t)(f[l4 + 4] << 8 | f[l4 + 5]) == n + 8);
                if (protocols[p] == 6) {
                    CHECK(f[l4 + 13] == (i < 2 ? 0x10 : 0x19));
                    CHECK(f[l4 + 4] == (i == 0 ? 0xff : 0x00)); /* sequence wraps */
                    CHECK((uint32_t)(f[l4 + 6] << 8 | f[l4 + 7]) == ((0xffffu + at) & 0xffff));
                }
                at += n;
            }
        }
    }
    pair_close();
}

static void send_udp(uint16_t port)
{
    uint8_t h[128];
    uint32_t len = plain_header(4, 17, h);
    h[16] = 0, h[17] = (uint8_t)(len - 14 + 40);
    h[36] = (uint8_t)(port >> 8), h[37] = (uint8_t)port;
    h[39] = 48;
    CHECK(post_plain(len, h, 0, 40) == IBV_WC_SUCCESS);
}

static void test_steering(void)
{
    uint32_t len;
    uint8_t h[128];
    pair_open();
    CHECK(drive_flow_udp(&b, 5000) == 0);
    send_udp(5001);
    CHECK(drive_frame(&b, &len) == NULL);
    send_udp(5000);
    const uint8_t *f = drive_frame(&b, &len);
    CHECK(f != NULL && len == 82 && l4_right(f, len, 4));
    /* Another protocol, another MAC. */
    uint32_t header_len = drive_header(&a, &b, 4, 254, h);
    h[17] = (uint8_t)(header_len - 14 + 40);
    CHECK(post_plain(header_len, h, 0, 40) == IBV_WC_SUCCESS);
    CHECK(drive_frame(&b, &len) == NULL);
    ibv_destroy_flow(b.flow);
    CHECK(drive_flow_protocol(&b, 254) == 0);
    CHECK(post_plain(header_len, h, 0, 40) == IBV_WC_SUCCESS);
    CHECK(drive_frame(&b, &len) != NULL);
    h[5] ^= 0x40;
    CHECK(post_plain(header_len, h, 0, 40) == IBV_WC_SUCCESS);
    CHECK(drive_frame(&b, &len) == NULL);
    send_udp(5000);
    CHECK(drive_frame(&b, &len) == NULL);
    pair_close();
}

static void test_matcher(void)
{
    union {
        struct mlx5dv_flow_match_parameters p;
        uint8_t room[sizeof(struct mlx5dv_flow_match_parameters) + 512];
    } mask = {.p.match_sz = 512}, value = {.p.match_sz = 512};
    uint32_t len;
    pair_open();
    mm_set(mask.p.match_buf, MM_FTE_ETHERTYPE, 0xffff);
    mm_set(value.p.match_buf, MM_FTE_ETHERTYPE, 0x800);
    mm_set(mask.p.match_buf, MM_FTE_IP_PROTOCOL, 0xff);
    mm_set(value.p.match_buf, MM_FTE_IP_PROTOCOL, 17);
    mm_set(mask.p.match_buf, MM_FTE_UDP_DPORT, 0xffff);
    mm_set(value.p.match_buf, MM_FTE_UDP_DPORT, 5000);
    struct mlx5dv_flow_matcher_attr attr = {
        .type = IBV_FLOW_ATTR_NORMAL, .match_criteria_enable = 1, .match_mask = &mask.p};
    struct mlx5dv_flow_matcher *m = mlx5dv_create_flow_matcher(b.ctx, &attr);
    CHECK(m != NULL);
    struct mlx5dv_flow_action_attr to = {.type = MLX5DV_FLOW_ACTION_DEST_IBV_QP, .qp = b.qp};
    b.flow = mlx5dv_create_flow(m, &value.p, 1, &to);
    CHECK(b.flow != NULL);
    send_udp(5001);
    CHECK(drive_frame(&b, &len) == NULL);
    send_udp(5000);
    CHECK(drive_frame(&b, &len) != NULL);
    ibv_destroy_flow(b.flow);
    b.flow = NULL;
    CHECK(mlx5dv_destroy_flow_matcher(m) == 0);
    pair_close();
}

/* The verbs of those who seal themselves: no WQE is written by the program. */
static void test_verbs(void)
{
    uint8_t h[128];
    uint32_t len;
    pair_open();
    any_flow(&b);
    uint32_t header_len = plain_header(4, 17, h);
    h[17] = (uint8_t)(header_len - 14 + 40), h[39] = 48;
    memcpy(a.mem, h, header_len);
    memset(a.mem + header_len, 7, 40);
    struct ibv_sge sge[2] = {{(uintptr_t)a.mem, header_len, a.mr->lkey},
                             {(uintptr_t)a.mem + header_len, 40, a.mr->lkey}};
    struct ibv_send_wr wr = {.wr_id = 9,
                             .sg_list = sge,
                             .num_sge = 2,
                             .opcode = IBV_WR_SEND,
                             .send_flags = IBV_SEND_SIGNALED | IBV_SEND_IP_CSUM},
                       *bad;
    CHECK(ibv_post_send(a.qp, &wr, &bad) == 0);
    wr.num_sge = 1;
    sge[0].length = header_len + 40;
    wr.send_flags |= IBV_SEND_INLINE;
    CHECK(ibv_post_send(a.qp, &wr, &bad) == 0);
    struct ibv_qp_ex *ex = ibv_qp_to_qp_ex(a.qp);
    ibv_wr_start(ex);
    ex->wr_id = 10;
    ex->wr_flags = IBV_SEND_SIGNALED | IBV_SEND_IP_CSUM;
    ibv_wr_send(ex);
    ibv_wr_set_sge(ex, a.mr->lkey, (uintptr_t)a.mem, header_len + 40);
    ibv_wr_send_tso(ex, h, (uint16_t)header_len, 20);
    ibv_wr_set_sge(ex, a.mr->lkey, (uintptr_t)a.mem + header_len, 40);
    ibv_wr_send(ex);
    ibv_wr_set_inline_data(ex, a.mem, header_len + 40);
    CHECK(ibv_wr_complete(ex) == 0);
    for (unsigned i = 0; i < 5; i++)
        CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    for (unsigned i = 0; i < 6; i++) {
        const uint8_t *f = drive_frame(&b, &len);
        bool cut = i == 3 || i == 4;
        CHECK(f != NULL && len == header_len + (cut ? 20 : 40) && f[header_len] == 7);
        CHECK(l4_right(f, len, 4) && fold(words(0, f + 14, 20)) == 0xffff);
    }
    CHECK(drive_frame(&b, &len) == NULL);
    pair_close();
}

/* Loss, duplicates and other orders, as often as asked; nothing else is lost. */
static void test_link(void)
{
    enum { N = 2000 };
    static uint8_t seen[N];
    unsigned lost = 0, twice = 0, swapped = 0;
    uint32_t len, last = 0;
    pair_open();
    any_flow(&b);
    for (uint32_t i = 0; i < N + 20; i++) {
        memcpy(a.mem, &i, 4);
        send_udp(5000);
        for (const uint8_t *f; (f = drive_frame(&b, &len)) != NULL;) {
            uint32_t number;
            memcpy(&number, f + 42, 4);
            swapped += number < last;
            last = number;
            if (number < N)
                seen[number]++;
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        lost += seen[i] == 0;
        twice += seen[i] == 2;
        CHECK(seen[i] < 3);
    }
    CHECK(lost > N / 20 && lost < N / 5);
    CHECK(twice > N / 40 && twice < N / 10);
    CHECK(swapped > N / 40 && swapped < N / 5);
    pair_close();
}

static void test_no_buffer(void)
{
    uint32_t len;
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    any_flow(&b);
    send_udp(5000);
    CHECK(drive_frame(&b, &len) == NULL);
    CHECK(drive_recvs(&b) == 0);
    /* It waited, as with PAUSE. */
    CHECK(drive_frame(&b, &len) != NULL);
    pair_close();
}

static void test_plaintext(void)
{
    pair_open();
    any_flow(&b);
    memcpy(a.mem + 11, "secret!", 7);
    send_udp(5000);
}

int main(void)
{
    static const struct harness_test tests[] = {
        {"LSO", "full,devices=2", test_lso, 0},
        {"rules", "full,devices=2", test_steering, 0},
        {"matchers", "full,devices=2", test_matcher, 0},
        {"sends by verbs", "full,devices=2", test_verbs, 0},
        {"loss, duplicates, order", "full,devices=2,loss=0.1,dup=0.05,reorder=0.05", test_link, 0},
        {"no buffer", "full,devices=2", test_no_buffer, 0},
        {"plaintext on the wire", "full,devices=2,plain=736563726574", test_plaintext, SIGABRT},
    };
    return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
