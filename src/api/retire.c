/* Keys by a new key exchange while a session goes on: a handshake beside the live link, and the
 * link that it takes over from.
 *
 * The old link is not told to end: what is open on it, calls of either side, ends on it as it would
 * have. New calls go to the new one from the moment it is up. When nothing has been open for a
 * while, long enough for a lost acknowledgement to be asked for and given again, the old conn is
 * closed and its keys are wiped; at the latest after half a minute, whatever is open then: an old
 * key that lives as long as somebody wishes would be no new key at all.
 *
 * Tried in thought and dropped: new secrets into the same conn. It saves the peer's application a
 * second handle, but RPC ids, epochs and replay windows would then have two histories of keys. */
#include "api/api.h"

static const uint64_t look_every = 50 * SMT_MSEC;
static const uint64_t still_for = 500 * SMT_MSEC;
static const uint64_t retire_most = 30 * SMT_SEC;

static struct smt_link *link_of(struct smt_list *node)
{
    return SMT_CONTAINER_OF(node, struct smt_link, retired);
}

/* What is still open then may have been executed. */
static void retired_close(struct smt_link *link, int error)
{
    smt_list_remove(&link->retired);
    if (link->closing)
        return;
    link->closing = true;
    smt_conn_close(link->conn, link->ep->now, error, true);
}

void smt_link_retire(struct smt_link *link)
{
    struct smt_ep *ep = link->ep;
    link->last_id = link->session->last_id;
    link->busy_at = ep->now;
    link->retire_by = ep->now + retire_most;
    smt_list_push_tail(&ep->retiring, &link->retired);
    if (ep->retire_look == SMT_NEVER)
        ep->retire_look = ep->now + look_every;
}

void smt_retired_tick(struct smt_ep *ep, uint64_t now)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &ep->retiring) {
        struct smt_link *link = link_of(it);
        if (!smt_conn_is_still(link->conn))
            link->busy_at = now;
        if (now - link->busy_at >= still_for)
            retired_close(link, 0);
        else if (now >= link->retire_by)
            retired_close(link, SMT_EMAYBE);
    }
    ep->retire_look = smt_list_is_empty(&ep->retiring) ? SMT_NEVER : now + look_every;
}

void smt_retired_close_all(struct smt_session *s)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &s->ep->retiring)
        if (link_of(it)->session == s)
            retired_close(link_of(it), 0);
}

struct smt_link *smt_retired_of(const struct smt_session *s, uint64_t call_id)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &s->ep->retiring) {
        struct smt_link *link = link_of(it);
        if (link->session == s && call_id > link->id_base && call_id <= link->last_id)
            return link;
    }
    return NULL;
}

static int rekey_by_handshake(struct smt_session *s)
{
    const struct smt_ctx *ctx = s->ep->ctx;
    if (ctx->plaintext || !smt_engine_has_handshake(s->ep->engine))
        return smt_fail_static(ctx, SMT_EUNSUPPORTED, "there is no handshake to repeat");
    if (s->target == NULL)
        return smt_fail_static(ctx, SMT_EUNSUPPORTED,
                               "only the side that connected can make another handshake");
    if (s->beside != NULL)
        return 0; /* one is under way, and will do */
    int r = smt_session_dial_beside(s);
    return r < 0 ? smt_fail_static(ctx, r, "no handshake beside the session") : 0;
}

int smt_session_rekey(struct smt_session *session, unsigned flags)
{
    int r = smt_session_check(session);
    if (r < 0)
        return r;
    const struct smt_ctx *ctx = session->ep->ctx;
    if ((flags & ~(unsigned)SMT_REKEY_HANDSHAKE) != 0)
        return smt_fail_static(ctx, SMT_EINVAL, "unknown flags");
    if (session->closing || session->link == NULL || !session->link->up)
        return smt_fail_static(ctx, SMT_ESTATE, "the session is not up");
    session->ep->now = smt_clock_now(&session->ep->clock);
    if (flags & SMT_REKEY_HANDSHAKE)
        return rekey_by_handshake(session);
    r = ctx->plaintext ? SMT_EUNSUPPORTED : smt_conn_rekey(session->link->conn);
    return r < 0 ? smt_fail_static(ctx, r, "this session has no epochs of keys") : 0;
}
