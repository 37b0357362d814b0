/* Sessions: which conn a user's session stands on, and what becomes of it when that conn is lost.
 *
 * A session of smt_connect dials the addresses of its host in turn. Once up it outlives its conn:
 * when the peer says that it does not know us, one handshake is made beside the live conn; when the
 * conn dies of silence, one in its place. Until the new link is up nothing about the session
 * changes; then the old conn is closed, what was open on it fails or is repeated (kept.c) and
 * SESSION_UP is told again. Sessions of peers that came to us just end.
 *
 * Dropped: racing all addresses at once. It doubles the handshakes of every connect for hosts with
 * two families; instead each address but the last gets its share of the handshake timeout. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

/* Handshakes repeated with one address: after damage, after words in clear that may be false. */
enum { MAX_NAME = 255, MAX_AFTER_DAMAGE = 8, MAX_AFTER_WORDS = 2 };

static const uint64_t retry_interval = 1 * SMT_SEC;   /* between handshakes on a NO_SESSION hint */
static const uint64_t min_dial_time = 200 * SMT_MSEC; /* for one of several addresses */

/* ---- making and ending ---- */

static struct smt_session *session_new(struct smt_ep *ep, struct smt_target *target)
{
    struct smt_session *s = smt_pool_get(&ep->session_pool);
    if (s == NULL)
        return NULL;
    *s = (struct smt_session){.ep = ep, .target = target};
    smt_list_push_tail(&ep->sessions, &s->node);
    smt_list_init(&s->notice);
    return s;
}

static struct smt_session *map_owner(const struct smt_ep *ep, const struct smt_target *t)
{
    return smt_map_get(&ep->by_peer, (struct smt_map_key){t->key_a, t->key_b});
}

static void forget_peer(struct smt_session *s)
{
    struct smt_target *t = s->target;
    if (t == NULL || !t->in_map)
        return;
    t->in_map = false;
    smt_map_del(&s->ep->by_peer, (struct smt_map_key){t->key_a, t->key_b});
}

void smt_session_reap(struct smt_session *s)
{
    forget_peer(s);
    if (s->target != NULL) {
        smt_list_remove(&s->target->dial);
        smt_mem_free(s->target->worst_text);
        smt_mem_free(s->target);
    }
    smt_list_remove(&s->notice);
    smt_list_remove(&s->node);
    smt_pool_put(&s->ep->session_pool, s);
}

static void notice_push(struct smt_session *s, enum smt_notice what)
{
    if (s->notices == 0)
        smt_list_push_tail(&s->ep->notices, &s->notice);
    s->notices |= (uint8_t)what;
}

/* ---- dialing ---- */

static void dial_deadline_update(struct smt_ep *ep)
{
    ep->dial_deadline = SMT_NEVER;
    for (struct smt_list *it = ep->dialing.next; it != &ep->dialing; it = it->next) {
        const struct smt_target *t = SMT_CONTAINER_OF(it, struct smt_target, dial);
        if (t->give_up < ep->dial_deadline)
            ep->dial_deadline = t->give_up;
    }
}

static void dial_timer_stop(struct smt_session *s)
{
    struct smt_target *t = s->target;
    if (t == NULL || t->give_up == SMT_NEVER)
        return;
    t->give_up = SMT_NEVER;
    smt_list_remove(&t->dial);
    dial_deadline_update(s->ep);
}

static void dial_timer_start(struct smt_session *s)
{
    struct smt_target *t = s->target;
    dial_timer_stop(s);
    if (t->n_repeated == 0) {
        uint64_t share = s->ep->handshake_timeout / t->n_addrs;
        t->dial_by = s->ep->now + (share > min_dial_time ? share : min_dial_time);
        /* The engine keeps the time of a single one. */
        if (t->i_addr + 1 >= t->n_addrs)
            return;
    }
    t->give_up = t->dial_by;
    smt_list_push_tail(&s->ep->dialing, &t->dial);
    dial_deadline_update(s->ep);
}

/* A conn to the target's current address with its handshake begun. *out is not yet the session's.
 */
static int link_dial(struct smt_session *s, struct smt_link **out)
{
    struct smt_ep *ep = s->ep;
    const struct smt_target *t = s->target;
    struct smt_conn *conn;
    int r = smt_conn_open(ep->engine, ep->now, &t->addrs[t->i_addr], &conn);
    if (r < 0)
        return r;
    struct smt_link *link = smt_link_new(ep, conn, s);
    if (link == NULL) {
        smt_conn_close(conn, ep->now, 0, false);
        return SMT_ENOMEM;
    }
    r = smt_handshake_start(link, t->name);
    if (r < 0) {
        if (link->hs != NULL)
            smt_fail(ep->ctx, r, "%s", smt_hs_error_text(link->hs));
        link->session = NULL;
        s->n_links--;
        smt_link_fail(link, r, "");
        return r;
    }
    *out = link;
    return 0;
}

