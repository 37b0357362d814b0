/* Two and more `ud` devices over the verbs model, and packets between them that are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "ud_rig.h"

const struct ud_rig_flavour ud_rig_flavours[] = {
    {.name = "mlx5", .is_mlx5 = true, .qp_ex = VERBS_MODEL_QP_EX, .max_inline = 512},
    {.name = "rxe", .qp_ex = VERBS_MODEL_QP_EX, .max_inline = 400, .keeps_cqes = true},
    {.name = "small inline", .qp_ex = VERBS_MODEL_QP_EX, .max_inline = 100},
    {.name = "no work request calls", .qp_ex = VERBS_MODEL_QP_EX_NO_WR_OPS, .max_inline = 400},
    {.name = "plain, nothing inline", .qp_ex = VERBS_MODEL_QP_EX_NONE, .keeps_cqes = true},
};

const unsigned ud_rig_n_flavours = SMT_ARRAY_LEN(ud_rig_flavours);

uint64_t ud_rig_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void ud_rig_model(const struct ud_rig_flavour *flavour)
{
    verbs_model_reset();
    struct verbs_model_device *device = &verbs_model.devices[0];
    device->is_mlx5 = flavour->is_mlx5;
    device->qp_ex = flavour->qp_ex;
    device->max_inline = flavour->max_inline;
    device->reset_keeps_cqes = flavour->keeps_cqes;
}

void ud_rig_open_one(struct ud_rig *rig, const char *spec, const char *bind_host)
{
    char text[512] = "";
    const struct smt_dev_config config = {
        .spec = spec, .bind_host = bind_host, .error_text = text, .error_text_len = sizeof(text)};
    unsigned i = rig->n;
    assert_true(i < UD_RIG_MAX);
    if (smt_dev_open(&config, &rig->dev[i]) < 0)
        fail_msg("%s: %s", spec, text);
    const char *host = bind_host != NULL ? bind_host : "127.0.0.1";
    uint16_t port = rig->dev[i]->ops->port(rig->dev[i]);
    assert_int_equal(smt_dev_resolve(host, port, &rig->addr[i], 1), 1);
    rig->n++;
}

static struct smt_mem_stats memory_before;

struct ud_rig *ud_rig_begin(const struct ud_rig_flavour *flavour)
{
    static struct ud_rig rig;
    ud_rig_model(flavour);
    memory_before = smt_mem_live();
    rig = (struct ud_rig){0};
    return &rig;
}

void ud_rig_end(struct ud_rig *rig)
{
    ud_rig_close(rig);
    assert_int_equal(verbs_model_n_live(), 0);
    struct smt_mem_stats now = smt_mem_live();
    assert_true(now.n_live == memory_before.n_live);
    assert_true(now.bytes_live == memory_before.bytes_live);
}

uint64_t ud_rig_n_live_before(void)
{
    return memory_before.n_live;
}

void ud_rig_open(struct ud_rig *rig, const char *spec, unsigned n)
{
    *rig = (struct ud_rig){0};
    while (rig->n < n)
        ud_rig_open_one(rig, spec, NULL);
}

void ud_rig_close(struct ud_rig *rig)
{
    for (unsigned i = 0; i < rig->n; i++) {
        if (rig->dev[i] != NULL)
            rig->dev[i]->ops->close(rig->dev[i]);
    }
    *rig = (struct ud_rig){0};
}

/* Sender, number, then bytes that follow from both. */
static void fill(uint8_t *p, uint32_t len, unsigned from, uint32_t number)
{
    memcpy(p, &from, 4);
    memcpy(p + 4, &number, 4);
    for (uint32_t i = 8; i < len; i++)
        p[i] = (uint8_t)(from * 31 + number * 7 + i + (i >> 8));
}

bool ud_rig_put(struct ud_rig *rig, unsigned from, unsigned to, uint32_t len, uint8_t prio)
{
    struct smt_dev *dev = rig->dev[from];
    assert_true(len >= 8);
    uint8_t *p = dev->ops->tx_reserve(dev, &rig->addr[to], len, prio);
    if (p == NULL)
        return false;
    fill(p, len, from, rig->sent[from][to]++);
    return true;
}

