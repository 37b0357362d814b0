/* The verbs model itself: datagrams go where they should, with the headers and completions that
 * hardware gives, and every kind of wrong use ends the process with the line that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <infiniband/mlx5dv.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/asan.h"
#include "verbs-model/verbs_model.h"

enum { DEPTH = 8, BUF = 4200, N_BUFS = 24, QKEY = 0x11111111, GRH = 40, INLINE = 64 };

/* One QP with everything it needs; buffers 0…7 for sending. */
struct end {
    struct ibv_context *ctx;
    struct ibv_pd *pd;
    struct ibv_mr *mr;
    struct ibv_comp_channel *channel;
    struct ibv_cq *send_cq, *recv_cq;
    struct ibv_qp *qp;
    struct ibv_qp_ex *ex;
    struct ibv_ah *ah;
    uint8_t *mem;
};

static uint8_t *buf(struct end *e, unsigned i)
{
    return e->mem + (size_t)i * BUF;
}

static struct ibv_sge sge_of(struct end *e, unsigned i, uint32_t len)
{
    return (struct ibv_sge){.addr = (uintptr_t)buf(e, i), .length = len, .lkey = e->mr->lkey};
}

static void context_open(struct end *e, unsigned device)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    assert_non_null(list);
    e->ctx = ibv_open_device(list[device]);
    ibv_free_device_list(list);
    assert_non_null(e->ctx);
}

static struct ibv_qp *qp_make(struct end *e, bool with_ops)
{
    struct ibv_qp_init_attr_ex attr = {
        .send_cq = e->send_cq,
        .recv_cq = e->recv_cq,
        .cap = {DEPTH, DEPTH, 2, 2, INLINE},
        .qp_type = IBV_QPT_UD,
        .comp_mask = IBV_QP_INIT_ATTR_PD,
        .pd = e->pd,
    };
    if (with_ops) {
        attr.comp_mask |= IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
        attr.send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM;
    }
    if (mlx5dv_is_supported(e->ctx->device))
        return mlx5dv_create_qp(e->ctx, &attr, NULL);
    return ibv_create_qp_ex(e->ctx, &attr);
}

static int to_init(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY};
    return ibv_modify_qp(e->qp, &attr,
                         IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
}

static int to_rts(struct end *e)
{
    struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR}, rts = {.qp_state = IBV_QPS_RTS};
    int r = ibv_modify_qp(e->qp, &rtr, IBV_QP_STATE);
    return r != 0 ? r : ibv_modify_qp(e->qp, &rts, IBV_QP_STATE | IBV_QP_SQ_PSN);
}

/* To `gid_index` of its own device: a network of one address. */
static struct ibv_ah_attr ah_attr(unsigned gid_index)
{
    return (struct ibv_ah_attr){.grh = {.dgid = verbs_model.devices[0].gids[gid_index].gid,
                                        .sgid_index = (uint8_t)gid_index,
                                        .hop_limit = 64,
                                        .traffic_class = 5 << 5 | 2,
                                        .flow_label = 0x12345},
                                .is_global = 1,
                                .dlid =
                                    verbs_model.devices[0].is_ib ? verbs_model.devices[0].lid : 0,
                                .port_num = 1};
}

