/* The endpoint's counters: the engine's, the device's and the api's own under one roof of static
 * names. */
#include "api/api.h"

static_assert(sizeof(struct smt_counter) == sizeof(struct smt_engine_counter), "filled in place");
static_assert(offsetof(struct smt_counter, value) == offsetof(struct smt_engine_counter, value),
              "filled in place");

static void put(struct smt_counter *out, unsigned n, unsigned *i, const char *name, uint64_t value)
{
    if (*i < n)
        out[*i] = (struct smt_counter){name, value};
    ++*i;
}

static void put_device(const struct smt_ep *ep, struct smt_counter *out, unsigned n, unsigned *i)
{
    struct smt_dev_stats s = {0};
    ep->dev->ops->stats(ep->dev, &s);
    put(out, n, i, "dev_tx_packets", s.tx_packets);
    put(out, n, i, "dev_tx_bytes", s.tx_bytes);
    put(out, n, i, "dev_tx_frames", s.tx_frames);
    put(out, n, i, "dev_tx_calls", s.tx_calls);
    put(out, n, i, "dev_tx_errors", s.tx_errors);
    put(out, n, i, "dev_tx_too_big", s.tx_too_big);
    put(out, n, i, "dev_tx_full", s.tx_full);
    put(out, n, i, "dev_rx_packets", s.rx_packets);
    put(out, n, i, "dev_rx_bytes", s.rx_bytes);
    put(out, n, i, "dev_rx_frames", s.rx_frames);
    put(out, n, i, "dev_rx_calls", s.rx_calls);
    put(out, n, i, "dev_rx_dropped", s.rx_dropped);
    put(out, n, i, "dev_pad_bytes", s.pad_bytes);
    put(out, n, i, "dev_rebuilds", s.rebuilds);
    put(out, n, i, "tx_tls_encrypted_records", s.seal_records);
    put(out, n, i, "tx_tls_encrypted_packets", s.seal_packets);
    put(out, n, i, "tx_tls_encrypted_bytes", s.seal_bytes);
    put(out, n, i, "tx_tls_resyncs", s.seal_resyncs);
    put(out, n, i, "tx_tls_ctx", s.seal_contexts);
    put(out, n, i, "tx_tls_ctx_evicted", s.seal_evicted);
    put(out, n, i, "tx_tls_ctx_refused", s.seal_refused);
    put(out, n, i, "tx_tls_errors", s.seal_errors);
    put(out, n, i, "tx_tls_dropped", s.seal_dropped);
}

static void put_api(const struct smt_ep *ep, struct smt_counter *out, unsigned n, unsigned *i)
{
    const struct smt_api_stats *s = &ep->stats;
    put(out, n, i, "handshakes_ok", s->handshakes_ok);
    put(out, n, i, "handshakes_failed", s->handshakes_failed);
    put(out, n, i, "sessions", smt_pool_n_live(&ep->session_pool));
    put(out, n, i, "sessions_replaced", s->sessions_replaced);
    put(out, n, i, "calls_repeated", s->calls_repeated);
    put(out, n, i, "addresses_failed", s->addresses_failed);
    put(out, n, i, "handshakes_repeated", s->handshakes_repeated);
    put(out, n, i, "handshakes_resumed", s->handshakes_resumed);
    put(out, n, i, "sessions_rekeyed", s->sessions_rekeyed);
}

int smt_ep_counters(const struct smt_ep *ep, struct smt_counter *out, unsigned n)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    if (out == NULL && n > 0)
        return smt_fail_static(ep->ctx, SMT_EINVAL, "out is NULL");
    unsigned i = smt_engine_counters(ep->engine, (struct smt_engine_counter *)out, n);
    put_device(ep, out, n, &i);
    put_api(ep, out, n, &i);
    return (int)i;
}