static int beside_dial(struct smt_session *s, bool rekeys)
{
    int r = link_dial(s, &s->beside);
    if (r == 0)
        s->beside->rekeys = rekeys;
    return r;
}

/* Dials on from the current address until one can be tried at all. */
static int session_dial(struct smt_session *s)
{
    struct smt_target *t = s->target;
    for (;;) {
        int r = link_dial(s, &s->link);
        if (r == 0) {
            s->link->id_base = s->last_id;
            dial_timer_start(s);
            return 0;
        }
        if (t->i_addr + 1 >= t->n_addrs)
            return r;
        t->i_addr++;
        t->n_repeated = 0;
    }
}

void smt_session_dial_tick(struct smt_ep *ep, uint64_t now)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &ep->dialing) {
        struct smt_target *t = SMT_CONTAINER_OF(it, struct smt_target, dial);
        if (t->give_up > now)
            continue;
        t->give_up = SMT_NEVER;
        smt_list_remove(&t->dial);
        struct smt_link *link = t->session->link;
        if (link == NULL || link->closing)
            continue;
        link->closing = true;
        smt_conn_close(link->conn, now, SMT_EUNREACHABLE, false);
    }
    dial_deadline_update(ep);
}

/* ---- smt_connect ---- */

/* The host without its port: what a certificate must carry. */
static int host_name(const char *host, char *out, size_t cap)
{
    const char *begin = host, *end = host + strlen(host);
    const char *colon = strrchr(host, ':');
    if (host[0] == '[') {
        begin = host + 1;
        end = strchr(begin, ']');
    } else if (colon != NULL && strchr(host, ':') == colon) {
        end = colon;
    }
    if (end == NULL || end <= begin || (size_t)(end - begin) >= cap)
        return SMT_ENAME;
    memcpy(out, begin, (size_t)(end - begin));
    out[end - begin] = '\0';
    return 0;
}

/* The map's own hash is keyed; this only has to fold address and name into its two words. */
static void target_key(struct smt_target *t)
{
    uint64_t words[3];
    static_assert(sizeof(words) == sizeof(t->addrs[0]), "folded as words");
    memcpy(words, &t->addrs[0], sizeof(words));
    uint64_t h = 0xcbf29ce484222325ull;
    for (const char *p = t->name; *p != '\0'; p++)
        h = (h ^ (uint8_t)*p) * 0x100000001b3ull;
    t->key_a = words[0] ^ h;
    t->key_b = words[1] * 31 + words[2];
}

static struct smt_target *target_new(const struct smt_addr *addrs, unsigned n, const char *name)
{
    size_t name_len = strlen(name);
    struct smt_target *t = smt_mem_alloc(sizeof(*t) + name_len + 1);
    if (t == NULL)
        return NULL;
    memcpy(t->addrs, addrs, n * sizeof(*addrs));
    memcpy(t->name, name, name_len + 1);
    t->n_addrs = n;
    t->give_up = SMT_NEVER;
    smt_list_init(&t->dial);
    smt_list_init(&t->kept);
    smt_list_init(&t->orphans);
    target_key(t);
    return t;
}

static bool same_target(const struct smt_target *a, const struct smt_target *b)
{
    return smt_addr_equal(&a->addrs[0], &b->addrs[0]) && strcmp(a->name, b->name) == 0;
}

static int session_open(struct smt_ep *ep, struct smt_target *t, struct smt_session **out)
{
    struct smt_session *s = session_new(ep, t);
    if (s == NULL) {
        smt_mem_free(t);
        return smt_fail_static(ep->ctx, SMT_ENOMEM, "no memory for a session");
    }
    t->session = s;
    int r = session_dial(s);
    if (r < 0) {
        smt_fail(ep->ctx, r, "connect to %s: %s", t->name, smt_ctx_connect_text(ep->ctx, r));
        smt_session_reap(s);
        return r;
    }
    *out = s;
    return 0;
}