static void end_open(struct end *e, bool with_ops)
{
    *e = (struct end){0};
    context_open(e, 0);
    e->pd = ibv_alloc_pd(e->ctx);
    e->mem = mmap(NULL, (size_t)BUF * N_BUFS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    assert_ptr_not_equal(e->mem, MAP_FAILED);
    e->mr = ibv_reg_mr(e->pd, e->mem, (size_t)BUF * N_BUFS, IBV_ACCESS_LOCAL_WRITE);
    e->channel = ibv_create_comp_channel(e->ctx);
    e->send_cq = ibv_create_cq(e->ctx, DEPTH, e, e->channel, 0);
    e->recv_cq = ibv_create_cq(e->ctx, DEPTH, e, e->channel, 0);
    e->qp = qp_make(e, with_ops);
    assert_non_null(e->qp);
    e->ex = ibv_qp_to_qp_ex(e->qp);
    assert_true((e->ex != NULL) == with_ops);
    assert_int_equal(to_init(e), 0);
    assert_int_equal(to_rts(e), 0);
    struct ibv_ah_attr attr = ah_attr(3);
    e->ah = ibv_create_ah(e->pd, &attr);
    assert_non_null(e->ah);
}

static void end_close(struct end *e)
{
    assert_int_equal(ibv_destroy_qp(e->qp), 0);
    assert_int_equal(ibv_destroy_ah(e->ah), 0);
    assert_int_equal(ibv_destroy_cq(e->send_cq), 0);
    assert_int_equal(ibv_destroy_cq(e->recv_cq), 0);
    assert_int_equal(ibv_destroy_comp_channel(e->channel), 0);
    assert_int_equal(ibv_dereg_mr(e->mr), 0);
    assert_int_equal(ibv_dealloc_pd(e->pd), 0);
    assert_int_equal(ibv_close_device(e->ctx), 0);
    munmap(e->mem, (size_t)BUF * N_BUFS);
}

static int recv_post(struct end *e, unsigned i, uint32_t len)
{
    struct ibv_sge sge = sge_of(e, i, len);
    struct ibv_recv_wr wr = {.wr_id = 100 + i, .sg_list = &sge, .num_sge = 1}, *bad;
    return ibv_post_recv(e->qp, &wr, &bad);
}

static struct ibv_send_wr send_wr(struct end *from, struct end *to, struct ibv_sge *sge)
{
    return (struct ibv_send_wr){
        .wr_id = 7,
        .sg_list = sge,
        .num_sge = 1,
        .opcode = IBV_WR_SEND_WITH_IMM,
        .send_flags = IBV_SEND_SIGNALED,
        .imm_data = htonl(0xabcd),
        .wr.ud = {.ah = from->ah, .remote_qpn = to->qp->qp_num, .remote_qkey = QKEY}};
}

/* By whichever call the QP has. */
static int send_one(struct end *from, struct end *to, unsigned i, uint32_t len, bool is_inline,
                    bool is_signalled)
{
    struct ibv_sge sge = sge_of(from, i, len);
    if (from->ex != NULL) {
        ibv_wr_start(from->ex);
        from->ex->wr_id = 7;
        from->ex->wr_flags =
            (is_signalled ? IBV_SEND_SIGNALED : 0) | (is_inline ? IBV_SEND_INLINE : 0);
        ibv_wr_send_imm(from->ex, htonl(0xabcd));
        ibv_wr_set_ud_addr(from->ex, from->ah, to->qp->qp_num, QKEY);
        if (is_inline)
            ibv_wr_set_inline_data(from->ex, buf(from, i), len);
        else
            ibv_wr_set_sge(from->ex, sge.lkey, sge.addr, len);
        return ibv_wr_complete(from->ex);
    }
    struct ibv_send_wr wr = send_wr(from, to, &sge), *bad;
    wr.send_flags = (is_signalled ? IBV_SEND_SIGNALED : 0) | (is_inline ? IBV_SEND_INLINE : 0);
    return ibv_post_send(from->qp, &wr, &bad);
}

static struct ibv_wc poll_one(struct ibv_cq *cq)
{
    struct ibv_wc wc = {0};
    assert_int_equal(ibv_poll_cq(cq, 1, &wc), 1);
    return wc;
}

static void assert_empty(struct ibv_cq *cq)
{
    struct ibv_wc wc;
    assert_int_equal(ibv_poll_cq(cq, 1, &wc), 0);
}

static void check_ipv4(const uint8_t *grh, uint32_t payload)
{
    const uint8_t *h = grh + 20;
    uint32_t sum = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)h[i] << 8 | h[i + 1];
    assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
    assert_int_equal(h[0], 0x45);
    assert_int_equal(h[1], 5 << 5 | 2);
    assert_int_equal(h[2] << 8 | h[3], 20 + 8 + 12 + 8 + 4 + ((payload + 3) & ~3u) + 4);
    assert_int_equal(h[8], 64);
    assert_int_equal(h[9], 17);
    assert_memory_equal(h + 12, "\x7f\0\0\1\x7f\0\0\1", 8);
}

static void exchange(bool with_ops, bool is_inline, uint32_t len)
{
    struct end a, b;
    end_open(&a, with_ops);
    end_open(&b, with_ops);
    assert_int_equal(recv_post(&b, 10, BUF), 0);
    for (uint32_t i = 0; i < len; i++)
        buf(&a, 0)[i] = (uint8_t)(i * 7);
    assert_int_equal(send_one(&a, &b, 0, len, is_inline, true), 0);
    struct ibv_wc wc = poll_one(a.send_cq);
    assert_int_equal(wc.status, IBV_WC_SUCCESS);
    assert_int_equal(wc.wr_id, 7);
    assert_int_equal(wc.opcode, IBV_WC_SEND);
    wc = poll_one(b.recv_cq);
    assert_int_equal(wc.status, IBV_WC_SUCCESS);
    assert_int_equal(wc.wr_id, 110);
    assert_int_equal(wc.opcode, IBV_WC_RECV);
    assert_int_equal(wc.byte_len, GRH + len);
    assert_int_equal(wc.wc_flags, IBV_WC_GRH | IBV_WC_WITH_IMM);
    assert_int_equal(ntohl(wc.imm_data), 0xabcd);
    assert_int_equal(wc.src_qp, a.qp->qp_num);
    assert_int_equal(wc.qp_num, b.qp->qp_num);
    assert_int_equal(wc.slid, 0);
    check_ipv4(buf(&b, 10), len);
    assert_memory_equal(buf(&b, 10) + GRH, buf(&a, 0), len);
    assert_empty(a.send_cq);
    assert_empty(b.recv_cq);
    assert_int_equal(verbs_model_counts.doorbells, 1);
    assert_int_equal(verbs_model_counts.delivered, 1);
    end_close(&a);
    end_close(&b);
}

static void test_exchange(void **state)
{
    static const uint32_t lens[] = {1, 3, 64, 1024, 4096};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        for (unsigned k = 0; k < 4; k++) {
            if ((k & 1) != 0 && lens[i] > INLINE)
                continue;
            verbs_model_reset();
            exchange(k >= 2, (k & 1) != 0, lens[i]);
        }
    }
}

static void test_ipv6_header(void **state)
{
    struct end a;
    end_open(&a, false);
    ibv_destroy_ah(a.ah);
    struct ibv_ah_attr attr = ah_attr(5);
    a.ah = ibv_create_ah(a.pd, &attr);
    assert_int_equal(recv_post(&a, 10, BUF), 0);
    assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
    poll_one(a.recv_cq);
    const uint8_t *h = buf(&a, 10);
    assert_int_equal(h[0] >> 4, 6);
    assert_int_equal((h[0] & 15) << 4 | h[1] >> 4, 5 << 5 | 2);
    assert_int_equal((h[1] & 15) << 16 | h[2] << 8 | h[3], 0x12345);
    assert_int_equal(h[6], 17);
    assert_int_equal(h[7], 64);
    assert_int_equal(h[8 + 15], 1);
    assert_int_equal(h[24 + 15], 1);
    poll_one(a.send_cq);
    end_close(&a);
}

