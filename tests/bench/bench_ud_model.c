/* Instruction counts of the device `ud`, over the verbs model, which stands for a provider that
 * costs nothing: whoever counts leaves out what happens below its entry points
 * (scripts/count-instructions does).
 *
 *   bench_ud_model rpc SIZE DEPTH N CIPHER   two engines as in bench_loop: engine_client_turn, …
 *   bench_ud_model dev SIZE BATCH N          packets alone: device_sends, device_receives
 *
 * Prints what it did, with doorbells and completions. SMT_VERBS_MODEL chooses the provider. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dev/dev.h"
#include "engine_pair.h"
#include "verbs-model/verbs_model.h"

static struct smt_dev *dev_open(struct smt_addr *addr)
{
    char text[256] = "";
    struct smt_dev_config config = {
        .spec = "ud", .bind_host = "127.0.0.1", .error_text = text, .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    int r = smt_dev_open(&config, &dev);
    engine_check(r, text);
    engine_check(smt_dev_resolve("127.0.0.1", dev->ops->port(dev), addr, 1), "address");
    return dev;
}

__attribute__((noinline)) static void device_sends(struct smt_dev *dev, const struct smt_addr *to,
                                                   size_t size, unsigned batch)
{
    for (unsigned i = 0; i < batch; i++) {
        uint8_t *p = dev->ops->tx_reserve(dev, to, size, 0);
        if (p == NULL)
            engine_check(SMT_EAGAIN, "reserve");
        p[0] = (uint8_t)i;
    }
    engine_check(dev->ops->tx_flush(dev), "flush");
}

__attribute__((noinline)) static unsigned device_receives(struct smt_dev *dev)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    int n = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
    engine_check(n, "rx");
    return (unsigned)n;
}

static void dev_run(struct smt_dev *a, struct smt_dev *b, const struct smt_addr *to, size_t size,
                    unsigned batch, uint64_t n)
{
    struct smt_pkt none;
    static uint8_t zero[VERBS_MODEL_MAX_PAYLOAD];
    uint8_t *p = a->ops->tx_reserve(a, to, size, 0);
    if (p == NULL)
        engine_check(SMT_EINTERNAL, "reserve");
    memcpy(p, zero, size);
    engine_check(a->ops->tx_flush(a), "flush");
    while (b->ops->rx(b, &none, 1) == 0)
        engine_check(a->ops->rx(a, &none, 1), "rx");
    verbs_model_counts = (struct verbs_model_counts){0};
    uint64_t got = 0, n_batches = n / batch;
    for (uint64_t i = 0; i < n_batches; i++) {
        device_sends(a, to, size, batch);
        /* As an endpoint does: it looks for packets after each flush. */
        engine_check(a->ops->rx(a, &none, 1), "rx");
        got += device_receives(b);
    }
    struct verbs_model_counts *c = &verbs_model_counts;
    printf("{\"packets\":%llu,\"received\":%llu,\"batches\":%llu,\"doorbells\":%llu,"
           "\"signalled\":%llu,\"recv_posts\":%llu}\n",
           (unsigned long long)(n_batches * batch), (unsigned long long)got,
           (unsigned long long)n_batches, (unsigned long long)c->doorbells,
           (unsigned long long)c->signalled, (unsigned long long)c->recv_posts);
}

static void rpc_run(struct smt_dev *a, struct smt_dev *b, const struct smt_addr *to, char **argv)
{
    size_t size = strtoull(argv[0], NULL, 0);
    unsigned depth = (unsigned)atoi(argv[1]);
    const char *cipher = argv[3];
    const struct smt_aead *aead = strcmp(cipher, "none") == 0 ? smt_aead_find(SMT_AEAD_NONE, NULL)
                                                              : smt_aead_by_name(cipher, NULL);
    if (aead == NULL)
        engine_check(SMT_EUNSUPPORTED, cipher);
    struct engine_pair p;
    engine_pair_open(&p, a, b, to, aead, size, depth);
    engine_pair_run(&p, depth * 10ull + 100);
    verbs_model_counts = (struct verbs_model_counts){0};
    uint64_t flushes = p.client.n_flushes + p.server.n_flushes, first = p.done;
    engine_pair_run(&p, strtoull(argv[2], NULL, 0));
    printf("{\"rpcs\":%llu,\"all_rpcs\":%llu,\"flushes\":%llu,\"doorbells\":%llu,"
           "\"packets\":%llu}\n",
           (unsigned long long)(p.done - first), (unsigned long long)p.done,
           (unsigned long long)(p.client.n_flushes + p.server.n_flushes - flushes),
           (unsigned long long)verbs_model_counts.doorbells,
           (unsigned long long)verbs_model_counts.sends);
    engine_pair_close(&p);
}

int main(int argc, char **argv)
{
    bool is_rpc = argc == 6 && strcmp(argv[1], "rpc") == 0;
    if (!is_rpc && (argc != 5 || strcmp(argv[1], "dev") != 0)) {
        fprintf(stderr, "usage: bench_ud_model rpc SIZE DEPTH N none|aes-128-gcm|aes-256-gcm\n"
                        "       bench_ud_model dev SIZE BATCH N\n");
        return 1;
    }
    struct smt_addr from, to;
    struct smt_dev *a = dev_open(&from), *b = dev_open(&to);
    if (is_rpc)
        rpc_run(a, b, &to, argv + 2);
    else
        dev_run(a, b, &to, strtoull(argv[2], NULL, 0), (unsigned)atoi(argv[3]),
                strtoull(argv[4], NULL, 0));
    a->ops->close(a);
    b->ops->close(b);
    return 0;
}
