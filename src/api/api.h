/* Inside of the api layer: the objects behind the public handles and what its files offer each
 * other. A link is one engine conn with its handshake.
 *
 *   ctx - ep -+- session -+- link: where calls go
 *             |           +- link beside it: a replacement that is shaking hands
 *             +- links of strangers: no session before their handshake is complete
 *
 * All of an endpoint is touched by one thread, except `woken` and the wake descriptor; a context is
 * shared by its endpoints' threads and read-only but for what its lock guards. */
#ifndef SMT_API_API_H
#define SMT_API_API_H

#include <pthread.h>
#include <stdatomic.h>

#include <smt/smt.h>

#include "api/ring.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "core/engine.h"
#include "dev/dev.h"
#include "hs/cookie.h"
#include "hs/hs.h"

enum {
    SMT_API_MAX_ADDRS = 8,
    SMT_API_N_ALGS = 3, /* enum smt_aead_alg is an index below this */
};

/* ---- objects ---- */

struct smt_ctx {
    uint32_t fork_gen;
    bool plaintext;
    bool can_accept; /* the credentials can play the responder */
    uint8_t n_algs;
    enum smt_aead_alg algs[SMT_API_N_ALGS];
    const struct smt_aead *aeads[SMT_API_N_ALGS]; /* by alg; NULL = not chosen */
    bool has_ssl_ctx;
    const struct smt_profile *profile;
    struct smt_record_keys *record_keys; /* of a profile that has some; memory for secrets */
    atomic_flag keys_used;               /* an endpoint has them: no other may, ever */
    struct smt_ctx_config kept; /* copies of the names of credential files, for reading again */
    struct smt_log log;
    uint64_t serial;      /* names the context in the threads' error texts */
    char *device, *tap;   /* copies; tap may be NULL */
    bool by_memory, any_user;
    struct smt_cookie_key *cookie; /* memory for secrets */
    pthread_mutex_t lock; /* guards what follows */
    struct smt_creds *creds; /* NULL: plaintext */
    struct smt_list eps;
    struct smt_list bufs; /* struct smt_api_buf of buf.c */
};

/* Who the peer of a link proved to be. One allocation, shared by links: peer.c. */
struct smt_peer {
    uint32_t refs;
    bool in_map;
    enum smt_session_auth auth;
    uint8_t key_sha256[32];
    uint32_t identity_len, cert_len;
    char bytes[]; /* identity with its NUL, then the certificate in DER */
};

/* One conn of the engine. The conn's user pointer. */
struct smt_link {
    struct smt_list node; /* ep->links */
    struct smt_ep *ep;
    struct smt_session *session; /* NULL: a stranger still shaking hands */
    struct smt_conn *conn;
    struct smt_hs *hs; /* until the link is up and an initiator has its ticket; else NULL */
    const struct smt_aead *aead; /* from the moment keys are installed */
    struct smt_peer *peer;
    uint64_t id_base; /* public call id = id_base + the engine's id */
    int error;        /* why its handshake failed, 0: it did not */
    char *text;       /* the same in words; NULL: nothing more than the code says */
    enum smt_hs_blame blame; /* on whose word it failed */
    bool up;
    bool resumed;                /* its handshake stood on a ticket */
    bool early;                  /* responder: took early data, and is up before TLS is through */
    bool may_have_run;           /* initiator: offered early data, and has not been refused them */
    bool hello_sent, hello_seen; /* plaintext endpoints: plain.c */
    bool closing;                /* smt_conn_close was called */
    bool rekeys;                 /* made beside a live link to take over from it, on request */
    struct smt_list retired;     /* ep->retiring: another took over, what is open here ends here */
    uint64_t last_id;            /* retired: largest public call id that is its own */
    uint64_t busy_at, retire_by; /* retired: when something was open last; when it ends anyway */
};

/* What an initiator needs to come back: one per smt_connect. */
struct smt_target {
    struct smt_session *session;
    struct smt_addr addrs[SMT_API_MAX_ADDRS];
    unsigned n_addrs, i_addr;
    uint64_t give_up; /* when the next address gets its turn; SMT_NEVER: the engine decides */
    uint64_t no_retry_before;
    uint64_t dial_by; /* when the address in use must be up, repeated handshakes included */
    uint8_t n_repeated; /* handshakes with it, because those before were damaged */
    struct smt_list dial;    /* ep->dialing, while give_up is set */
    struct smt_list kept;    /* struct smt_kept, posted */
    struct smt_list orphans; /* struct smt_kept whose link was lost */
    uint64_t key_a, key_b;
    bool in_map;
    int worst; /* the most telling error of addresses tried so far */
    char *worst_text;
    char name[]; /* verify name */
};