static void test_infiniband(void **state)
{
    verbs_model.devices[0].is_ib = true;
    struct end a;
    end_open(&a, false);
    for (unsigned global = 0; global < 2; global++) {
        ibv_destroy_ah(a.ah);
        struct ibv_ah_attr attr = ah_attr(3);
        attr.is_global = (uint8_t)global;
        attr.sl = 9;
        a.ah = ibv_create_ah(a.pd, &attr);
        assert_int_equal(recv_post(&a, 10, BUF), 0);
        assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
        struct ibv_wc wc = poll_one(a.recv_cq);
        poll_one(a.send_cq);
        assert_int_equal(wc.byte_len, GRH + 10);
        assert_int_equal(wc.slid, verbs_model.devices[0].lid);
        assert_int_equal(wc.sl, 9);
        assert_int_equal(wc.wc_flags & IBV_WC_GRH, global ? IBV_WC_GRH : 0);
        assert_int_equal(buf(&a, 10)[6], global ? 0x1b : VERBS_MODEL_POISON);
    }
    end_close(&a);
}

static void test_drops(void **state)
{
    struct end a, b;
    end_open(&a, false);
    end_open(&b, false);
    struct verbs_model_counts *c = &verbs_model_counts;
    struct ibv_sge sge = sge_of(&a, 0, 10);
    struct ibv_send_wr wr = send_wr(&a, &b, &sge), *bad;
    assert_int_equal(ibv_post_send(a.qp, &wr, &bad), 0);
    assert_int_equal(c->no_recv, 1);
    assert_int_equal(recv_post(&b, 10, BUF), 0);
    wr.wr.ud.remote_qkey = QKEY + 1;
    assert_int_equal(ibv_post_send(a.qp, &wr, &bad), 0);
    assert_int_equal(c->bad_qkey, 1);
    wr = send_wr(&a, &b, &sge);
    wr.wr.ud.remote_qpn++;
    assert_int_equal(ibv_post_send(a.qp, &wr, &bad), 0);
    assert_int_equal(c->bad_qpn, 1);
    verbs_model_set_port(0, false);
    wr = send_wr(&a, &b, &sge);
    assert_int_equal(ibv_post_send(a.qp, &wr, &bad), 0);
    assert_int_equal(c->no_port, 1);
    verbs_model.devices[0].port_state = IBV_PORT_ACTIVE;
    verbs_model.devices[0].active_mtu = IBV_MTU_256;
    sge.length = 300;
    assert_int_equal(ibv_post_send(a.qp, &wr, &bad), 0);
    assert_int_equal(c->too_big, 1);
    assert_int_equal(c->delivered, 0);
    struct ibv_wc wcs[8];
    assert_int_equal(ibv_poll_cq(a.send_cq, 8, wcs), 5);
    assert_empty(b.recv_cq);
    end_close(&a);
    end_close(&b);
}

static void test_selective_signalling(void **state)
{
    struct end a;
    end_open(&a, true);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < DEPTH; i++)
            assert_int_equal(send_one(&a, &a, 0, 10, false, i == DEPTH - 1), 0);
        poll_one(a.send_cq);
        assert_empty(a.send_cq);
    }
    end_close(&a);
}

