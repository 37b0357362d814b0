/* Endpoints: a device, an engine and the book-keeping around them; opening, closing, draining,
 * counting.
 *
 * Owns the translation of the public limits into the engine's and the random bytes (getrandom,
 * fetched in runs). The cookie key is the context's: a token that one endpoint gave is good at the
 * others. Moving packets is poll.c's, sleeping wait.c's, sessions session.c's.
 */
#include "api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/profile.h"

static const struct smt_ep_config defaults = {
    .max_open_rpcs = 4096,
    .max_session_bytes = 64ull << 20,
    .max_ep_bytes = 1ull << 30,
    .accept_len = 16u << 20,
    .max_msg_len = SMT_MAX_MSG_LEN,
    .peer_timeout_ns = 2 * SMT_SEC,
    .handshake_timeout_ns = 5 * SMT_SEC,
    .rekey_records = 1ull << 28,
    .max_sessions = 100000,
};

/* The engine counts its conns; the pools have room for every one and for sessions that wait to be
 * told. */
enum { MIN_MTU = 1024, FIRST_SESSIONS = 16, MAX_SESSIONS = 1 << 30 };

/* A process that cannot get them must not go on: ids and keys would be guessable. */
void smt_api_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort();
        p += n;
        len -= (size_t)n;
    }
}

static void ep_random(void *arg, void *out, size_t len)
{
    struct smt_ep *ep = arg;
    if (len > sizeof(ep->random_buf)) {
        smt_api_random(out, len);
        return;
    }
    if (ep->random_left < len) {
        smt_api_random(ep->random_buf, sizeof(ep->random_buf));
        ep->random_left = sizeof(ep->random_buf);
    }
    uint8_t *p = ep->random_buf + sizeof(ep->random_buf) - ep->random_left;
    memcpy(out, p, len);
    smt_wipe(p, len);
    ep->random_left -= (unsigned)len;
}

static void ep_cookie_make(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                           uint8_t out[32])
{
    struct smt_ep *ep = arg;
    if (smt_cookie_make(ep->cookie, now / SMT_SEC, from, id, out) < 0)
        memset(out, 0, 32); /* opens nothing: the check fails too */
}

static bool ep_cookie_check(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                            const uint8_t cookie[32])
{
    struct smt_ep *ep = arg;
    return smt_cookie_check(ep->cookie, now / SMT_SEC, from, id, cookie) == 0;
}

static bool ep_token_check(void *arg, uint64_t now, const struct smt_addr *from,
                           const uint8_t token[32])
{
    struct smt_ep *ep = arg;
    return smt_token_check(ep->cookie, now / SMT_SEC, from, token) == 0;
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_dev *dev = arg;
    return dev->ops->tx_reserve(dev, to, len, prio);
}

static void sink_unreserve(void *arg)
{
    struct smt_dev *dev = arg;
    dev->ops->tx_unreserve(dev);
}

static uint8_t *sink_run(void *arg, const struct smt_addr *to, unsigned n, size_t len,
                         size_t last_len, uint8_t prio, size_t *stride)
{
    struct smt_dev *dev = arg;
    return dev->ops->tx_run(dev, to, n, len, last_len, prio, stride);
}

static uint32_t sink_run_max(void *arg, const struct smt_addr *to)
{
    struct smt_dev *dev = arg;
    return dev->ops->tx_run_max(dev, to);
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    struct smt_dev *dev = arg;
    return dev->ops->mtu(dev, to);
}

static uint8_t *sink_burst(void *arg, const struct smt_addr *to, size_t hdr_len, size_t record_len,
                           size_t slice_len, uint8_t prio)
{
    struct smt_dev *dev = arg;
    return dev->ops->tx_burst(dev, to, hdr_len, record_len, slice_len, prio);
}

static int config_check(const struct smt_ctx *ctx, const struct smt_ep_config *c)
{
    if (c->accept && !ctx->can_accept)
        return smt_fail_static(ctx, SMT_ECREDENTIALS,
                               "an endpoint that accepts needs a certificate and its key, a "
                               "psk_file, or plaintext");
    if (c->mtu != 0 && (c->mtu < MIN_MTU || c->mtu > SMT_DEV_MAX_PACKET))
        return smt_fail(ctx, SMT_EINVAL, "mtu must be 0 or %d to %d", MIN_MTU, SMT_DEV_MAX_PACKET);
    if (c->max_msg_len > SMT_MAX_MSG_LEN)
        return smt_fail(ctx, SMT_EINVAL, "max_msg_len must not be above %d", SMT_MAX_MSG_LEN);
    if (c->share > 1 && c->number >= c->share)
        return smt_fail(ctx, SMT_EINVAL, "of %u endpoints that share a port none has number %u",
                        c->share, c->number);
    if (c->share > 1 && !smt_ctx_is_native(ctx))
        return smt_fail(ctx, SMT_EUNSUPPORTED,
                        "profile %s has no session ids to share a port by", ctx->profile->name);
    return smt_ep_profile_check(ctx, c);
}