void ud_rig_flush(struct ud_rig *rig, unsigned from)
{
    assert_int_equal(rig->dev[from]->ops->tx_flush(rig->dev[from]), 0);
}

static void check(struct ud_rig *rig, unsigned to, const struct smt_pkt *pkt)
{
    unsigned from;
    uint32_t number;
    uint8_t want[SMT_DEV_MAX_PACKET];
    assert_true(pkt->len >= 8);
    memcpy(&from, pkt->data, 4);
    memcpy(&number, pkt->data + 4, 4);
    assert_true(from < rig->n);
    assert_true(smt_addr_equal(pkt->from, &rig->addr[from]));
    assert_true(number < rig->sent[from][to]);
    fill(want, pkt->len, from, number);
    assert_memory_equal(pkt->data, want, pkt->len);
    assert_int_equal(pkt->ecn, 2);
    uint32_t *next = &rig->received[from][to];
    assert_true(number >= *next);
    assert_true(rig->may_lose || number == *next);
    rig->n_missed += number - *next;
    *next = number + 1;
    rig->n_received++;
    memset(pkt->data, 0xdd, pkt->len);
}

unsigned ud_rig_pump(struct ud_rig *rig)
{
    unsigned total = 0;
    for (unsigned i = 0; i < rig->n; i++) {
        struct smt_pkt pkts[SMT_DEV_RX_BATCH];
        struct smt_dev *dev = rig->dev[i];
        if (dev == NULL)
            continue;
        int n = dev->ops->rx(dev, pkts, 1 + (unsigned)(rig->n_received + total) % 100);
        assert_true(n >= 0);
        for (int k = 0; k < n; k++)
            check(rig, i, &pkts[k]);
        total += (unsigned)n;
    }
    return total;
}

void ud_rig_expect(struct ud_rig *rig, uint64_t n)
{
    uint64_t goal = rig->n_received + n, end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while (rig->n_received < goal) {
        if (ud_rig_pump(rig) == 0 && ud_rig_now_ms() > end)
            fail_msg("%lu packets are missing", (unsigned long)(goal - rig->n_received));
    }
    assert_true(rig->n_received == goal);
}

void ud_rig_meet(struct ud_rig *rig, unsigned a, unsigned b)
{
    assert_true(ud_rig_put(rig, a, b, 100, 0));
    ud_rig_flush(rig, a);
    ud_rig_expect(rig, 1);
    assert_true(ud_rig_put(rig, b, a, 100, 0));
    ud_rig_flush(rig, b);
    ud_rig_expect(rig, 1);
}

void ud_rig_heal(struct ud_rig *rig, unsigned from, unsigned to)
{
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    rig->may_lose = true;
    /* Until every device has looked at its events and at completions of sends. */
    for (unsigned i = 0; i < 300; i++)
        ud_rig_pump(rig);
    uint32_t before = rig->received[from][to];
    while (rig->received[from][to] == before) {
        struct smt_dev *dev = rig->dev[from];
        (void)ud_rig_put(rig, from, to, 64, 0);
        int r = dev->ops->tx_flush(dev);
        assert_true(r == 0 || r == SMT_EAGAIN);
        ud_rig_pump(rig);
        assert_true(ud_rig_now_ms() < end);
    }
    while (ud_rig_pump(rig) > 0)
        ;
    /* What was lost until now will not come any more. */
    for (unsigned i = 0; i < rig->n; i++)
        rig->received[from][i] = rig->sent[from][i];
    rig->may_lose = false;
}

struct smt_dev_stats ud_rig_stats(struct ud_rig *rig, unsigned i)
{
    struct smt_dev_stats s;
    rig->dev[i]->ops->stats(rig->dev[i], &s);
    return s;
}

bool ud_rig_is_readable(struct ud_rig *rig, unsigned i, int timeout_ms)
{
    struct pollfd p = {.fd = rig->dev[i]->ops->fd(rig->dev[i]), .events = POLLIN};
    int r = poll(&p, 1, timeout_ms);
    assert_true(r >= 0);
    return r == 1;
}