static void test_events(void **state)
{
    struct end a;
    end_open(&a, false);
    struct pollfd p = {.fd = a.channel->fd, .events = POLLIN};
    struct ibv_cq *cq;
    void *arg;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(recv_post(&a, 10 + i, BUF), 0);
    assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
    /* What lies there when a CQ is armed raises nothing. */
    assert_int_equal(ibv_req_notify_cq(a.recv_cq, 0), 0);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
    assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
    assert_int_equal(poll(&p, 1, 0), 1);
    assert_int_equal(ibv_get_cq_event(a.channel, &cq, &arg), 0);
    assert_ptr_equal(cq, a.recv_cq);
    assert_ptr_equal(arg, &a);
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(fcntl(a.channel->fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(ibv_get_cq_event(a.channel, &cq, &arg), -1);
    assert_int_equal(errno, EAGAIN);
    ibv_ack_cq_events(a.recv_cq, 1);
    end_close(&a);
}

static void test_async_events(void **state)
{
    struct end a;
    struct ibv_async_event event;
    end_open(&a, false);
    verbs_model_set_port(0, false);
    assert_int_equal(verbs_model_qp_error(0, IBV_EVENT_QP_FATAL), 1);
    assert_int_equal(ibv_get_async_event(a.ctx, &event), 0);
    assert_int_equal(event.event_type, IBV_EVENT_PORT_ERR);
    ibv_ack_async_event(&event);
    assert_int_equal(ibv_get_async_event(a.ctx, &event), 0);
    assert_int_equal(event.event_type, IBV_EVENT_QP_FATAL);
    assert_ptr_equal(event.element.qp, a.qp);
    ibv_ack_async_event(&event);
    assert_int_equal(fcntl(a.ctx->async_fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(ibv_get_async_event(a.ctx, &event), -1);
    end_close(&a);
}

/* SQE, back to RTS; ERR, through RESET to RTS. */
static void test_errors(void **state)
{
    for (unsigned keep = 0; keep < 2; keep++) {
        verbs_model_reset();
        verbs_model.devices[0].reset_keeps_cqes = keep;
        struct end a;
        end_open(&a, false);
        assert_int_equal(recv_post(&a, 10, BUF), 0);
        verbs_model.send_errors = 1;
        verbs_model.send_status = IBV_WC_LOC_QP_OP_ERR;
        assert_int_equal(send_one(&a, &a, 0, 10, false, false), 0);
        assert_int_equal(send_one(&a, &a, 1, 10, false, false), 0);
        assert_int_equal(poll_one(a.send_cq).status, IBV_WC_LOC_QP_OP_ERR);
        assert_int_equal(poll_one(a.send_cq).status, IBV_WC_WR_FLUSH_ERR);
        struct ibv_qp_attr attr;
        struct ibv_qp_init_attr init;
        assert_int_equal(ibv_query_qp(a.qp, &attr, IBV_QP_STATE, &init), 0);
        assert_int_equal(attr.qp_state, IBV_QPS_SQE);
        attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS};
        assert_int_equal(ibv_modify_qp(a.qp, &attr, IBV_QP_STATE), 0);
        assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
        assert_int_equal(poll_one(a.send_cq).status, IBV_WC_SUCCESS);
        assert_int_equal(poll_one(a.recv_cq).status, IBV_WC_SUCCESS);
        assert_int_equal(recv_post(&a, 10, BUF), 0);
        assert_int_equal(recv_post(&a, 11, BUF), 0);
        assert_int_equal(verbs_model_qp_error(0, -1), 1);
        assert_int_equal(poll_one(a.recv_cq).status, IBV_WC_WR_FLUSH_ERR);
        attr.qp_state = IBV_QPS_RESET;
        assert_int_equal(ibv_modify_qp(a.qp, &attr, IBV_QP_STATE), 0);
        assert_int_equal(to_init(&a), 0);
        assert_int_equal(to_rts(&a), 0);
        if (keep)
            assert_int_equal(poll_one(a.recv_cq).wr_id, 111);
        assert_int_equal(recv_post(&a, 12, BUF), 0);
        assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
        assert_int_equal(poll_one(a.recv_cq).wr_id, 112);
        verbs_model_cq_error(0);
        struct ibv_wc wc;
        assert_int_equal(ibv_poll_cq(a.recv_cq, 1, &wc), -1);
        struct ibv_async_event event;
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(ibv_get_async_event(a.ctx, &event), 0);
            assert_int_equal(event.event_type, IBV_EVENT_CQ_ERR);
            ibv_ack_async_event(&event);
        }
        end_close(&a);
    }
}

static void test_stall(void **state)
{
    struct end a;
    end_open(&a, true);
    verbs_model.is_stalled = true;
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(recv_post(&a, 10 + i, BUF), 0);
        assert_int_equal(send_one(&a, &a, i, 10, false, true), 0);
    }
    assert_empty(a.send_cq);
    assert_int_equal(verbs_model_run(1), 1);
    poll_one(a.send_cq);
    poll_one(a.recv_cq);
    assert_empty(a.recv_cq);
    assert_int_equal(verbs_model_run(100), 3);
    end_close(&a);
}

static unsigned long number_of(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* All that is not lost comes, some of it twice or late; the same seed does the same. */
static void test_bad_network(void **state)
{
    uint64_t sums[2] = {0, 0};
    for (unsigned run = 0; run < 2; run++) {
        verbs_model_reset();
        verbs_model_seed(5);
        verbs_model.loss = 10;
        verbs_model.duplicates = 10;
        verbs_model.late = 20;
        struct end a;
        end_open(&a, false);
        for (unsigned i = 0; i < DEPTH; i++)
            assert_int_equal(recv_post(&a, 10 + i, BUF), 0);
        unsigned got = 0, late = 0;
        unsigned long newest = 0;
        for (uint32_t n = 0; n < 2000; n++) {
            memcpy(buf(&a, 0), &n, sizeof(n));
            assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
            poll_one(a.send_cq);
            struct ibv_wc wc;
            while (ibv_poll_cq(a.recv_cq, 1, &wc) == 1) {
                unsigned i = (unsigned)wc.wr_id - 100;
                unsigned long v = number_of(buf(&a, i) + GRH);
                late += v < newest;
                newest = v > newest ? v : newest;
                sums[run] = (sums[run] ^ v) * 0x9e3779b97f4a7c15;
                got++;
                assert_int_equal(recv_post(&a, i, BUF), 0);
            }
        }
        struct verbs_model_counts *c = &verbs_model_counts;
        assert_in_range(c->lost, 100, 300);
        assert_in_range(c->duplicated, 50, 300);
        assert_true(late > 20);
        assert_int_equal(got, c->delivered);
        assert_in_range(2000 + c->duplicated - c->lost - c->delivered - c->no_recv, 0, 3);
        end_close(&a);
    }
    assert_int_equal(sums[0], sums[1]);
}

static void test_injected(void **state)
{
    struct end a;
    end_open(&a, false);
    static struct verbs_model_packet p;
    p.to = &verbs_model.devices[0];
    assert_true(verbs_model_qp(0, 0, &p.dst_qpn, &p.qkey));
    assert_int_equal(p.dst_qpn, a.qp->qp_num);
    assert_int_equal(p.qkey, QKEY);
    assert_false(verbs_model_inject(&p));
    assert_int_equal(recv_post(&a, 10, BUF), 0);
    assert_true(verbs_model_inject(&p));
    struct ibv_wc wc = poll_one(a.recv_cq);
    assert_int_equal(wc.byte_len, GRH);
    assert_int_equal(wc.wc_flags, 0);
    p.len = 100;
    assert_int_equal(recv_post(&a, 10, GRH + 50), 0);
    assert_true(verbs_model_inject(&p));
    assert_int_equal(poll_one(a.recv_cq).status, IBV_WC_LOC_LEN_ERR);
    assert_int_equal(a.qp->state, IBV_QPS_ERR);
    end_close(&a);
}

static void test_failures(void **state)
{
    struct end a = {0};
    verbs_model.fail[VERBS_MODEL_OPEN_DEVICE] = (struct verbs_model_failure){0, 1, EACCES};
    struct ibv_device **list = ibv_get_device_list(NULL);
    assert_null(ibv_open_device(list[0]));
    assert_int_equal(errno, EACCES);
    ibv_free_device_list(list);
    verbs_model.fail[VERBS_MODEL_GET_DEVICE_LIST] = (struct verbs_model_failure){0, 1, ENOSYS};
    assert_null(ibv_get_device_list(NULL));
    assert_int_equal(errno, ENOSYS);
    context_open(&a, 0);
    verbs_model.fail_nth = 2;
    a.pd = ibv_alloc_pd(a.ctx);
    assert_non_null(a.pd);
    static uint8_t mem[4096];
    assert_null(ibv_reg_mr(a.pd, mem, sizeof(mem), 0));
    assert_int_equal(errno, ENOMEM);
    verbs_model.memlock = 6000;
    a.mr = ibv_reg_mr(a.pd, mem, sizeof(mem), 0);
    assert_non_null(a.mr);
    assert_null(ibv_reg_mr(a.pd, mem, sizeof(mem), 0));
    assert_int_equal(verbs_model_n_live(), 3);
    verbs_model_remove(0);
    assert_null(ibv_create_comp_channel(a.ctx));
    assert_int_equal(errno, EIO);
    struct ibv_async_event event;
    assert_int_equal(ibv_get_async_event(a.ctx, &event), 0);
    assert_int_equal(event.event_type, IBV_EVENT_DEVICE_FATAL);
    ibv_ack_async_event(&event);
    ibv_dereg_mr(a.mr);
    ibv_dealloc_pd(a.pd);
    ibv_close_device(a.ctx);
}

static void test_flavours(void **state)
{
    struct end a;
    verbs_model.devices[0].is_mlx5 = true;
    end_open(&a, true);
    end_close(&a);
    verbs_model_reset();
    verbs_model.devices[0].qp_ex = VERBS_MODEL_QP_EX_NONE;
    end_open(&a, false);
    assert_null(qp_make(&a, true));
    assert_int_equal(errno, EOPNOTSUPP);
    end_close(&a);
    verbs_model_reset();
    verbs_model.devices[0].qp_ex = VERBS_MODEL_QP_EX_NO_WR_OPS;
    end_open(&a, false);
    assert_null(qp_make(&a, true));
    assert_int_equal(errno, EOPNOTSUPP);
    end_close(&a);
}

static void test_gids(void **state)
{
    struct end a;
    context_open(&a, 0);
    struct ibv_gid_entry e[VERBS_MODEL_GIDS];
    assert_int_equal(ibv_query_gid_table(a.ctx, e, VERBS_MODEL_GIDS, 0), 6);
    assert_int_equal(e[3].gid_index, 3);
    assert_int_equal(e[3].gid_type, IBV_GID_TYPE_ROCE_V2);
    assert_int_equal(e[3].ndev_ifindex, 1);
    assert_memory_equal(e[3].gid.raw, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
    assert_int_equal(ibv_query_gid_table(a.ctx, e, 3, 0), -EINVAL);
    verbs_model_set_gid(0, 3, "192.0.2.1", IBV_GID_TYPE_ROCE_V2, NULL);
    assert_int_equal(ibv_query_gid_ex(a.ctx, 1, 3, &e[0], 0), 0);
    assert_int_equal(e[0].gid.raw[12], 192);
    assert_int_equal(ibv_query_gid_ex(a.ctx, 1, 9, &e[0], 0), ENODATA);
    struct ibv_port_attr port;
    assert_int_equal(ibv_query_port(a.ctx, 1, &port), 0);
    assert_int_equal(port.link_layer, IBV_LINK_LAYER_ETHERNET);
    assert_int_equal(port.active_mtu, IBV_MTU_4096);
    struct ibv_device_attr device;
    assert_int_equal(ibv_query_device(a.ctx, &device), 0);
    assert_int_equal(device.phys_port_cnt, 1);
    ibv_close_device(a.ctx);
}

/* Wrong use, one function for each kind; `end` is open and in RTS. */
static void bad_mask(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE);
    attr = (struct ibv_qp_attr){.qp_state = IBV_QPS_INIT, .port_num = 1};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT);
}

static void bad_extra_mask(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN);
}