static int connect_resolved(struct smt_ep *ep, const struct smt_addr *addrs, unsigned n,
                            const char *name, unsigned flags, struct smt_session **out,
                            bool *is_new)
{
    struct smt_target *t = target_new(addrs, n, name);
    if (t == NULL)
        return smt_fail_static(ep->ctx, SMT_ENOMEM, "no memory for a session");
    struct smt_session *old = (flags & SMT_NEW_SESSION) ? NULL : map_owner(ep, t);
    if (old != NULL && same_target(old->target, t)) {
        smt_mem_free(t);
        *out = old;
        *is_new = false;
        return 0;
    }
    *is_new = true;
    int r = session_open(ep, t, out);
    /* A session of its own is not found by others; one that is not found is still a session. */
    if (r == 0 && !(flags & SMT_NEW_SESSION) && old == NULL)
        t->in_map = smt_map_put(&ep->by_peer, (struct smt_map_key){t->key_a, t->key_b}, *out) == 0;
    return r;
}

int smt_session_connect(struct smt_ep *ep, const char *host, const char *verify_name,
                        unsigned flags, struct smt_session **out, bool *is_new)
{
    if (ep->is_lost)
        return smt_ep_lost_fail(ep);
    if (host == NULL || host[0] == '\0' || (verify_name != NULL && verify_name[0] == '\0'))
        return smt_fail_static(ep->ctx, SMT_EINVAL, "an empty host or verify_name");
    if ((flags & ~(unsigned)SMT_NEW_SESSION) != 0)
        return smt_fail_static(ep->ctx, SMT_EINVAL, "unknown flags");
    if (verify_name != NULL && strlen(verify_name) > MAX_NAME)
        return smt_fail_static(ep->ctx, SMT_EINVAL, "verify_name is too long");
    char name[MAX_NAME + 1];
    struct smt_addr addrs[SMT_API_MAX_ADDRS];
    int n = host_name(host, name, sizeof(name));
    if (n == 0)
        n = smt_dev_resolve(host, SMT_DEFAULT_PORT, addrs, SMT_API_MAX_ADDRS);
    if (n <= 0)
        return smt_fail(ep->ctx, SMT_ENAME,
                        "\"%s\" is no address and no known name: give host:port or [IPv6]:port",
                        host);
    ep->now = smt_clock_now(&ep->clock);
    return connect_resolved(ep, addrs, (unsigned)n, verify_name != NULL ? verify_name : name, flags,
                            out, is_new);
}

int smt_connect(struct smt_ep *ep, const char *host, const char *verify_name, unsigned flags,
                struct smt_session **out)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    if (out == NULL)
        return smt_fail_static(ep->ctx, SMT_EINVAL, "out is NULL");
    *out = NULL;
    bool is_new;
    r = smt_session_connect(ep, host, verify_name, flags, out, &is_new);
    /* UP or DOWN follows every smt_connect, also one that finds a session which is up. */
    if (r == 0 && !is_new && (*out)->link->up)
        notice_push(*out, SMT_NOTICE_UP);
    return r;
}

/* ---- what happens to links ---- */

static bool tell_up(struct smt_session *s, struct smt_event *out)
{
    s->was_up = true;
    s->announce = false;
    *out = (struct smt_event){.type = SMT_EV_SESSION_UP, .session = s};
    return true;
}

/* The handshake beside the live link is complete: it takes over. */
static bool link_promote(struct smt_session *s, struct smt_link *link, struct smt_event *out)
{
    struct smt_link *old = s->link;
    s->link = link;
    s->beside = NULL;
    link->id_base = s->last_id;
    if (link->rekeys && !old->closing) {
        s->ep->stats.sessions_rekeyed++;
        smt_link_retire(old);
        return tell_up(s, out);
    }
    s->announce = true;
    s->ep->stats.sessions_replaced++;
    if (!old->closing) {
        old->closing = true;
        smt_conn_close(old->conn, s->ep->now, SMT_EMAYBE, true);
    }
    return false;
}

/* What people may want to mend although it works. */
static void note_log(const struct smt_link *link)
{
    struct smt_dev *dev = link->ep->dev;
    const char *note = dev->ops->note(dev, smt_conn_addr(link->conn));
    if (note != NULL)
        smt_log_emit(&link->ep->ctx->log, SMT_LOGLVL_INFO, "%s", note);
}