enum smt_notice { SMT_NOTICE_UP = 1, SMT_NOTICE_DOWN = 2 };

struct smt_session {
    struct smt_ep *ep;
    struct smt_link *link; /* where calls go; NULL: over */
    struct smt_link *beside;
    void *user;
    struct smt_target *target; /* NULL: the peer came to us */
    struct smt_list node;      /* ep->sessions; after DOWN was handed out ep->reap */
    struct smt_list notice;    /* ep->notices */
    uint64_t last_id;          /* largest public call id given */
    uint32_t n_links;          /* links that point here, retired ones too */
    int error;                 /* of SESSION_DOWN */
    uint8_t notices;           /* enum smt_notice, waiting to be told */
    bool was_up;
    bool announce; /* SESSION_UP is due when the replaced link is gone */
    bool closing;
    bool is_down; /* no link and never one again */
    bool mute;    /* given up by smt_connect_wait: no events any more */
};

/* A call the api may have to post again: on another address, or on the session that replaces a lost
 * one. */
struct smt_kept {
    struct smt_list node; /* target->kept, target->orphans or ep->failing */
    struct smt_session *session;
    struct smt_link *link; /* NULL: lost */
    uint64_t public_id, engine_id;
    uint64_t deadline; /* absolute; SMT_NEVER = none */
    void *user, *resp_buf;
    size_t resp_cap;
    int error; /* on ep->failing */
    bool one_way, idempotent;
    bool may_have_run; /* an attempt that was lost has sent it to where it may have been run */
    uint8_t n_iov;
    struct smt_post_iov iov[SMT_MAX_IOV];
};

struct smt_api_stats {
    uint64_t handshakes_ok, handshakes_failed, sessions_replaced, calls_repeated, addresses_failed;
    uint64_t handshakes_repeated, handshakes_resumed, sessions_rekeyed;
};

struct smt_clock {
    bool is_counted;     /* the CPU has a counter that the kernel itself goes by */
    uint64_t ns, cycles; /* of the last look at the kernel's clock; ns 0: there was none */
    uint64_t rate;       /* ns a cycle, times 2^32; 0: not known yet */
    uint64_t trust;      /* cycles from there for which the rate is good */
    uint64_t told;       /* what was told last */
};

struct smt_ep {
    /* What every poll reads. */
    uint32_t fork_gen;
    bool tx_blocked; /* the device is full: wait for its descriptor */
    unsigned n_polls_taking; /* in a row that received something */
    bool poll_spin;
    bool accept;
    bool is_lost;           /* its device is */
    bool has_slept;         /* or was going to, since the last look for packets */
    bool hears_refusals;    /* its profile has no handshake */
    uint8_t number, share;  /* share above 1: one of so many on its port */
    uint8_t news;           /* enum smt_dev_news to be told */
    bool told_down;         /* DEVICE_DOWN was told, DEVICE_UP not yet */
    struct smt_ctx *ctx;
    struct smt_engine *engine;
    struct smt_dev *dev;
    uint64_t now;            /* clock of the last poll */
    struct smt_clock clock;
    uint64_t dial_deadline;  /* earliest give_up of ep->dialing */
    uint64_t retire_look;    /* when ep->retiring is to be looked at */
    struct smt_list reap;    /* sessions whose DOWN was handed out by the poll before */
    struct smt_list failing; /* struct smt_kept to be told FAILED */
    struct smt_list notices;
    struct smt_ring held; /* events kept back by synchronous calls */
    struct smt_tx_sink sink;

    struct smt_list node; /* ctx->eps */
    struct smt_list links, sessions, dialing;
    struct smt_list retiring; /* links, by `retired` */
    struct smt_pool link_pool, session_pool, kept_pool;
    struct smt_map peers;   /* by key: struct smt_peer */
    struct smt_map by_peer; /* initiator sessions */
    uint64_t handshake_timeout;
    const struct smt_cookie_key *cookie; /* the context's */
    struct smt_api_stats stats;
    uint64_t spin_ns; /* sync.c: how long spinning has been worth it lately */
    uint8_t spin_missed, spin_skip; /* wait.c: looks in vain lately; waits without one to come */