static void bad_transition(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTR};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE);
}

static void bad_own_qkey(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .qkey = 0x80000001};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE | IBV_QP_QKEY);
}

static void bad_send(struct end *e, struct ibv_sge sge, void (*change)(struct ibv_send_wr *))
{
    struct ibv_send_wr wr = send_wr(e, e, &sge), *bad;
    if (change != NULL)
        change(&wr);
    ibv_post_send(e->qp, &wr, &bad);
}

static void bad_lkey(struct end *e)
{
    struct ibv_sge sge = sge_of(e, 0, 10);
    sge.lkey ^= 0x10000;
    bad_send(e, sge, NULL);
}

static void bad_range(struct end *e)
{
    bad_send(e, sge_of(e, N_BUFS - 1, BUF + 1), NULL);
}

static void bad_region(struct end *e)
{
    struct ibv_mr *mr = ibv_reg_mr(e->pd, buf(e, 0), 100, 0);
    struct ibv_sge sge = {.addr = (uintptr_t)buf(e, 0), .length = 100, .lkey = mr->lkey};
    struct ibv_recv_wr wr = {.sg_list = &sge, .num_sge = 1}, *bad;
    ibv_post_recv(e->qp, &wr, &bad);
}

static void bad_dead_region(struct end *e)
{
    recv_post(e, 10, BUF);
    ibv_dereg_mr(e->mr);
}

