/* Completions, events, errors, and what is left after them. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static const uint8_t key[16] = {5, 4, 3, 2, 1};
static const uint8_t iv[12] = {0x87, 0xc6, 0x35, 0xc8};
static struct drive a, b;

static void a_open(void)
{
    CHECK(drive_open(&a, 0) == 0);
}

static void a_close(void)
{
    drive_close(&a);
    CHECK(harness_complained(""));
}

static int nops(unsigned n, unsigned signalled_every)
{
    static uint8_t w[256][1024];
    for (unsigned i = 0; i < n; i++) {
        drive_wqe_nop(&a, w[i], 0);
        mm_set(w[i], MM_CTRL_CE, (i + 1) % signalled_every == 0 ? 2 : 0);
    }
    return drive_post(&a, w, n);
}

static void test_unsignalled(void)
{
    uint64_t id;
    a_open();
    for (unsigned round = 0; round < 50; round++) {
        CHECK(nops(32, 16) == 0);
        CHECK(drive_polled(&a, &id) == IBV_WC_SUCCESS && id % 16 == 15);
        CHECK(drive_polled(&a, &id) == IBV_WC_SUCCESS && id % 16 == 15);
        CHECK(drive_polled(&a, NULL) == -1);
    }
    a_close();
}

/* Space comes back by polled completions only. */
static void test_overrun(void)
{
    a_open();
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;
    CHECK(ibv_query_qp(a.qp, &attr, IBV_QP_CAP, &init) == 0);
    CHECK(nops(init.cap.max_send_wr, init.cap.max_send_wr) == 0);
    CHECK(harness_complained(""));
    CHECK(nops(1, 1) != 0);
    CHECK(harness_complained("send queue"));
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    CHECK(nops(1, 1) == 0);
    a_close();
}

static bool is_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