    int wait_fd, timer_fd, wake_fd;
    uint64_t timer_at; /* what timer_fd is set to; SMT_NEVER: off */
    atomic_uint woken;

    unsigned random_left;
    uint8_t random_buf[256];
    struct smt_pkt pkts[SMT_DEV_RX_BATCH];
};

/* ---- fork.c ---- */

/* The first word says which generation of this process image we are, 0 in a child that has opened
 * nothing; handles remember the value of their birth. */
extern atomic_uint smt_fork_page[];

static inline uint32_t smt_fork_generation(void)
{
    return atomic_load_explicit(&smt_fork_page[0], memory_order_relaxed);
}

/* Makes sure that there is a generation. 0 or SMT_ESYSTEM. */
SMT_MUST_CHECK int smt_fork_init(void);

/* ---- errtext.c ---- */

/* Remembers a line for smt_error_text (ctx NULL: of calls without one) and returns `code`. */
int smt_fail(const struct smt_ctx *ctx, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a text that lives for ever: cheap enough for the data path. */
int smt_fail_static(const struct smt_ctx *ctx, int code, const char *text);

/* ---- checks of handles, for every public function ---- */

static inline int smt_ctx_check(const struct smt_ctx *ctx)
{
    if (SMT_UNLIKELY(ctx == NULL))
        return smt_fail_static(NULL, SMT_EINVAL, "the context is NULL");
    if (SMT_UNLIKELY(ctx->fork_gen != smt_fork_generation()))
        return smt_fail_static(ctx, SMT_EFORK,
                               "the context belongs to the parent process: open one here");
    return 0;
}

static inline int smt_ep_check(const struct smt_ep *ep)
{
    if (SMT_UNLIKELY(ep == NULL))
        return smt_fail_static(NULL, SMT_EINVAL, "the endpoint is NULL");
    if (SMT_UNLIKELY(ep->fork_gen != smt_fork_generation()))
        return smt_fail_static(ep->ctx, SMT_EFORK,
                               "the endpoint belongs to the parent process: open one here");
    return 0;
}

static inline int smt_session_check(const struct smt_session *s)
{
    if (SMT_UNLIKELY(s == NULL))
        return smt_fail_static(NULL, SMT_EINVAL, "the session is NULL");
    if (SMT_UNLIKELY(s->ep->fork_gen != smt_fork_generation()))
        return smt_fail_static(s->ep->ctx, SMT_EFORK, "the session belongs to the parent process");
    return 0;
}

/* ---- config.c ---- */

/* Copies a struct that carries its size in its first member: what the caller has of it, zeros for
 * the rest. SMT_EINVAL when size is not at least min_len. */
SMT_MUST_CHECK int smt_config_copy(void *to, size_t to_len, const void *from, size_t min_len);

/* ---- ctx.c ---- */

/* ssl_ctx NULL: from files. */
SMT_MUST_CHECK int smt_ctx_open_with(const struct smt_ctx_config *config, SSL_CTX *ssl_ctx,
                                     struct smt_ctx **out);

/* ---- profile.c ---- */

/* Finds config->profile; is the security that was asked for one that it has? */
SMT_MUST_CHECK int smt_ctx_profile_choose(struct smt_ctx *ctx, const struct smt_ctx_config *config,
                                          bool has_ssl_ctx);
bool smt_ctx_is_native(const struct smt_ctx *ctx);

/* In place of smt_ctx_creds_open, of profiles that are not native; with their warning. close undoes
 * it, also a failed one. */
SMT_MUST_CHECK int smt_ctx_profile_open(struct smt_ctx *ctx, const struct smt_ctx_config *config);
void smt_ctx_profile_close(struct smt_ctx *ctx);

/* Can the device carry the profile (while the context opens)? Is the endpoint's port one that it
 * allows? */
SMT_MUST_CHECK int smt_ctx_device_check(const struct smt_ctx *ctx, const struct smt_dev *dev);
SMT_MUST_CHECK int smt_ep_profile_check(const struct smt_ctx *ctx,
                                        const struct smt_ep_config *config);

/* What a code means when connecting. Static. */
const char *smt_ctx_connect_text(const struct smt_ctx *ctx, int code);

/* What a code means when a session ends. Static. */
const char *smt_ctx_down_text(const struct smt_ctx *ctx, int code);

/* What a code means when posting with this profile; NULL: nothing special. Static. */
const char *smt_ctx_post_text(const struct smt_ctx *ctx, int code);

/* ---- creds.c ---- */

/* Was exactly one kind of security asked for? */
SMT_MUST_CHECK int smt_ctx_creds_check(const struct smt_ctx_config *c, bool has_ssl_ctx);

/* Reads them; `ssl_ctx` NULL: from files. The ciphers are chosen already. close undoes it, also a
 * failed one. */
SMT_MUST_CHECK int smt_ctx_creds_open(struct smt_ctx *ctx, const struct smt_ctx_config *config,
                                      SSL_CTX *ssl_ctx);
void smt_ctx_creds_close(struct smt_ctx *ctx);

/* Those in use now, one reference, given (smt_creds_free). Not on plaintext contexts. */
struct smt_creds *smt_ctx_creds_ref(struct smt_ctx *ctx);

/* NULL without memory; smt_mem_free. */
char *smt_text_copy(const char *s);

/* ---- ep.c ---- */

/* As smt_ep_open on an open device, which the endpoint then owns (also on failure). For tests and
 * benchmarks. */
SMT_MUST_CHECK int smt_ep_open_on(struct smt_ctx *ctx, const struct smt_ep_config *config,
                                  struct smt_dev *dev, struct smt_ep **out);

/* Unpredictable bytes of the kernel. */
void smt_api_random(void *out, size_t len);

/* ---- clock.c ---- */

/* CLOCK_MONOTONIC in ns. */
uint64_t smt_api_clock(void);

/* An endpoint's own: the same within some ns, by the CPU's counter between two looks. Never goes
 * back. */
void smt_clock_init(struct smt_clock *c);
uint64_t smt_clock_now(struct smt_clock *c);

/* Its parts. A look gave `ns`, between these counts of the CPU. */
void smt_clock_seen(struct smt_clock *c, uint64_t before, uint64_t ns, uint64_t after);

/* The time at a count; false: a look is due. */
bool smt_clock_at(struct smt_clock *c, uint64_t cycles, uint64_t *ns);

/* `ns`, or what was told last if that is later. */
uint64_t smt_clock_tell(struct smt_clock *c, uint64_t ns);

/* ---- peer.c ---- */

/* What a complete handshake says of the peer, shared with other links where it is the same. NULL:
 * no memory. smt_peer_put gives it back; NULL allowed there. */
struct smt_peer *smt_peer_get(struct smt_ep *ep, const struct smt_hs *hs,
                              const struct smt_hs_result *result);
void smt_peer_put(struct smt_ep *ep, struct smt_peer *peer);

/* ---- handshake.c, plain.c ---- */

/* Makes the link of a conn; `session` NULL for a stranger. NULL: no memory. */
struct smt_link *smt_link_new(struct smt_ep *ep, struct smt_conn *conn,
                              struct smt_session *session);

/* Frees what a link holds and leaves its session; its conn is over or will not be looked at again.
 */
void smt_link_free(struct smt_link *link);

/* Begins the handshake of a link as the role of its conn. */
SMT_MUST_CHECK int smt_handshake_start(struct smt_link *link, const char *verify_name);

/* TLS bytes wait: runs the handshake; a failure closes the conn, its DOWN event brings the code. */
void smt_handshake_run(struct smt_link *link);

/* TLS has no more to say or to hear. */
bool smt_handshake_is_over(const struct smt_link *link);

/* The session is up and wants nothing more of TLS. */
void smt_handshake_end(struct smt_link *link);

/* Ends a link's conn because of `code` and remembers the text for its DOWN. */
void smt_link_fail(struct smt_link *link, int code, const char *text);

/* What both kinds of handshake end in: checks the peer's parameters, installs the secret. */
SMT_MUST_CHECK int smt_link_install(struct smt_link *link, enum smt_aead_alg alg,
                                    const uint8_t secret[SMT_SECRET_LEN],
                                    const struct smt_params *peer);

SMT_MUST_CHECK int smt_plain_start(struct smt_link *link);
void smt_plain_run(struct smt_link *link);

enum { SMT_PLAIN_MAGIC_LEN = 10 };
extern const uint8_t smt_plain_magic[SMT_PLAIN_MAGIC_LEN];

/* ---- session.c ---- */

/* smt_connect without its checks of handles; *is_new: it was not there before. */
SMT_MUST_CHECK int smt_session_connect(struct smt_ep *ep, const char *host, const char *verify_name,
                                       unsigned flags, struct smt_session **out, bool *is_new);

/* Each returns true when *out holds a public event. down frees the link. */
bool smt_session_link_up(struct smt_link *link, struct smt_event *out);
bool smt_session_link_down(struct smt_link *link, int error, struct smt_event *out);
void smt_session_no_session(struct smt_link *link);

/* Starts the next address of sessions whose turn with this one is over. */
void smt_session_dial_tick(struct smt_ep *ep, uint64_t now);

/* Begins the handshake of a link that takes over from the live one when it is up. */
SMT_MUST_CHECK int smt_session_dial_beside(struct smt_session *s);

/* ---- retire.c ---- */

/* Another link has taken over: this one ends when nothing is open on it. */
void smt_link_retire(struct smt_link *link);

/* Ends those whose time has come; those of a session that ends. */
void smt_retired_tick(struct smt_ep *ep, uint64_t now);
void smt_retired_close_all(struct smt_session *s);

/* Where a call posted before stands, if that is a retired link; else NULL. */
struct smt_link *smt_retired_of(const struct smt_session *s, uint64_t call_id);

/* ---- session.c ---- */

/* Frees a session that nobody will look at again. */
void smt_session_reap(struct smt_session *s);

/* As smt_session_close, with no more events of it at all: it frees itself. */
void smt_session_abandon(struct smt_session *s);

/* ---- kept.c ---- */

/* Whether a call posted now must be kept. */
static inline bool smt_session_keeps(const struct smt_session *s, unsigned flags)
{
    return s->target != NULL && ((flags & SMT_IDEMPOTENT) || !s->link->up);
}

/* Posts and remembers. */
SMT_MUST_CHECK int smt_kept_post(struct smt_session *s, const struct smt_post *post, uint64_t *id);

/* The final event of a kept call: true when it is final for the user too (then *id and *user are
 * his and the kept call is freed), false when the call waits to be posted again. */
bool smt_kept_final(struct smt_ep *ep, struct smt_kept *k, int error, uint64_t *id, void **user);

/* Posts the orphans of a session on its link. Those that cannot go are put on ep->failing. */
void smt_kept_repost(struct smt_session *s);

/* Puts the orphans on ep->failing. */
void smt_kept_fail_all(struct smt_session *s, int error);

SMT_MUST_CHECK int smt_kept_cancel(struct smt_session *s, uint64_t public_id);

void smt_kept_free(struct smt_ep *ep, struct smt_kept *k);

/* ---- poll.c ---- */

/* Reads the clock, moves packets both ways and runs timers. SMT_EDEVICE: the device is lost and
 * everything about it has been told. */
SMT_MUST_CHECK int smt_ep_progress(struct smt_ep *ep);

/* Sends what may be sent now. */
void smt_ep_transmit(struct smt_ep *ep);

/* The next event that is not in `held` already. */
bool smt_ep_next_event(struct smt_ep *ep, struct smt_event *out);

/* Whether an event could be handed out without moving packets. */
bool smt_ep_has_event(const struct smt_ep *ep);

/* ---- news.c ---- */

/* The device has news. */
void smt_ep_news_take(struct smt_ep *ep);

/* The device is gone for good: every session ends, then the endpoint. */
void smt_ep_lose(struct smt_ep *ep);

/* DEVICE_DOWN or DEVICE_UP, if one is due. */
bool smt_ep_port_event(struct smt_ep *ep, struct smt_event *out);

/* DEVICE_LOST, if it is due: after everything else. */
bool smt_ep_lost_event(struct smt_ep *ep, struct smt_event *out);

/* SMT_EDEVICE and its text. */
int smt_ep_lost_fail(const struct smt_ep *ep);

/* ---- wait.c ---- */

SMT_MUST_CHECK int smt_ep_wait_init(struct smt_ep *ep);
void smt_ep_wait_fini(struct smt_ep *ep);

/* smt_wait without looking first. */
SMT_MUST_CHECK int smt_ep_sleep(struct smt_ep *ep, uint64_t timeout_ns);

/* When the endpoint must run next. */
uint64_t smt_ep_deadline(const struct smt_ep *ep);

/* ---- buf.c ---- */

/* Registers the context's memory with a new endpoint's device. */
SMT_MUST_CHECK int smt_buf_register_all(struct smt_ctx *ctx, struct smt_ep *ep);

/* Frees what is left when a context closes. */
void smt_buf_forget_all(struct smt_ctx *ctx);

#endif