static void bad_unmapped(struct end *e)
{
    munmap(e->mem, (size_t)BUF * N_BUFS);
    ibv_dereg_mr(e->mr);
}

static void change_inline(struct ibv_send_wr *wr)
{
    wr->send_flags |= IBV_SEND_INLINE;
}

static void bad_inline(struct end *e)
{
    bad_send(e, sge_of(e, 0, INLINE + 1), change_inline);
}

static void bad_payload(struct end *e)
{
    bad_send(e, sge_of(e, 0, 4097), NULL);
}

static void change_opcode(struct ibv_send_wr *wr)
{
    wr->opcode = IBV_WR_RDMA_WRITE;
}

static void bad_opcode(struct end *e)
{
    bad_send(e, sge_of(e, 0, 10), change_opcode);
}

static void change_qkey(struct ibv_send_wr *wr)
{
    wr->wr.ud.remote_qkey |= 0x80000000;
}

static void bad_remote_qkey(struct end *e)
{
    bad_send(e, sge_of(e, 0, 10), change_qkey);
}

static void bad_many_sends(struct end *e)
{
    for (unsigned i = 0; i <= DEPTH; i++)
        send_one(e, e, 0, 10, false, false);
}

static void bad_many_recvs(struct end *e)
{
    for (unsigned i = 0; i <= DEPTH; i++)
        recv_post(e, 10 + i, BUF);
}

static void bad_cq_size(struct end *e)
{
    struct end other = *e;
    other.qp = qp_make(&other, false);
    to_init(&other);
    to_rts(&other);
    for (unsigned i = 0; i < DEPTH; i++)
        send_one(e, e, 0, 10, false, true);
    other.ex = NULL;
    send_one(&other, e, 0, 10, false, true);
}

static void bad_touched_send(struct end *e)
{
    send_one(e, e, 0, 100, false, true);
    buf(e, 0)[50]++;
    struct ibv_wc wc;
    ibv_poll_cq(e->send_cq, 1, &wc);
}

static void bad_touched_stalled_send(struct end *e)
{
    verbs_model.is_stalled = true;
    send_one(e, e, 0, 101, false, true);
    buf(e, 0)[100]++;
    verbs_model_run(1);
}

__attribute__((no_sanitize("address"))) static void poke(uint8_t *p)
{
    *(volatile uint8_t *)p = 1;
}

static void bad_touched_recv(struct end *e)
{
    recv_post(e, 10, BUF);
    poke(buf(e, 10) + 1000);
    send_one(e, e, 0, 100, false, true);
}

static void bad_ah(struct end *e)
{
    send_one(e, e, 0, 60, true, true);
    ibv_destroy_ah(e->ah);
}

static void bad_dead_ah(struct end *e)
{
    ibv_destroy_ah(e->ah);
    send_one(e, e, 0, 100, false, true);
}

static void bad_double_ah(struct end *e)
{
    ibv_destroy_ah(e->ah);
    ibv_destroy_ah(e->ah);
}

static void bad_local_ah(struct end *e)
{
    struct ibv_ah_attr attr = ah_attr(3);
    attr.is_global = 0;
    ibv_create_ah(e->pd, &attr);
}

static void bad_gid_index(struct end *e)
{
    struct ibv_ah_attr attr = ah_attr(3);
    attr.grh.sgid_index = 9;
    ibv_create_ah(e->pd, &attr);
}

static void bad_order_cq(struct end *e)
{
    ibv_destroy_cq(e->send_cq);
}

static void bad_order_pd(struct end *e)
{
    ibv_dealloc_pd(e->pd);
}

static void bad_order_channel(struct end *e)
{
    ibv_destroy_comp_channel(e->channel);
}

static void bad_order_context(struct end *e)
{
    ibv_close_device(e->ctx);
}

static void bad_double_qp(struct end *e)
{
    ibv_destroy_qp(e->qp);
    ibv_destroy_qp(e->qp);
}

static void bad_unacked_cq(struct end *e)
{
    struct ibv_cq *cq;
    void *arg;
    ibv_req_notify_cq(e->send_cq, 0);
    send_one(e, e, 0, 100, false, true);
    ibv_get_cq_event(e->channel, &cq, &arg);
    ibv_destroy_qp(e->qp);
    ibv_destroy_cq(e->send_cq);
}

static void bad_unacked_qp(struct end *e)
{
    struct ibv_async_event event;
    verbs_model_qp_error(0, IBV_EVENT_QP_FATAL);
    ibv_get_async_event(e->ctx, &event);
    ibv_destroy_qp(e->qp);
}