/* The open endpoint of this context with this place on a shared port, or NULL. */
static const struct smt_ep *sharer_find(struct smt_ctx *ctx, uint16_t port, unsigned share,
                                        unsigned number)
{
    const struct smt_ep *found = NULL;
    pthread_mutex_lock(&ctx->lock);
    for (struct smt_list *it = ctx->eps.next; it != &ctx->eps; it = it->next) {
        const struct smt_ep *ep = SMT_CONTAINER_OF(it, struct smt_ep, node);
        if (ep->share == share && ep->number == number && ep->dev->ops->port(ep->dev) == port)
            found = ep;
    }
    pthread_mutex_unlock(&ctx->lock);
    return found;
}

/* The kernel numbers the sockets of a port as they come. */
static int share_check(struct smt_ctx *ctx, const struct smt_ep_config *c)
{
    if (c->share <= 1)
        return 0;
    if (c->number > 0 &&
        (c->port == 0 || sharer_find(ctx, c->port, c->share, c->number - 1u) == NULL))
        return smt_fail(ctx, SMT_ESTATE,
                        "endpoints that share a port are opened in the order of their numbers: "
                        "number %u is not open on port %u", c->number - 1u, c->port);
    if (c->port != 0 && sharer_find(ctx, c->port, c->share, c->number) != NULL)
        return smt_fail(ctx, SMT_EADDRINUSE, "number %u is open on port %u", c->number, c->port);
    return 0;
}

static void config_fill(struct smt_ep_config *c)
{
#define FILL(member)                                                                               \
    do {                                                                                           \
        if (c->member == 0)                                                                        \
            c->member = defaults.member;                                                           \
    } while (0)
    FILL(max_open_rpcs);
    FILL(max_session_bytes);
    FILL(max_ep_bytes);
    FILL(accept_len);
    FILL(max_msg_len);
    FILL(peer_timeout_ns);
    FILL(handshake_timeout_ns);
    FILL(rekey_records);
    FILL(max_sessions);
#undef FILL
}

static uint8_t carriages_of(uint32_t caps)
{
    static const struct {
        uint32_t cap;
        uint8_t carriage;
    } table[] = {
        {SMT_DEV_CAP_UDP, SMT_CARRIAGE_UDP},
        {SMT_DEV_CAP_RAW, SMT_CARRIAGE_RAW},
        {SMT_DEV_CAP_UD, SMT_CARRIAGE_UD},
    };
    uint8_t all = 0;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(table); i++)
        all |= caps & table[i].cap ? table[i].carriage : 0;
    return all != 0 ? all : SMT_CARRIAGE_UDP;
}

/* Where a packet of control costs each side a system call, grants go in half windows: what is still
 * on its way then fills the path. And a host's own work between two packets of a sender, some
 * hundred microseconds, is no silence. */
static void sockets_tune(struct smt_tune *t)
{
    t->grant_step_pct = 50;
    t->silent_floor_ns = 500000;
}