static void test_events(void)
{
    struct ibv_cq *cq;
    void *context;
    a_open();
    CHECK(fcntl(a.channel->fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(nops(1, 1) == 0);
    CHECK(!is_readable(a.channel->fd, 0));
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    CHECK(ibv_req_notify_cq(a.tx_cq, 0) == 0);
    CHECK(!is_readable(a.channel->fd, 0));
    CHECK(nops(2, 1) == 0);
    CHECK(is_readable(a.channel->fd, 0));
    CHECK(ibv_get_cq_event(a.channel, &cq, &context) == 0 && cq == a.tx_cq);
    /* One event for each time it was armed. */
    CHECK(ibv_get_cq_event(a.channel, &cq, &context) != 0);
    CHECK(!is_readable(a.channel->fd, 0));
    ibv_ack_cq_events(cq, 1);
    a_close();
}

/* A frame from the other port wakes who sleeps on the channel. */
static void test_frame_wakes(void)
{
    uint8_t w[1][1024], h[128];
    struct ibv_cq *cq;
    void *context;
    uint32_t len;
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    CHECK(drive_recvs(&b) == 0 && drive_flow_protocol(&b, 254) == 0);
    CHECK(fcntl(b.channel->fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(ibv_req_notify_cq(b.rx_cq, 0) == 0);
    CHECK(!is_readable(b.channel->fd, 0));
    uint32_t header_len = drive_header(&a, &b, 4, 254, h);
    drive_wqe_send(&a, w[0], h, header_len, (uintptr_t)a.mem, 100);
    CHECK(drive_post(&a, w, 1) == 0);
    CHECK(is_readable(b.channel->fd, 0));
    CHECK(ibv_get_cq_event(b.channel, &cq, &context) == 0 && cq == b.rx_cq);
    ibv_ack_cq_events(cq, 1);
    CHECK(drive_frame(&b, &len) != NULL && len == header_len + 100);
    CHECK(!is_readable(b.channel->fd, 0));
    drive_close(&b);
    a_close();
}

/* Completions that are held back come all the same, and wake. */
static void test_held_back(void)
{
    struct ibv_cq *cq;
    void *context;
    a_open();
    CHECK(fcntl(a.channel->fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(ibv_req_notify_cq(a.tx_cq, 0) == 0);
    CHECK(nops(3, 1) == 0);
    CHECK(drive_polled(&a, NULL) == -1);
    CHECK(is_readable(a.channel->fd, 20000));
    CHECK(ibv_get_cq_event(a.channel, &cq, &context) == 0);
    ibv_ack_cq_events(cq, 1);
    for (unsigned i = 0; i < 3; i++)
        CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    a_close();
}

/* Work that is done later: memory that changes before is a fault of the program. */
static void test_lazy(void)
{
    uint8_t w[1][1024], h[128];
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    uint32_t header_len = drive_header(&a, &b, 4, 254, h);
    drive_wqe_send(&a, w[0], h, header_len, (uintptr_t)a.mem, 100);
    mm_set(w[0], MM_CTRL_CE, 2);
    CHECK(drive_post(&a, w, 1) == 0);
    CHECK(drive_polled(&a, NULL) == -1);
    int status;
    while ((status = drive_polled(&a, NULL)) < 0) {
    }
    CHECK(status == IBV_WC_SUCCESS && harness_complained(""));
    CHECK(drive_post(&a, w, 1) == 0);
    a.mem[50] ^= 1;
    while ((status = drive_polled(&a, NULL)) < 0) {
    }
    CHECK(harness_complained("data.addr"));
    drive_close(&b);
    a_close();
}

static void restart(void)
{
    struct ibv_qp_attr reset = {.qp_state = IBV_QPS_RESET};
    struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT, .port_num = 1};
    struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR}, rts = {.qp_state = IBV_QPS_RTS};
    CHECK(ibv_modify_qp(a.qp, &reset, IBV_QP_STATE) == 0);
    CHECK(ibv_modify_qp(a.qp, &init, IBV_QP_STATE | IBV_QP_PORT) == 0);
    CHECK(ibv_modify_qp(a.qp, &rtr, IBV_QP_STATE) == 0);
    CHECK(ibv_modify_qp(a.qp, &rts, IBV_QP_STATE) == 0);
}

static void program(void)
{
    uint8_t w[3][1024];
    drive_wqe_static(&a, w[0], 2, iv, 1, 0);
    drive_wqe_progress(&a, w[1], 1);
    drive_wqe_nop(&a, w[2], 1);
    mm_set(w[2], MM_CTRL_CE, 2);
    CHECK(drive_post(&a, w, 3) == 0);
}

static int record_send(void)
{
    uint8_t w[1][1024], h[128];
    uint32_t header_len = drive_header(&a, &b, 4, 254, h);
    uint32_t len = drive_record(a.mem, 1, 200);
    drive_wqe_lso(&a, w[0], h, header_len, 1400, (uintptr_t)a.mem, len);
    mm_set(w[0], MM_CTRL_CE, 2);
    CHECK(drive_post(&a, w, 1) == 0);
    return drive_polled(&a, NULL);
}

/* An error takes all that follows along; after the restart every context is programmed anew. */
static void test_error(void)
{
    struct ibv_qp_attr attr;
    struct ibv_qp_init_attr init;
    struct ibv_wc wc;
    uint32_t len;
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    CHECK(drive_recvs(&b) == 0 && drive_flow_protocol(&b, 254) == 0);
    CHECK(drive_objects(&a, key, 16) == 0);
    program();
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    harness_control(0, "cqe-length\n");
    for (unsigned i = 0; i < 70; i++) /* it is looked at now and then */
        CHECK(drive_polled(&a, NULL) == -1);
    CHECK(nops(3, 3) == 0);
    CHECK(ibv_poll_cq(a.tx_cq, 1, &wc) == 1);
    CHECK(wc.status == IBV_WC_LOC_LEN_ERR && wc.vendor_err != 0);
    CHECK(drive_polled(&a, NULL) == IBV_WC_WR_FLUSH_ERR);
    CHECK(drive_polled(&a, NULL) == IBV_WC_WR_FLUSH_ERR);
    CHECK(record_send() == IBV_WC_WR_FLUSH_ERR);
    CHECK(ibv_query_qp(a.qp, &attr, IBV_QP_STATE, &init) == 0 && attr.qp_state == IBV_QPS_SQE);
    CHECK(drive_frame(&b, &len) == NULL);
    restart();
    program();
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    CHECK(record_send() == IBV_WC_SUCCESS);
    CHECK(drive_frame(&b, &len) != NULL);
    drive_close(&b);
    a_close();
}

static void test_context_forgotten(void)
{
    a_open();
    CHECK(drive_open(&b, 1) == 0);
    CHECK(drive_objects(&a, key, 16) == 0);
    program();
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    harness_control(0, "cqe-protection\n");
    for (unsigned i = 0; i < 70; i++)
        CHECK(drive_polled(&a, NULL) == -1);
    CHECK(record_send() == IBV_WC_LOC_PROT_ERR);
    restart();
    CHECK(record_send() == IBV_WC_LOC_QP_OP_ERR);
    CHECK(harness_complained("ctrl.tis_tir_num"));
    drive_close(&b);
    a_close();
}

/* A lost key is an error of its next use; a damaged one seals what nobody can open. */
static void test_key_lost(void)
{
    uint8_t record[512];
    uint32_t len, header_len = 78;
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    CHECK(drive_recvs(&b) == 0 && drive_flow_protocol(&b, 254) == 0);
    CHECK(drive_objects(&a, key, 16) == 0);
    program();
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
    harness_control(0, "dek-garbage\n");
    for (unsigned i = 0; i < 70; i++)
        CHECK(drive_polled(&a, NULL) == -1);
    CHECK(record_send() == IBV_WC_SUCCESS);
    const uint8_t *f = drive_frame(&b, &len);
    CHECK(f != NULL && len == header_len + 229);
    memcpy(record, f + header_len, 229);
    CHECK(!harness_open(2, key, 16, iv, 1, record, 229));
    harness_control(0, "dek-error\n");
    for (unsigned i = 0; i < 70; i++)
        CHECK(drive_polled(&a, NULL) == -1);
    CHECK(record_send() == IBV_WC_LOC_PROT_ERR);
    drive_close(&b);
    a_close();
}

static void test_reset(void)
{
    struct ibv_async_event e;
    a_open();
    CHECK(drive_recvs(&a) == 0);
    CHECK(fcntl(a.ctx->async_fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(ibv_get_async_event(a.ctx, &e) != 0);
    harness_control(0, "reset\n");
    for (unsigned i = 0; i < 70 && ibv_get_async_event(a.ctx, &e) != 0; i++) {
    }
    CHECK(e.event_type == IBV_EVENT_DEVICE_FATAL);
    ibv_ack_async_event(&e);
    CHECK(nops(1, 1) == 0 && drive_polled(&a, NULL) == IBV_WC_WR_FLUSH_ERR);
    struct ibv_wc wc;
    CHECK(ibv_poll_cq(a.rx_cq, 1, &wc) == 1 && wc.status == IBV_WC_WR_FLUSH_ERR);
    CHECK(ibv_alloc_pd(a.ctx) == NULL);
    a_close();
}

static void test_port(void)
{
    struct ibv_async_event e;
    struct ibv_port_attr port;
    a_open();
    CHECK(ibv_query_port(a.ctx, 1, &port) == 0 && port.state == IBV_PORT_ACTIVE);
    CHECK(port.link_layer == IBV_LINK_LAYER_ETHERNET);
    harness_control(0, "port-down\n");
    for (unsigned i = 0; i < 70; i++)
        CHECK(drive_polled(&a, NULL) == -1);
    CHECK(ibv_get_async_event(a.ctx, &e) == 0 && e.event_type == IBV_EVENT_PORT_ERR);
    ibv_ack_async_event(&e);
    CHECK(ibv_query_port(a.ctx, 1, &port) == 0 && port.state == IBV_PORT_DOWN);
    a_close();
}

static void test_abort(void)
{
    uint8_t w[1][1024];
    a_open();
    drive_wqe_nop(&a, w[0], 0);
    mm_set(w[0], MM_CTRL_QPN, 1);
    (void)drive_post(&a, w, 1);
}

int main(void)
{
    static const struct harness_test tests[] = {
        {"unsignalled", "full", test_unsignalled, 0},
        {"overrun", "full,abort=0", test_overrun, 0},
        {"events", "full", test_events, 0},
        {"a frame wakes", "full,devices=2", test_frame_wakes, 0},
        {"completions held back", "full,cqe_batch=8,cqe_delay_us=400000", test_held_back, 0},
        {"lazy", "full,devices=2,abort=0,lazy_us=400000", test_lazy, 0},
        {"error and recovery", "full,devices=2", test_error, 0},
        {"contexts forgotten", "full,devices=2,abort=0", test_context_forgotten, 0},
        {"a key lost", "full,devices=2,abort=0", test_key_lost, 0},
        {"reset", "full", test_reset, 0},
        {"port", "full", test_port, 0},
        {"wrong use ends it", "full", test_abort, SIGABRT},
    };
    return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