static void bad_unacked_cq_error(struct end *e)
{
    struct ibv_async_event event;
    verbs_model_cq_overrun(0, 0);
    ibv_get_async_event(e->ctx, &event);
    ibv_destroy_qp(e->qp);
    ibv_destroy_cq(event.element.cq);
}

/* Completions of a life before a reset take room. */
static void bad_stale_cq(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    verbs_model.devices[0].reset_keeps_cqes = true;
    for (unsigned i = 0; i < 3; i++)
        recv_post(e, 10 + i, BUF);
    verbs_model_qp_error(0, -1);
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE);
    (void)to_init(e);
    for (unsigned i = 0; i < DEPTH; i++)
        recv_post(e, 13 + i, BUF);
}

static void bad_ack(struct end *e)
{
    ibv_ack_cq_events(e->send_cq, 1);
}

static void bad_leak(struct end *e)
{
    exit(0);
}

static void bad_list(struct end *e)
{
    ibv_get_device_list(NULL);
    end_close(e);
    exit(0);
}

static void bad_device(struct end *e)
{
    struct ibv_device *device = e->ctx->device;
    end_close(e);
    ibv_open_device(device);
}

static void bad_not_rts(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE);
    send_one(e, e, 0, 10, false, true);
}

static void bad_recv_in_reset(struct end *e)
{
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RESET};
    ibv_modify_qp(e->qp, &attr, IBV_QP_STATE);
    recv_post(e, 10, BUF);
}

static void bad_small_recv(struct end *e)
{
    recv_post(e, 10, 39);
}

static void bad_other_pd(struct end *e)
{
    struct ibv_pd *pd = ibv_alloc_pd(e->ctx);
    struct ibv_mr *mr = ibv_reg_mr(pd, e->mem, 100, 0);
    struct ibv_sge sge = {.addr = (uintptr_t)e->mem, .length = 100, .lkey = mr->lkey};
    bad_send(e, sge, NULL);
}

static void bad_mlx5(struct end *e)
{
    struct ibv_qp_init_attr_ex attr = {0};
    mlx5dv_create_qp(e->ctx, &attr, NULL);
}

/* Of the ibv_wr_* calls. */
static void bad_wr_no_start(struct end *e)
{
    ibv_wr_send_imm(e->ex, 0);
}

static void bad_wr_twice(struct end *e)
{
    ibv_wr_start(e->ex);
    ibv_wr_start(e->ex);
}

static void bad_wr_no_addr(struct end *e)
{
    ibv_wr_start(e->ex);
    e->ex->wr_flags = IBV_SEND_INLINE;
    ibv_wr_send_imm(e->ex, 0);
    ibv_wr_set_inline_data(e->ex, e->mem, 4);
    ibv_wr_complete(e->ex);
}

static void bad_wr_no_data(struct end *e)
{
    ibv_wr_start(e->ex);
    ibv_wr_send_imm(e->ex, 0);
    ibv_wr_set_ud_addr(e->ex, e->ah, e->qp->qp_num, QKEY);
    ibv_wr_send_imm(e->ex, 0);
}

static void bad_wr_op(struct end *e)
{
    ibv_wr_start(e->ex);
    ibv_wr_send(e->ex);
}

static void bad_wr_inline_flag(struct end *e)
{
    ibv_wr_start(e->ex);
    e->ex->wr_flags = 0;
    ibv_wr_send_imm(e->ex, 0);
    ibv_wr_set_inline_data(e->ex, e->mem, 4);
}

static void bad_wr_post(struct end *e)
{
    ibv_wr_start(e->ex);
    bad_send(e, sge_of(e, 0, 10), NULL);
}

struct death {
    void (*run)(struct end *e);
    const char *line;
    bool with_ops;
};