static int engine_open(struct smt_ep *ep, const struct smt_ep_config *c)
{
    /* Numbers that were sealed under are known to one engine only. */
    if (ep->ctx->record_keys != NULL && atomic_flag_test_and_set(&ep->ctx->keys_used))
        return SMT_EKEYLIMIT;
    struct smt_engine_config ec;
    smt_engine_config_init(&ec);
    ec.profile = ep->ctx->profile;
    ec.record_keys = ep->ctx->record_keys;
    ec.port = ep->dev->ops->port(ep->dev);
    ec.number = c->number;
    ec.accept = c->accept != 0;
    ec.early = ep->ctx->kept.early != 0;
    ec.holds = true;
    ec.mtu = c->mtu;
    ec.rx_window = ep->dev->ops->rx_capacity(ep->dev);
    ec.bursts = (ep->dev->ops->caps & SMT_DEV_CAP_BURST) != 0;
    ec.carriages = carriages_of(ep->dev->ops->caps);
    ec.slices = ec.carriages == SMT_CARRIAGE_UDP && !ec.bursts;
    ec.sealer = smt_aead_is_fips() ? NULL : ep->dev->ops->sealer(ep->dev);
    ec.tune.link_mbps = ep->dev->ops->link_mbps(ep->dev);
    if (ec.slices)
        sockets_tune(&ec.tune);
    ec.max_open_rpcs = c->max_open_rpcs;
    ec.max_conn_bytes = c->max_session_bytes;
    ec.max_bytes = c->max_ep_bytes;
    ec.accept_len = c->accept_len;
    ec.max_msg_len = c->max_msg_len;
    ec.max_conns = c->max_sessions;
    ec.peer_timeout = c->peer_timeout_ns;
    ec.idle_timeout = c->idle_timeout_ns;
    ec.handshake_timeout = c->handshake_timeout_ns;
    ec.rekey_records = c->rekey_records;
    ec.random = ep_random;
    ec.random_arg = ep;
    ep_random(ep, &ec.seed, sizeof(ec.seed));
    ec.cookie_make = ep_cookie_make;
    ec.cookie_check = ep_cookie_check;
    ec.token_check = ep_token_check;
    ec.cookie_arg = ep;
    ec.user = ep;
    smt_clock_init(&ep->clock);
    ep->now = smt_clock_now(&ep->clock);
    return smt_engine_new(&ec, ep->now, &ep->engine);
}

static int pools_init(struct smt_ep *ep)
{
    uint64_t seed[2];
    ep_random(ep, seed, sizeof(seed));
    int r = smt_map_init(&ep->by_peer, seed, 0);
    if (r == 0)
        r = smt_map_init(&ep->peers, seed, 0);
    if (r == 0)
        r = smt_pool_init(&ep->link_pool, sizeof(struct smt_link), FIRST_SESSIONS, MAX_SESSIONS);
    if (r == 0)
        r = smt_pool_init(&ep->session_pool, sizeof(struct smt_session), FIRST_SESSIONS,
                          MAX_SESSIONS);
    return r;
}

/* Everything but the context's list and the device, which is the caller's on failure. */
static void ep_free(struct smt_ep *ep)
{
    smt_ep_wait_fini(ep);
    smt_engine_free(ep->engine);
    smt_ring_fini(&ep->held);
    smt_pool_fini(&ep->kept_pool);
    smt_pool_fini(&ep->session_pool);
    smt_pool_fini(&ep->link_pool);
    smt_map_fini(&ep->by_peer);
    smt_map_fini(&ep->peers);
    smt_wipe(ep->random_buf, sizeof(ep->random_buf));
    smt_mem_free(ep);
}

static int ep_fill(struct smt_ep *ep, const struct smt_ep_config *c)
{
    int r = pools_init(ep);
    if (r == 0)
        r = engine_open(ep, c);
    if (r == SMT_EKEYLIMIT)
        return smt_fail_static(ep->ctx, r,
                               "a pair of smt1 keys is good for one endpoint: open a context with "
                               "other keys");
    if (r < 0)
        return smt_fail(ep->ctx, r, "endpoint: %s", smt_strerror(r));
    return smt_ep_wait_init(ep);
}

static struct smt_ep *ep_alloc(struct smt_ctx *ctx, struct smt_dev *dev,
                               const struct smt_ep_config *c)
{
    struct smt_ep *ep = smt_mem_alloc(sizeof(*ep));
    if (ep == NULL)
        return NULL;
    ep->fork_gen = smt_fork_generation();
    ep->ctx = ctx;
    ep->cookie = ctx->cookie;
    ep->dev = dev;
    ep->poll_spin = c->poll_spin != 0;
    ep->hears_refusals = !smt_ctx_is_native(ctx);
    ep->accept = c->accept != 0;
    ep->number = c->number;
    ep->share = c->share;
    ep->handshake_timeout = c->handshake_timeout_ns;
    ep->dial_deadline = SMT_NEVER;
    ep->retire_look = SMT_NEVER;
    ep->wait_fd = ep->timer_fd = ep->wake_fd = -1;
    ep->sink = (struct smt_tx_sink){dev, sink_reserve, sink_unreserve, sink_mtu,
                                    dev->ops->tx_burst != NULL ? sink_burst : NULL,
                                    sink_run, sink_run_max};
    smt_list_init(&ep->reap);
    smt_list_init(&ep->failing);
    smt_list_init(&ep->notices);
    smt_list_init(&ep->links);
    smt_list_init(&ep->sessions);
    smt_list_init(&ep->dialing);
    smt_list_init(&ep->retiring);
    return ep;
}