bool smt_session_link_up(struct smt_link *link, struct smt_event *out)
{
    struct smt_ep *ep = link->ep;
    struct smt_session *s = link->session;
    link->up = true;
    if (link->hs != NULL && smt_handshake_is_over(link))
        smt_handshake_end(link);
    ep->stats.handshakes_ok++;
    ep->stats.handshakes_resumed += link->resumed;
    if (link->closing)
        return false;
    note_log(link);
    if (s == NULL) {
        s = session_new(ep, NULL);
        if (s == NULL) {
            smt_link_fail(link, SMT_ENOMEM, "no memory for a session");
            return false;
        }
        link->session = s;
        s->link = link;
        s->n_links = 1;
        return tell_up(s, out);
    }
    if (link == s->beside)
        return link_promote(s, link, out);
    if (s->was_up)
        ep->stats.sessions_replaced++;
    dial_timer_stop(s);
    return tell_up(s, out);
}

/* The device may know more about silence than that. */
static void text_from_device(struct smt_link *link, int error)
{
    struct smt_dev *dev = link->ep->dev;
    if (link->text != NULL || link->up || error != SMT_EUNREACHABLE)
        return;
    const char *why = dev->ops->why(dev, smt_conn_addr(link->conn));
    if (why == NULL)
        return;
    size_t len = strlen(why) + 1;
    link->text = smt_mem_alloc(len);
    if (link->text != NULL)
        memcpy(link->text, why, len);
}

static void failure_log(const struct smt_link *link, int error)
{
    if (error == 0)
        return;
    char peer[64];
    smt_dev_addr_text(smt_conn_addr(link->conn), peer, sizeof(peer));
    smt_log_emit(&link->ep->ctx->log, link->up ? SMT_LOGLVL_INFO : SMT_LOGLVL_WARN, "%s %s: %s",
                 link->up ? "session with" : "handshake with", peer,
                 link->text != NULL ? link->text : smt_strerror(error));
}

static bool is_security(int code)
{
    return code <= -400 && code > -500;
}

/* Remembers the most telling failure of several addresses: a refused certificate says more than
 * silence. */
static void worst_note(struct smt_target *t, struct smt_link *link, int error)
{
    if (t->worst != 0 && (is_security(t->worst) || !is_security(error)))
        return;
    t->worst = error;
    smt_mem_free(t->worst_text);
    t->worst_text = link->text;
    link->text = NULL;
}

/* Nothing protects the first flights of a handshake: damage and forgery must not end it. One that
 * failed of them is repeated at once, with another session, within the time of the first. */
static bool is_spoilt(const struct smt_session *s, const struct smt_link *lost, int error)
{
    const struct smt_target *t = s->target;
    if (s->ep->ctx->plaintext || s->ep->now >= t->dial_by)
        return false;
    /* Ended by the engine: two responders spoke up. */
    bool contested = error == SMT_EPROTO && lost->error == 0;
    if (contested || lost->blame == SMT_HS_BLAME_DAMAGE)
        return t->n_repeated < MAX_AFTER_DAMAGE;
    return lost->blame == SMT_HS_BLAME_NOBODY && t->n_repeated < MAX_AFTER_WORDS;
}

/* The live link is gone: is there another one to stand on? Then s->link is set. */
static bool session_goes_on(struct smt_session *s, struct smt_link *lost, int error)
{
    struct smt_target *t = s->target;
    if (t == NULL || s->closing || s->ep->is_lost)
        return false;
    if (s->beside != NULL) {
        s->link = s->beside;
        s->beside = NULL;
        s->link->id_base = s->last_id;
        return true;
    }
    if (lost->up) {
        t->worst = 0;
        t->n_repeated = 0;
        /* Nothing would tell whether a new conn reaches anybody. */
        if (!smt_engine_has_handshake(s->ep->engine))
            return false;
        return error == SMT_EUNREACHABLE && session_dial(s) == 0;
    }
    if (is_spoilt(s, lost, error)) {
        t->n_repeated++;
        s->ep->stats.handshakes_repeated++;
        if (session_dial(s) == 0)
            return true;
    }
    worst_note(t, lost, error);
    s->ep->stats.addresses_failed++;
    if (t->i_addr + 1 >= t->n_addrs)
        return false;
    t->i_addr++;
    t->n_repeated = 0;
    return session_dial(s) == 0;
}

/* Tells DOWN as soon as nothing else of the session is left to tell. */
static bool down_tell(struct smt_session *s)
{
    if (!s->is_down || s->n_links > 0)
        return false;
    if (s->mute) {
        smt_session_reap(s);
        return false;
    }
    notice_push(s, SMT_NOTICE_DOWN);
    return false;
}

