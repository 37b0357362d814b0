/* Several devices on one port: each packet reaches the one that its bytes name, whole and once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "conform/conform.h"
#include "dev/steer.h"

enum { SHARE = 3, BULK = 24, N_BULKS = 20, N_AT = 32, KIND_AT = 13, KIND = 0x10 };
#define PATIENCE_NS (60 * SMT_SEC)

struct group {
    struct smt_dev *devs[SHARE];
    struct smt_addr to;
    uint32_t n_sent, n_got;
    uint32_t next[SHARE]; /* packets of each are numbered by themselves */
    bool is_ordered;
};

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}

static void group_open(const struct conform_set *set, struct group *g)
{
    char text[256] = "";
    struct smt_dev_config c = conform_config(set->row, 0);
    c.error_text = text;
    c.error_text_len = sizeof(text);
    c.share = SHARE;
    for (unsigned i = 0; i < SHARE; i++) {
        c.number = (uint8_t)i;
        if (smt_dev_open(&c, &g->devs[i]) < 0)
            fail_msg("%s: number %u: %s", set->row->name, i, text);
        c.port = g->devs[0]->ops->port(g->devs[0]);
        assert_int_equal(g->devs[i]->ops->port(g->devs[i]), c.port);
    }
    g->to = set->to[0];
    g->to.port = c.port;
}

static void group_close(struct group *g)
{
    for (unsigned i = SHARE; i-- > 0;)
        g->devs[i]->ops->close(g->devs[i]);
}

static void packet_put(struct smt_dev *tx, struct group *g, unsigned number)
{
    uint32_t n = g->next[number]++, len = 100 + n % 7 * 100;
    uint8_t *p = tx->ops->tx_reserve(tx, &g->to, len, 0);
    assert_non_null(p);
    memset(p, (int)(number * 17 + n), len);
    p[KIND_AT] = KIND;
    p[SMT_STEER_AT] = (uint8_t)(number + SHARE * (n % 3)); /* the rule is its remainder */
    memcpy(p + N_AT, &n, sizeof(n));
    g->n_sent++;
}

static void packets_take(struct group *g, unsigned number, uint32_t *last)
{
    struct smt_pkt pkts[32];
    int n = g->devs[number]->ops->rx(g->devs[number], pkts, 32);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        uint32_t got;
        memcpy(&got, pkts[i].data + N_AT, sizeof(got));
        assert_int_equal(pkts[i].data[SMT_STEER_AT] % SHARE, number);
        assert_true(pkts[i].len >= 100 + got % 7 * 100);
        assert_int_equal(pkts[i].data[40], (uint8_t)(number * 17 + got));
        assert_true(!g->is_ordered || got == last[number]);
        last[number] = got + 1;
        g->n_got++;
    }
}

/* All that was sent arrives, while the sender hears what there is to hear. */
static void all_take(const struct conform_set *set, struct group *g, uint32_t *last)
{
    struct smt_pkt pkts[32];
    uint64_t end = now() + PATIENCE_NS;
    while (g->n_got < g->n_sent) {
        if (now() > end)
            fail_msg("%u of %u packets came", g->n_got, g->n_sent);
        (void)set->tx->ops->tx_flush(set->tx);
        (void)set->tx->ops->rx(set->tx, pkts, 32);
        for (unsigned i = 0; i < SHARE; i++)
            packets_take(g, i, last);
    }
}

void conform_shared_port(struct conform_set *set)
{
    struct group g = {0};
    uint32_t last[SHARE] = {0};
    group_open(set, &g);
    /* The first may go another way than later ones. */
    for (unsigned i = 0; i < 3 * SHARE; i++) {
        packet_put(set->tx, &g, i % SHARE);
        all_take(set, &g, last);
    }
    /* Memory between processes may be found at any time, and overtakes what was sent before. */
    g.is_ordered = !set->row->is_memory;
    for (unsigned k = 0; k < N_BULKS; k++) {
        for (unsigned i = 0; i < BULK; i++)
            packet_put(set->tx, &g, (i / (1 + k % 4) + k) % SHARE);
        all_take(set, &g, last);
    }
    group_close(&g);
}
