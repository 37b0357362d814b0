/* Calls that the api keeps so that it can post them again: idempotent calls of sessions that can be
 * replaced, and calls posted while a handshake may still be repeated or move on to the next address
 * (those were never executed, so any kind may be posted again).
 *
 * A kept call travels through the engine as the call's `user`, marked. When its link is lost its
 * FAILED is not told; it waits among the session's orphans for the link's DOWN, which either finds
 * another link to post it on or ends it. Its public id is the one of its first posting. */
#include "api/api.h"

#include <string.h>

enum { FIRST_KEPT = 16, MAX_KEPT = 1 << 24 };

static struct smt_kept *kept_new(struct smt_ep *ep)
{
    if (smt_pool_n_total(&ep->kept_pool) == 0 &&
        smt_pool_init(&ep->kept_pool, sizeof(struct smt_kept), FIRST_KEPT, MAX_KEPT) < 0)
        return NULL;
    return smt_pool_get(&ep->kept_pool);
}

void smt_kept_free(struct smt_ep *ep, struct smt_kept *k)
{
    smt_list_remove(&k->node);
    smt_pool_put(&ep->kept_pool, k);
}

int smt_kept_post(struct smt_session *s, const struct smt_post *post, uint64_t *id)
{
    struct smt_kept *k = kept_new(s->ep);
    if (k == NULL)
        return SMT_ENOMEM;
    k->session = s;
    k->link = s->link;
    k->user = post->user;
    k->resp_buf = post->resp_buf;
    k->resp_cap = post->resp_cap;
    k->deadline = post->deadline == 0 ? SMT_NEVER : smt_api_clock() + post->deadline;
    k->error = 0;
    k->one_way = post->one_way;
    k->idempotent = post->idempotent;
    k->n_iov = (uint8_t)post->n_iov;
    if (post->n_iov > 0)
        memcpy(k->iov, post->iov, post->n_iov * sizeof(k->iov[0]));
    struct smt_post marked = *post;
    marked.user = k;
    marked.mark = true;
    int r = smt_conn_post(s->link->conn, &marked, &k->engine_id);
    if (r < 0) {
        smt_pool_put(&s->ep->kept_pool, k);
        return r;
    }
    smt_list_push_tail(&s->target->kept, &k->node);
    k->public_id = s->link->id_base + k->engine_id;
    *id = k->public_id;
    return 0;
}

/* Whether FAILED with `error` is the loss of the link and not the call's own end. */
static bool is_lost(const struct smt_kept *k, int error, uint64_t now)
{
    if (k->session->closing || error == SMT_ECANCELED)
        return false;
    if (k->link->up)
        return k->idempotent &&
               (error == SMT_EMAYBE || error == SMT_EUNREACHABLE || error == SMT_ECLOSED);
    /* It had left, early or under keys that the peer never confirmed. */
    if (error == SMT_EMAYBE && !k->idempotent)
        return false;
    return error != SMT_ETIMEDOUT || now < k->deadline;
}

bool smt_kept_final(struct smt_ep *ep, struct smt_kept *k, int error, uint64_t *id, void **user)
{
    if (error < 0 && is_lost(k, error, ep->now)) {
        k->may_have_run |= error == SMT_EMAYBE;
        smt_list_remove(&k->node);
        smt_list_push_tail(&k->session->target->orphans, &k->node);
        k->link = NULL;
        return false;
    }
    *id = k->public_id;
    *user = k->user;
    smt_kept_free(ep, k);
    return true;
}

static void fail_later(struct smt_kept *k, int error)
{
    k->error = error;
    smt_list_remove(&k->node);
    smt_list_push_tail(&k->session->ep->failing, &k->node);
}

void smt_kept_fail_all(struct smt_session *s, int error)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &s->target->orphans) {
        struct smt_kept *k = SMT_CONTAINER_OF(it, struct smt_kept, node);
        fail_later(k, k->may_have_run && !s->closing ? SMT_EMAYBE : error);
    }
}

static int repost(struct smt_session *s, struct smt_kept *k)
{
    uint64_t now = s->ep->now;
    if (now >= k->deadline)
        return SMT_ETIMEDOUT;
    const struct smt_post post = {
        .iov = k->iov,
        .n_iov = k->n_iov,
        .one_way = k->one_way,
        .idempotent = k->idempotent,
        .mark = true,
        .deadline = k->deadline == SMT_NEVER ? 0 : k->deadline - now,
        .user = k,
        .resp_buf = k->resp_buf,
        .resp_cap = k->resp_cap,
    };
    int r = smt_conn_post(s->link->conn, &post, &k->engine_id);
    if (r == 0) {
        k->link = s->link;
        smt_list_remove(&k->node);
        smt_list_push_tail(&s->target->kept, &k->node);
        s->ep->stats.calls_repeated++;
    }
    return r;
}

void smt_kept_repost(struct smt_session *s)
{
    for (struct smt_list *it; (it = smt_list_first(&s->target->orphans)) != NULL;) {
        struct smt_kept *k = SMT_CONTAINER_OF(it, struct smt_kept, node);
        int r = s->closing ? SMT_ECLOSED : repost(s, k);
        if (r == SMT_EAGAIN)
            return; /* WRITABLE comes, and we with it */
        if (r < 0)
            fail_later(k, r);
    }
}

static struct smt_kept *kept_find(struct smt_list *list, uint64_t public_id)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, list) {
        struct smt_kept *k = SMT_CONTAINER_OF(it, struct smt_kept, node);
        if (k->public_id == public_id)
            return k;
    }
    return NULL;
}

int smt_kept_cancel(struct smt_session *s, uint64_t public_id)
{
    struct smt_kept *k = kept_find(&s->target->orphans, public_id);
    if (k != NULL) {
        fail_later(k, SMT_ECANCELED);
        return 0;
    }
    k = kept_find(&s->target->kept, public_id);
    return k == NULL ? SMT_EINVAL : smt_conn_cancel(k->link->conn, k->engine_id);
}