int smt_ep_open_on(struct smt_ctx *ctx, const struct smt_ep_config *config, struct smt_dev *dev,
                   struct smt_ep **out)
{
    struct smt_ep_config c = *config;
    config_fill(&c);
    int r = config_check(ctx, &c);
    struct smt_ep *ep = NULL;
    if (r == 0) {
        ep = ep_alloc(ctx, dev, &c);
        r = ep == NULL ? smt_fail_static(ctx, SMT_ENOMEM, "no memory for an endpoint") : 0;
    }
    if (r == 0)
        r = ep_fill(ep, &c);
    if (r == 0) {
        pthread_mutex_lock(&ctx->lock);
        r = smt_buf_register_all(ctx, ep);
        if (r == 0)
            smt_list_push_tail(&ctx->eps, &ep->node);
        pthread_mutex_unlock(&ctx->lock);
    }
    if (r < 0) {
        if (ep != NULL)
            ep_free(ep);
        dev->ops->close(dev);
        return r;
    }
    *out = ep;
    return 0;
}

int smt_ep_open(struct smt_ctx *ctx, const struct smt_ep_config *config, struct smt_ep **out)
{
    int r = smt_ctx_check(ctx);
    if (r < 0)
        return r;
    if (out == NULL)
        return smt_fail_static(ctx, SMT_EINVAL, "out is NULL");
    *out = NULL;
    struct smt_ep_config c = SMT_EP_CONFIG_INIT;
    if (config != NULL &&
        smt_config_copy(&c, sizeof(c), config, offsetof(struct smt_ep_config, poll_spin)) < 0)
        return smt_fail_static(ctx, SMT_EINVAL,
                               "config.size is not set: start from SMT_EP_CONFIG_INIT");
    r = config_check(ctx, &c);
    if (r == 0)
        r = share_check(ctx, &c);
    if (r < 0)
        return r;
    char text[512] = "";
    const struct smt_dev_config dev_config = {
        .spec = ctx->device,
        .bind_host = c.bind_host,
        .port = c.port,
        .share = c.share,
        .number = c.number,
        .tap = ctx->tap,
        .ip_protocol = ctx->profile->ip_protocol,
        .ip_class_shift = ctx->profile->ip_class_shift,
        .no_ecn = !smt_ctx_is_native(ctx),
        .by_memory = ctx->by_memory,
        .any_user = ctx->any_user,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    struct smt_dev *dev;
    r = smt_dev_open(&dev_config, &dev);
    if (r < 0)
        return smt_fail(ctx, r, "%s", text[0] != '\0' ? text : smt_strerror(r));
    if (c.share > 1 && (dev->ops->caps & SMT_DEV_CAP_SHARE) == 0) {
        r = smt_fail(ctx, SMT_EUNSUPPORTED, "the device %s cannot share a port", dev->ops->name);
        dev->ops->close(dev);
        return r;
    }
    return smt_ep_open_on(ctx, &c, dev, out);
}

static void sessions_free(struct smt_ep *ep, struct smt_list *list)
{
    for (struct smt_list *it; (it = smt_list_first(list)) != NULL;)
        smt_session_reap(SMT_CONTAINER_OF(it, struct smt_session, node));
}

int smt_ep_close(struct smt_ep *ep)
{
    if (ep == NULL)
        return 0;
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    struct smt_ctx *ctx = ep->ctx;
    if (ep->share > 1 &&
        sharer_find(ctx, ep->dev->ops->port(ep->dev), ep->share, ep->number + 1u) != NULL)
        return smt_fail(ctx, SMT_ESTATE,
                        "endpoints that share a port are closed last number first: number %u is "
                        "open", ep->number + 1u);
    pthread_mutex_lock(&ctx->lock);
    smt_list_remove(&ep->node);
    pthread_mutex_unlock(&ctx->lock);

    ep->now = smt_clock_now(&ep->clock);
    for (struct smt_list *it = ep->links.next; it != &ep->links; it = it->next) {
        struct smt_link *link = SMT_CONTAINER_OF(it, struct smt_link, node);
        if (!link->closing)
            smt_conn_close(link->conn, ep->now, 0, true);
    }
    smt_ep_transmit(ep);

    while (!smt_list_is_empty(&ep->links))
        smt_link_free(SMT_CONTAINER_OF(ep->links.next, struct smt_link, node));
    sessions_free(ep, &ep->reap);
    sessions_free(ep, &ep->sessions);
    struct smt_dev *dev = ep->dev;
    ep_free(ep);
    dev->ops->close(dev);
    return 0;
}

uint16_t smt_ep_port(const struct smt_ep *ep)
{
    return smt_ep_check(ep) < 0 ? 0 : ep->dev->ops->port(ep->dev);
}
