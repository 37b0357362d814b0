/* Hand-made frames against a plain queue pair on rxe0: the positive control of frames.sh. A good
 * frame arrives byte by byte, so the way of making and sending them works; which of the bad ones
 * the kernel stops is known, not assumed. */
#include "frames.h"

#include <infiniband/verbs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_RECEIVES = 64, BUFFER = 8192, GRH = 40, QKEY = 0x11223344, IMM = 4321, N_EACH = 3 };

static struct {
    struct ibv_context *ctx;
    struct ibv_pd *pd;
    struct ibv_cq *cq;
    struct ibv_qp *qp;
    struct ibv_mr *mr;
    uint8_t memory[N_RECEIVES][BUFFER];
} end;

static void must(bool is_good, const char *what)
{
    if (!is_good) {
        perror(what);
        exit(1);
    }
}

static void post(uint64_t i)
{
    struct ibv_sge sge = {(uintptr_t)end.memory[i], BUFFER, end.mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = i, .sg_list = &sge, .num_sge = 1}, *bad;
    must(ibv_post_recv(end.qp, &wr, &bad) == 0, "ibv_post_recv");
}

static void end_open(void)
{
    int n;
    struct ibv_device **list = ibv_get_device_list(&n);
    must(list != NULL, "ibv_get_device_list");
    for (int i = 0; i < n; i++) {
        if (strcmp(ibv_get_device_name(list[i]), "rxe0") == 0)
            end.ctx = ibv_open_device(list[i]);
    }
    must(end.ctx != NULL, "rxe0");
    ibv_free_device_list(list);
    must((end.pd = ibv_alloc_pd(end.ctx)) != NULL, "ibv_alloc_pd");
    must((end.cq = ibv_create_cq(end.ctx, N_RECEIVES, NULL, NULL, 0)) != NULL, "ibv_create_cq");
    end.mr = ibv_reg_mr(end.pd, end.memory, sizeof(end.memory), IBV_ACCESS_LOCAL_WRITE);
    must(end.mr != NULL, "ibv_reg_mr");
    struct ibv_qp_init_attr init = {
        .send_cq = end.cq,
        .recv_cq = end.cq,
        .cap = {.max_send_wr = 1, .max_recv_wr = N_RECEIVES, .max_send_sge = 1, .max_recv_sge = 1},
        .qp_type = IBV_QPT_UD,
    };
    must((end.qp = ibv_create_qp(end.pd, &init)) != NULL, "ibv_create_qp");
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = QKEY};
    int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY;
    must(ibv_modify_qp(end.qp, &attr, mask) == 0, "INIT");
    for (uint64_t i = 0; i < N_RECEIVES; i++)
        post(i);
    attr.qp_state = IBV_QPS_RTR;
    must(ibv_modify_qp(end.qp, &attr, IBV_QP_STATE) == 0, "RTR");
}

/* What came of `n` frames of that kind, waiting for as long as some may be on their way. */
static unsigned take(const struct frame_kind *kind, unsigned n, uint32_t seed)
{
    unsigned got = 0;
    for (unsigned quiet = 0; quiet < (kind->fate == FRAME_DIES ? 20u : 3000u) && got < n;) {
        struct ibv_wc wc;
        if (ibv_poll_cq(end.cq, 1, &wc) == 0) {
            poll(NULL, 0, 5);
            quiet++;
            continue;
        }
        quiet = 0;
        if (wc.status != IBV_WC_SUCCESS || kind->fate == FRAME_DIES) {
            printf("%s: completion with status %d, %u bytes\n", kind->name, wc.status, wc.byte_len);
            return n + 1;
        }
        uint8_t want[BUFFER];
        size_t len = wc.byte_len - GRH;
        frame_fill(want, len, seed + got);
        if (memcmp(end.memory[wc.wr_id] + GRH, want, len) != 0 ||
            (kind->fate == FRAME_GOOD && (len != FRAME_LEN || !(wc.wc_flags & IBV_WC_WITH_IMM) ||
                                          wc.imm_data != htobe32(IMM)))) {
            printf("%s: arrived damaged, %zu bytes\n", kind->name, len);
            return n + 1;
        }
        post(wc.wr_id);
        got++;
    }
    return got;
}

int main(void)
{
    end_open();
    struct frame_target target = {.qpn = end.qp->qp_num, .qkey = QKEY, .imm = IMM};
    frame_target_open(&target);
    unsigned n_wrong = 0;
    for (unsigned i = 0; i < n_frame_kinds; i++) {
        const struct frame_kind *kind = &frame_kinds[i];
        uint32_t seed = i * 100 + 1;
        for (unsigned k = 0; k < N_EACH; k++)
            frame_send(&target, kind, seed + k);
        unsigned got = take(kind, N_EACH, seed), want = kind->fate == FRAME_DIES ? 0 : N_EACH;
        printf("%-20s %u of %u arrived%s\n", kind->name, got, N_EACH, got == want ? "" : ": WRONG");
        n_wrong += got != want;
    }
    /* Whatever they did: the first kind still arrives. */
    frame_send(&target, &frame_kinds[0], 9999);
    unsigned last = take(&frame_kinds[0], 1, 9999);
    printf("afterwards a good one %s\n", last == 1 ? "arrives" : "does not arrive");
    return n_wrong == 0 && last == 1 ? 0 : 1;
}