static void session_over(struct smt_session *s, const struct smt_link *lost, int error)
{
    struct smt_target *t = s->target;
    const char *text = lost->text;
    if (t != NULL && !lost->up && t->worst != 0 && !s->closing && !s->ep->is_lost) {
        error = t->worst;
        text = t->worst_text;
    }
    s->is_down = true;
    s->error = error;
    forget_peer(s);
    smt_retired_close_all(s);
    dial_timer_stop(s);
    if (t != NULL)
        smt_kept_fail_all(s, error == 0 ? SMT_ECLOSED : s->was_up ? SMT_EMAYBE : error);
    if (error != 0 && !s->mute) {
        char peer[64];
        smt_dev_addr_text(smt_conn_addr(lost->conn), peer, sizeof(peer));
        if (text == NULL)
            text = smt_ctx_down_text(s->ep->ctx, error);
        smt_fail(s->ep->ctx, error, "%s: %s", peer, text);
    }
}

/* A handshake on request that was damaged, or in whose place anybody could have spoken, is repeated
 * like the first of a session; any other failure leaves things as they are. */
static void beside_again(struct smt_session *s, const struct smt_link *lost, int error)
{
    if (s->closing || s->link == NULL || !is_spoilt(s, lost, error))
        return;
    s->target->n_repeated++;
    s->ep->stats.handshakes_repeated++;
    int r = beside_dial(s, true);
    if (r < 0)
        smt_log_emit(&s->ep->ctx->log, SMT_LOGLVL_WARN, "no new keys: %s", smt_strerror(r));
}

bool smt_session_link_down(struct smt_link *link, int error, struct smt_event *out)
{
    struct smt_session *s = link->session;
    text_from_device(link, error);
    failure_log(link, error);
    if (!link->up)
        link->ep->stats.handshakes_failed++;
    if (s == NULL) {
        smt_link_free(link);
        return false;
    }
    if (link == s->link) {
        s->link = NULL;
        if (!session_goes_on(s, link, error))
            session_over(s, link, error);
    } else if (link == s->beside) {
        s->beside = NULL;
        if (link->rekeys)
            beside_again(s, link, error);
    }
    smt_link_free(link);
    if (s->target != NULL && s->link != NULL)
        smt_kept_repost(s);
    if (s->announce && !s->closing && s->link != NULL && s->link->up)
        return tell_up(s, out);
    return down_tell(s);
}

int smt_session_dial_beside(struct smt_session *s)
{
    s->target->n_repeated = 0;
    s->target->dial_by = s->ep->now + s->ep->handshake_timeout;
    return beside_dial(s, true);
}

void smt_session_no_session(struct smt_link *link)
{
    struct smt_session *s = link->session;
    if (s == NULL || s->target == NULL || s->closing || s->beside != NULL || link != s->link ||
        !link->up || link->closing)
        return;
    struct smt_target *t = s->target;
    if (s->ep->now < t->no_retry_before)
        return;
    t->no_retry_before = s->ep->now + retry_interval;
    int r = beside_dial(s, false);
    if (r < 0)
        smt_log_emit(&s->ep->ctx->log, SMT_LOGLVL_WARN, "no handshake beside a lost session: %s",
                     smt_strerror(r));
}

/* ---- closing ---- */

static void session_close(struct smt_session *s)
{
    if (s->closing || s->is_down)
        return;
    struct smt_ep *ep = s->ep;
    ep->now = smt_clock_now(&ep->clock);
    s->closing = true;
    forget_peer(s);
    dial_timer_stop(s);
    if (s->beside != NULL && !s->beside->closing) {
        s->beside->closing = true;
        smt_conn_close(s->beside->conn, ep->now, 0, true);
    }
    smt_retired_close_all(s);
    if (!s->link->closing) {
        s->link->closing = true;
        smt_conn_close(s->link->conn, ep->now, 0, true);
    }
}

int smt_session_close(struct smt_session *session)
{
    int r = smt_session_check(session);
    if (r == 0)
        session_close(session);
    return r;
}

void smt_session_abandon(struct smt_session *s)
{
    s->mute = true;
    if (s->notices != 0) {
        s->notices = 0;
        smt_list_remove(&s->notice);
    }
    if (s->is_down && s->n_links == 0)
        smt_session_reap(s);
    else
        session_close(s);
}

void smt_session_set_user(struct smt_session *session, void *user)
{
    if (smt_session_check(session) == 0)
        session->user = user;
}

void *smt_session_user(const struct smt_session *session)
{
    return smt_session_check(session) < 0 ? NULL : session->user;
}