static const struct death deaths[] = {
    {bad_mask, "ibv_modify_qp: attr_mask: RESET to INIT lacks 0x40"},
    {bad_extra_mask, "ibv_modify_qp: attr_mask: RTS to RTS does not take 0x10000"},
    {bad_transition, "ibv_modify_qp: qp_state: no way from RTS to RTR"},
    {bad_own_qkey, "ibv_modify_qp: qkey: 0x80000001, its top bit is privileged"},
    {bad_lkey, "ibv_post_send: lkey:"},
    {bad_range, "ibv_post_send: sge: 4201 bytes at offset"},
    {bad_region, "ibv_post_recv: lkey: a region without IBV_ACCESS_LOCAL_WRITE"},
    {bad_dead_region, "ibv_dereg_mr: mr: 1 posted SGEs lie in it"},
    {bad_unmapped, "ibv_dereg_mr: mr: its memory was unmapped before"},
    {bad_inline, "ibv_post_send: max_inline_data: 65 bytes, it is 64"},
    {bad_payload, "ibv_post_send: sg_list: 4097 bytes, the MTU is 4096"},
    {bad_opcode, "ibv_post_send: opcode:"},
    {bad_remote_qkey, "ibv_post_send: ud.remote_qkey:"},
    {bad_many_sends, "ibv_post_send: max_send_wr: the send queue of 8 overflows"},
    {bad_many_recvs, "ibv_post_recv: max_recv_wr: the receive queue of 8 overflows"},
    {bad_cq_size, "ibv_post_send: send_cq: 9 completions could come, cqe is 8"},
    {bad_touched_send, "completion: send buffer: of wr_id 0x7 on QP"},
    {bad_touched_stalled_send, "completion: send buffer: of wr_id 0x7 on QP"},
    {bad_touched_recv, "completion: receive buffer: byte 1000 of wr_id 0x6e on QP"},
    {bad_ah, "ibv_destroy_ah: ah: 1 posted sends go by it", true},
    {bad_dead_ah, "ibv_post_send: ud.ah: the address handle was destroyed before"},
    {bad_dead_ah, "ibv_wr_set_ud_addr: ud.ah: the address handle was destroyed before", true},
    {bad_double_ah, "ibv_destroy_ah: ah: the address handle was destroyed before"},
    {bad_local_ah, "ibv_create_ah: is_global: 0, RoCE has no other"},
    {bad_gid_index, "ibv_create_ah: sgid_index: 9 is no entry of the GID table"},
    {bad_order_cq, "ibv_destroy_cq: cq: 1 queue pairs use it"},
    {bad_order_pd, "ibv_dealloc_pd: pd: has 1 queue pairs"},
    {bad_order_channel, "ibv_destroy_comp_channel: channel: 2 completion queues use it"},
    {bad_order_context, "ibv_close_device: context: has 1 protection domains"},
    {bad_double_qp, "ibv_destroy_qp: qp: the queue pair was destroyed before"},
    {bad_unacked_cq, "ibv_destroy_cq: cq: 1 of 1 events not acknowledged"},
    {bad_unacked_qp, "ibv_destroy_qp: qp: 1 asynchronous events not acknowledged"},
    {bad_unacked_cq_error, "ibv_destroy_cq: cq: 1 asynchronous events not acknowledged"},
    {bad_stale_cq, "ibv_post_recv: recv_cq: 9 completions could come, cqe is 8"},
    {bad_ack, "ibv_ack_cq_events: nevents: 1, 0 are open"},
    {bad_leak, "exit: leaked: 1 context, 1 protection domain, 1 memory region, 1 completion "
               "channel, 2 completion queues, 1 queue pair, 1 address handle"},
    {bad_list, "exit: leaked: a list of devices"},
    {bad_device, "ibv_open_device: device: its list was freed and it is not open"},
    {bad_not_rts, "ibv_post_send: qp: not in RTS"},
    {bad_recv_in_reset, "ibv_post_recv: qp: in RESET"},
    {bad_small_recv, "ibv_post_recv: sg_list: 39 bytes, the GRH alone takes 40"},
    {bad_other_pd, "ibv_post_send: lkey: a region of another protection domain"},
    {bad_mlx5, "mlx5dv_create_qp: context: not an mlx5 device"},
    {bad_wr_no_start, "ibv_wr_send_imm: qp: without ibv_wr_start", true},
    {bad_wr_twice, "ibv_wr_start: qp: started before", true},
    {bad_wr_no_addr, "ibv_wr_send: ud.ah: the one before has no ibv_wr_set_ud_addr", true},
    {bad_wr_no_data, "ibv_wr_send: data: the one before has neither", true},
    {bad_wr_op, "ibv_wr_send: send_ops_flags: the QP was made without 0x4", true},
    {bad_wr_inline_flag, "ibv_wr_set_inline_data: wr_flags: no IBV_SEND_INLINE", true},
    {bad_wr_post, "ibv_post_send: qp: between ibv_wr_start and ibv_wr_complete", true},
};

static void dying_child(const struct death *death, int fd)
{
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    /* cmocka's handlers would make a test failure of it. */
    signal(SIGABRT, SIG_DFL);
    dup2(fd, STDERR_FILENO);
    struct end e;
    verbs_model_reset();
    end_open(&e, death->with_ops);
    death->run(&e);
    _exit(0);
}

static void test_wrong_use_dies(void **state)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(deaths); i++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            dying_child(&deaths[i], fds[1]);
        close(fds[1]);
        char text[1024] = "";
        size_t len = 0;
        ssize_t n;
        while (len < sizeof(text) - 1 && (n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0)
            len += (size_t)n;
        text[len] = '\0';
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT ||
            strstr(text, deaths[i].line) == NULL)
            fail_msg("wanted \"%s\", status 0x%x, got \"%s\"", deaths[i].line, status, text);
        char *newline = strchr(text, '\n');
        assert_true(newline != NULL && newline[1] == '\0');
    }
}

#ifdef SMT_ASAN
/* A posted receive buffer cannot even be read. */
static void test_posted_is_poisoned(void **state)
{
    struct end a;
    end_open(&a, false);
    assert_int_equal(recv_post(&a, 10, BUF), 0);
    assert_true(SMT_IS_POISONED(buf(&a, 10) + 100));
    assert_int_equal(send_one(&a, &a, 0, 10, false, true), 0);
    assert_true(SMT_IS_POISONED(buf(&a, 10) + 100));
    poll_one(a.recv_cq);
    assert_false(SMT_IS_POISONED(buf(&a, 10) + 100));
    end_close(&a);
}
#endif

static int set_up(void **state)
{
    verbs_model_reset();
    return 0;
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_wrong_use_dies),
        CASE(test_exchange),
        CASE(test_ipv6_header),
        CASE(test_infiniband),
        CASE(test_drops),
        CASE(test_selective_signalling),
        CASE(test_events),
        CASE(test_async_events),
        CASE(test_errors),
        CASE(test_stall),
        CASE(test_bad_network),
        CASE(test_injected),
        CASE(test_failures),
        CASE(test_flavours),
        CASE(test_gids),
#ifdef SMT_ASAN
        CASE(test_posted_is_poisoned),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
