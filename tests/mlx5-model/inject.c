/* Faults: by chance for each WQE (knob inject=), or told through the FIFO DIR/control.PID.N, one
 * "NAME [COUNT]" a line. Numbers of a fault that needs a WQE wait for the next ones. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model.h"
#include "tls.h"

static unsigned waiting[MM_N_INJECTIONS];

void mm_inject_open(struct mm_dev *dev)
{
    char path[MM_MAX_PATH];
    snprintf(path, sizeof(path), "%s/control.%d.%u", mm_config()->dir, (int)getpid(), dev->index);
    dev->control_fd = mm_fifo_open(path);
}

static void line_do(struct mm_dev *dev, const char *line)
{
    char name[32];
    unsigned count = 1;
    if (strcmp(line, "stats") == 0) {
        mm_stats_write();
        return;
    }
    if (sscanf(line, "%31s %u", name, &count) < 1)
        return;
    enum mm_injection what = mm_injection_of(name);
    if (what == MM_INJECT_NONE)
        mm_die("control", "%s: unknown", name);
    if (what == MM_INJECT_RESET || what == MM_INJECT_PORT_DOWN || what == MM_INJECT_PORT_UP)
        mm_inject_now(dev, what, NULL);
    else
        waiting[what] += count;
}

void mm_inject_read(struct mm_dev *dev)
{
    char text[512];
    ssize_t n = read(dev->control_fd, text, sizeof(text) - 1);
    if (n <= 0)
        return;
    text[n] = '\0';
    char *save;
    for (char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        line_do(dev, line);
}

enum mm_injection mm_inject_draw(void)
{
    for (unsigned i = 1; i < MM_N_INJECTIONS; i++) {
        bool is_told = waiting[i] > 0;
        if (!is_told && !mm_hit(mm_config()->inject[i]))
            continue;
        waiting[i] -= is_told;
        return i;
    }
    return MM_INJECT_NONE;
}

static void reset(struct mm_dev *dev)
{
    dev->is_gone = true;
    dev->is_up = false;
    for (unsigned i = 0; i < MM_MAX_QPS; i++) {
        struct mm_qp *qp = mm_qps[i];
        if (qp == NULL || qp->dev != dev)
            continue;
        qp->state = IBV_QPS_ERR;
        mm_sq_fail(qp, IBV_WC_WR_FLUSH_ERR, 0xf9);
        mm_rq_flush(qp);
    }
    mm_async_push(dev, (struct ibv_async_event){.event_type = IBV_EVENT_DEVICE_FATAL});
}

void mm_inject_now(struct mm_dev *dev, enum mm_injection what, struct mm_qp *qp)
{
    uint32_t sqn = qp != NULL ? qp->sqn : 0;
    bool hit = true;
    switch (what) {
    case MM_INJECT_DEK_ERROR:
    case MM_INJECT_DEK_GARBAGE:
        hit = mm_tls_damage(sqn, true, what == MM_INJECT_DEK_GARBAGE);
        break;
    case MM_INJECT_TIS_ERROR:
    case MM_INJECT_TIS_GARBAGE:
        hit = mm_tls_damage(sqn, false, what == MM_INJECT_TIS_GARBAGE);
        break;
    case MM_INJECT_QP_ERROR:
        qp->state = IBV_QPS_ERR;
        mm_sq_fail(qp, IBV_WC_LOC_QP_OP_ERR, 0x77);
        mm_rq_flush(qp);
        mm_async_push(dev, (struct ibv_async_event){.event_type = IBV_EVENT_QP_FATAL,
                                                    .element.qp = &qp->ex.qp_base});
        break;
    case MM_INJECT_RESET:
        reset(dev);
        break;
    case MM_INJECT_PORT_DOWN:
    case MM_INJECT_PORT_UP:
        dev->is_up = what == MM_INJECT_PORT_UP;
        mm_async_push(dev, (struct ibv_async_event){.element.port_num = 1,
                                                    .event_type = dev->is_up ? IBV_EVENT_PORT_ACTIVE
                                                                             : IBV_EVENT_PORT_ERR});
        break;
    default:
        mm_die("model", "injection %u is no event", what);
    }
    mm_stats.injected += hit;
}
