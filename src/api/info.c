/* Looking inside: a session's facts, the machine's devices, the library's version. */
#include "api/api.h"

#include "dev/mlx5_probe.h"

#include <stdio.h>
#include <string.h>

static void peer_fill(const struct smt_link *link, struct smt_session_info *info)
{
    const struct smt_peer *peer = link->peer;
    if (link->aead != NULL) {
        snprintf(info->cipher, sizeof(info->cipher), "%s", link->aead->name);
        snprintf(info->cipher_impl, sizeof(info->cipher_impl), "%s", link->aead->impl);
    }
    if (link->ep->ctx->record_keys != NULL)
        info->auth = SMT_AUTH_PSK;
    if (peer == NULL)
        return;
    info->auth = peer->auth;
    snprintf(info->identity, sizeof(info->identity), "%s", peer->bytes);
    memcpy(info->peer_key_sha256, peer->key_sha256, sizeof(info->peer_key_sha256));
}

static void stats_fill(const struct smt_link *link, struct smt_session_info *info)
{
    struct smt_conn_stats stats = {0};
    smt_conn_stats(link->conn, &stats);
    info->is_initiator = smt_conn_is_initiator(link->conn);
    info->is_up = link->up;
    info->is_resumed = link->resumed;
    info->epoch = stats.epoch;
    info->mtu = stats.mtu;
    info->handshake_ns = stats.handshake_ns;
    info->rtt_min_ns = stats.rtt_min;
    info->open_calls = stats.open_calls;
    struct smt_dev *dev = link->ep->dev;
    const char *why = stats.no_nic;
    if (dev->ops->sealer(dev) == NULL)
        why = dev->ops->why_no_seal(dev);
    else if (smt_aead_is_fips())
        why = "a FIPS provider is active, and the NIC is no part of it";
    snprintf(info->sealing, sizeof(info->sealing), "%s%s", why == NULL ? "nic" : "cpu: ",
             why == NULL ? "" : why);
}

int smt_session_get_info(const struct smt_session *session, struct smt_session_info *info)
{
    int r = smt_session_check(session);
    if (r < 0)
        return r;
    const struct smt_ctx *ctx = session->ep->ctx;
    if (info == NULL || info->size < offsetof(struct smt_session_info, identity))
        return smt_fail_static(ctx, SMT_EINVAL, "info is NULL or its size is not set");
    if (session->link == NULL)
        return smt_fail_static(ctx, SMT_ECLOSED, "the session is over");
    struct smt_session_info full = {.size = info->size};
    smt_dev_addr_text(smt_conn_addr(session->link->conn), full.peer, sizeof(full.peer));
    peer_fill(session->link, &full);
    stats_fill(session->link, &full);
    memcpy(info, &full, info->size < sizeof(full) ? info->size : sizeof(full));
    return 0;
}

int smt_device_list(struct smt_device_info *out, unsigned n)
{
    if (out == NULL && n > 0)
        return smt_fail_static(NULL, SMT_EINVAL, "out is NULL");
    enum { MAX_REPORTS = 64 };
    struct smt_dev_report *reports = smt_mem_alloc(MAX_REPORTS * sizeof(*reports));
    if (reports == NULL)
        return smt_fail_static(NULL, SMT_ENOMEM, "no memory");
    int total = smt_dev_report(reports, MAX_REPORTS);
    int n_known = total < MAX_REPORTS ? total : MAX_REPORTS;
    for (int i = 0; i < n_known && (unsigned)i < n; i++) {
        const struct smt_dev_report *d = &reports[i];
        struct smt_device_info *o = &out[i];
        *o = (struct smt_device_info){.usable = d->usable};
        snprintf(o->name, sizeof(o->name), "%s", d->name);
        snprintf(o->text, sizeof(o->text), "%s", d->text);
        snprintf(o->offload, sizeof(o->offload), "%s", d->offload);
        snprintf(o->reason, sizeof(o->reason), "%s", d->reason);
        snprintf(o->addresses, sizeof(o->addresses), "%s", d->addresses);
    }
    smt_mem_free(reports);
    return n_known;
}

static_assert(sizeof(struct smt_device_probe) == sizeof(struct smt_mlx5_probe) &&
                  (int)SMT_PROBE_GOOD == (int)SMT_PROBE_OK &&
                  (int)SMT_PROBE_BAD == (int)SMT_PROBE_NO &&
                  (int)SMT_PROBE_REMARK == (int)SMT_PROBE_NOTE,
              "filled in place");

int smt_device_probe(const char *device, struct smt_device_probe *out, unsigned n)
{
    if (out == NULL && n > 0)
        return smt_fail_static(NULL, SMT_EINVAL, "out is NULL");
    return (int)smt_mlx5_probe(device, (struct smt_mlx5_probe *)out, n);
}

uint64_t smt_secret_unlocked_bytes(void)
{
    return smt_mem_secret_unlocked();
}

const char *smt_version(void)
{
    return SMT_VERSION;
}
