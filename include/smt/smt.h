/* libsmt-verbs: encrypted messages and RPCs from user space.
 *
 * A *context* opens a device and holds credentials. An *endpoint* is one port on it: one engine,
 * used by one thread at a time, sharing nothing with other endpoints; more cores = more endpoints.
 * A *session* is a secured relation between two endpoints. Calls, one-way messages and replies are
 * posted; what happens is pulled as events by smt_poll, like a completion queue.
 *
 * Words on memory: *borrowed* = used during the call only; *lent* = the library may read or write
 * it until the named event; *given* = yours to free or release.
 * Times are nanoseconds; a deadline is given as a duration from now (0 = none).
 * Errors: 0 or a count is success, a negative code of <smt/error.h> is failure, and nothing changed
 * unless said otherwise. In a forked child every call on a parent's handle answers SMT_EFORK.
 *
 * Protocol: docs/wire.md (profile smt2). Transport after Homa (SIGCOMM'18, ATC'21); per-message
 * security after SMT (IEEE S&P'26); handshake TLS 1.3 (RFC 8446). */
#ifndef SMT_SMT_H
#define SMT_SMT_H

#include <stddef.h>
#include <stdint.h>

#include <smt/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct smt_ctx;
struct smt_ep;
struct smt_session;

enum {
    SMT_DEFAULT_PORT = 18515,
    SMT_MAX_MSG_LEN = 1 << 30,
    SMT_MAX_IOV = 16,
};

/* ---- context ------------------------------------------------------------------------------- */

/* Credentials and device. Start from SMT_CTX_CONFIG_INIT; strings are borrowed. Exactly one kind of
 * security must be chosen: certificates (cert+key, and ca or pins to verify the peer with), a
 * psk_file, an SSL_CTX by <smt/tls.h>, or plaintext, unless `profile` leaves no choice. None of
 * them: SMT_ECREDENTIALS. */
struct smt_ctx_config {
    size_t size;             /* sizeof(struct smt_ctx_config) */
    const char *device;      /* "udp" (default), or a name smt_device_list gives, "udp:eth0" */
    const char *cert_file;   /* PEM chain */
    const char *key_file;    /* PEM */
    const char *ca_file;     /* PEM; whom to trust */
    const char *psk_file;    /* one line "identity:hex key" (at least 16 bytes of key) */
    /* "sha256//BASE64[;...]" of peers' public keys (SPKI), may replace ca */
    const char *pins;
    const char *cipher;      /* comma list, best first; default "aes-128-gcm,aes-256-gcm" */
    /* "auto" (default), "openssl", "ipsec-mb"; else SMT_CIPHER_IMPL decides */
    const char *cipher_impl;
    int plaintext;           /* 1: no security at all, both sides must ask for it */
    int client_cert_optional; /* 1: a server accepts clients without a certificate */
    /* Decorator around the device for tests and traces (tests/README): "drop=0.05,dup=0.05,
     * reorder=0.2,corrupt=0.01,delay_us=50,seed=7,pcap=FILE". NULL: none. */
    const char *tap;
    void (*log)(void *arg, int level, const char *text); /* level 0 error … 3 debug; NULL: silent */
    void *log_arg;
    char *error_text;        /* optional: buffer for one clear line when smt_ctx_open fails */
    size_t error_text_len;
    /* PEM, beside ca_file: lists of revoked certificates (RFC 5280), a current one for each
     * authority in a peer's chain */
    const char *crl_file;
    /* The wire format: "smt2" (default), or one of the Linux kernel's: "homa-main" and "homa-6.1"
     * (no security at all: their name asks for plaintext, and a warning is logged), "smt1" (keys
     * from keys_file). docs/security.md says what each protects. */
    const char *profile;
    const char *keys_file;   /* profile smt1: lines "client KEY SALT", "server KEY SALT" in hex */
    /* 1: every handshake shows certificates. Else a server gives its clients tickets, and a client
     * uses one, once, for its next handshake with the same server, which costs both a fraction.
     * Tickets are kept in memory, an hour at most, and no longer than the certificates and lists
     * by which the peer was judged hold good. Only with certificates from files. */
    int no_resumption;
    /* Peers on this host by shared memory (devices udp and af): 0 if their process is the same
     * user's or root's, 1 any user's, -1 never. SMT_SHM=0 in the environment says never, too. */
    int shm;
    /* 1: early data (0-RTT), if both ends want it. A client that comes back by a ticket sends calls
     * marked SMT_IDEMPOTENT that fit one packet along with its hello, the server runs them at once
     * and answers before the handshake is through, which saves a round trip. They may be run twice,
     * by the client's hand or a replayer's, and whoever gets the server's ticket keys within two
     * hours can read them (docs/security.md). One whose session never comes up fails SMT_EMAYBE:
     * SESSION_DOWN says why. */
    int early;
};
#define SMT_CTX_CONFIG_INIT {.size = sizeof(struct smt_ctx_config)}

/* Opens a context. *out is given (smt_ctx_close). */
SMT_API int smt_ctx_open(const struct smt_ctx_config *config, struct smt_ctx **out);

/* Closes a context; SMT_ESTATE while it has endpoints. NULL is allowed. */
SMT_API int smt_ctx_close(struct smt_ctx *ctx);

/* Reads the same credential files again, for handshakes that begin from now on: renewed
 * certificates and keys, another CA, new lists of revoked ones. Sessions that are up stay up. From
 * any thread. On failure the credentials in use stay. SMT_EUNSUPPORTED: plaintext, or an SSL_CTX of
 * the application's own, which it changes itself. */
SMT_API int smt_ctx_reload(struct smt_ctx *ctx);

/* One clear English line about the last failure of a call on this context or its endpoints, by the
 * calling thread ("certificate expired: …, give a new one with --cert"). Never NULL. */
SMT_API const char *smt_error_text(const struct smt_ctx *ctx);

/* ---- endpoint ------------------------------------------------------------------------------ */

struct smt_ep_config {
    size_t size;                /* sizeof(struct smt_ep_config) */
    const char *bind_host;      /* local address; NULL = all, IPv6 and IPv4 */
    uint16_t port;              /* 0 = any free port */
    int accept;                 /* 1: peers may open sessions to us */
    int poll_spin;              /* 1: smt_poll never waits and never arms (busy polling) */
    uint32_t max_open_rpcs;     /* we allow a peer per session; default 4,096 */
    uint64_t max_session_bytes; /* received and not yet released, per session; default 64 MiB */
    uint64_t max_ep_bytes;      /* the same for the endpoint; default 1 GiB */
    uint32_t accept_len;        /* larger messages raise SMT_EV_INCOMING first; default 16 MiB */
    uint32_t max_msg_len;       /* larger ones are refused; default SMT_MAX_MSG_LEN */
    uint32_t mtu;               /* largest packet, 0 = found by probing */
    uint64_t peer_timeout_ns;   /* silence that ends a session with work open, up to twice as long
                                   when very many fell silent together; default 2 s */
    uint64_t idle_timeout_ns;   /* sessions without work end after this; default 0 = never */
    uint64_t handshake_timeout_ns; /* default 5 s */
    uint64_t rekey_records;     /* start a new epoch after so many records; default 2^28 */
    uint32_t max_sessions;      /* default 100,000 */
    uint8_t number;             /* endpoint number, top byte of its session ids; default 0 */
    /* Above 1: so many endpoints of this context share the port, each for a thread of its own, with
     * `number` 0 to share - 1: packets go to them by session, new sessions are spread. Opened in
     * the order of their numbers (the first may take any port, the others take its), closed in the
     * reverse one. Devices udp, af, shm and ud. */
    uint8_t share;
};
#define SMT_EP_CONFIG_INIT {.size = sizeof(struct smt_ep_config)}

/* Opens an endpoint. SMT_EADDRINUSE, SMT_EPERM, SMT_ENAME … *out is given (smt_ep_close). */
SMT_API int smt_ep_open(struct smt_ctx *ctx, const struct smt_ep_config *config,
                        struct smt_ep **out);

/* Waits until everything posted has been answered or acknowledged and replies have arrived, at most
 * timeout_ns; then tells the peers. Received requests not yet replied to do not hold it up. Events
 * that come meanwhile are kept for smt_poll. SMT_ETIMEDOUT when work remains. */
SMT_API int smt_ep_drain(struct smt_ep *ep, uint64_t timeout_ns);

/* Closes at once: peers are told, calls in flight vanish without events, received messages and all
 * session handles become invalid. Call smt_ep_drain first to lose nothing. NULL is allowed. */
SMT_API int smt_ep_close(struct smt_ep *ep);

/* The port in use. */
SMT_API uint16_t smt_ep_port(const struct smt_ep *ep);

/* ---- sessions ------------------------------------------------------------------------------ */

enum smt_connect_flags {
    SMT_NEW_SESSION = 1, /* a session of its own, even if one to this peer exists */
};

/* Connects to host:port ("10.0.0.1:18515", "[::1]:18515", "name", port 18515 if missing). The same
 * peer and credentials return the existing session unless SMT_NEW_SESSION. Asynchronous: calls may
 * be posted at once; SMT_EV_SESSION_UP or SMT_EV_SESSION_DOWN follows. `verify_name`: the name or
 * IP the certificate must carry; NULL = the host given. Borrowed strings; *out lives until its
 * SMT_EV_SESSION_DOWN or until the endpoint closes. Resolving a name may block; of several
 * addresses each but the last gets its share of the handshake timeout. A session that is up
 * survives the loss of its peer's state: a new handshake replaces it and SMT_EV_SESSION_UP comes
 * again. */
SMT_API int smt_connect(struct smt_ep *ep, const char *host, const char *verify_name,
                        unsigned flags, struct smt_session **out);

/* Ends a session: open calls fail with SMT_ECLOSED (their events still come), the peer is told. The
 * handle is invalid once SMT_EV_SESSION_DOWN has been polled. */
SMT_API int smt_session_close(struct smt_session *session);

enum smt_rekey_flags {
    SMT_REKEY_HANDSHAKE = 1, /* by another key exchange, not by a step from the keys in use */
};

/* Asks for new keys; sessions also take them by themselves, in time. Without flags: the next epoch,
 * whose keys follow from those in use by a one-way step. SMT_REKEY_HANDSHAKE: another handshake
 * beside the live session, by the side that connected. When it is complete SMT_EV_SESSION_UP comes
 * again and new calls go under the new keys; what is open ends as it would have, under the old
 * ones, which are wiped when nothing is open any more, after half a minute at most. The peer sees a
 * session more, and later the end of the one before. If it fails everything stays as it is. */
SMT_API int smt_session_rekey(struct smt_session *session, unsigned flags);

/* A place for the user's pointer. */
SMT_API void smt_session_set_user(struct smt_session *session, void *user);
SMT_API void *smt_session_user(const struct smt_session *session);

enum smt_session_auth { SMT_AUTH_NONE, SMT_AUTH_CERT, SMT_AUTH_PIN, SMT_AUTH_PSK };

struct smt_session_info {
    size_t size;               /* sizeof, set by the caller */
    char peer[64];             /* "192.0.2.1:18515" */
    char identity[256];        /* certificate subject, PSK identity, or "" */
    char cipher[32];           /* "aes-128-gcm", "none" */
    char cipher_impl[16];
    enum smt_session_auth auth;
    int is_initiator;
    int is_up;
    uint32_t epoch;
    uint32_t mtu;              /* packet bytes in use now */
    uint64_t handshake_ns;     /* time from the first packet to the keys */
    uint64_t rtt_min_ns;       /* 0 = not measured */
    uint32_t open_calls;
    uint8_t peer_key_sha256[32]; /* of the peer's SPKI; zero without certificate */
    char sealing[160];           /* "nic", or "cpu" and why: "cpu: this device leaves it to …" */
    int is_resumed;              /* by a ticket; the peer proved its identity in an earlier one */
};
SMT_API int smt_session_get_info(const struct smt_session *session, struct smt_session_info *info);

/* ---- messages ------------------------------------------------------------------------------ */

struct smt_iov {
    const void *base;
    size_t len;
};

enum smt_call_flags {
    SMT_IDEMPOTENT = 1, /* may be executed more than once: repeated when a session is replaced */
};

struct smt_call_args {
    size_t size;            /* sizeof(struct smt_call_args) */
    /* array borrowed; the bytes are lent until RESPONSE, SENT or FAILED */
    const struct smt_iov *iov;
    unsigned n_iov;         /* 0 … SMT_MAX_IOV; total 0 … 2^30 bytes */
    unsigned flags;         /* enum smt_call_flags */
    uint64_t deadline_ns;   /* from now; 0 = none. Passing it ends the call FAILED SMT_ETIMEDOUT */
    void *user;             /* comes back in events */
    void *resp_buf;         /* optional: where the response goes, lent until RESPONSE or FAILED */
    size_t resp_cap;        /* a longer response ends the call FAILED SMT_EMSGSIZE */
};

/* Sends a request. *call_id (optional) names the call until its RESPONSE or FAILED event; it is
 * never used again. SMT_EAGAIN: a limit of open calls or bytes is reached, SMT_EV_WRITABLE
 * follows. */
SMT_API int smt_call(struct smt_session *session, const struct smt_call_args *args,
                     uint64_t *call_id);

/* Sends a one-way message: unordered, delivered at most once. SMT_EV_SENT: the peer's transport has
 * authenticated all of it. resp_buf is not used. */
SMT_API int smt_send(struct smt_session *session, const struct smt_call_args *args,
                     uint64_t *call_id);

/* Ends a call early; it then ends in exactly one event, FAILED with SMT_ECANCELED unless its end
 * was already queued. Lent memory stays lent until that event. SMT_EINVAL when it is not open. */
SMT_API int smt_cancel(struct smt_session *session, uint64_t call_id);

/* A received request or message, or a response in library memory. Opaque handle; the bytes stay
 * valid until smt_release (given). */
struct smt_msg;

/* Answers a request, once. The bytes are lent until SMT_EV_SENT or FAILED with this `user`. The
 * request's memory may be released before or after. A request whose caller has gone takes the reply
 * and ends it FAILED SMT_ECLOSED. */
SMT_API int smt_reply(struct smt_msg *request, const struct smt_iov *iov, unsigned n_iov,
                      void *user);

/* Refuses a request: its caller gets FAILED SMT_EREFUSED. */
SMT_API int smt_reject(struct smt_msg *request);

/* Accepts a message announced by SMT_EV_INCOMING into `buf` (lent until its REQUEST, MESSAGE or
 * RESPONSE event, or FAILED with `data` = buf) of at least the announced length, or into library
 * memory when buf is NULL; while memory is short the message waits for some and comes later
 * (SMT_ENOMEM: it is longer than all that the endpoint may have). SMT_ECLOSED: its sender has gone,
 * and with it the handle. The handle of an announced RESPONSE ends with its call: not after
 * SMT_EV_FAILED (deadline, cancel, session lost). */
SMT_API int smt_accept(struct smt_msg *incoming, void *buf, size_t cap);

/* Gives a message back. For a request not yet replied to, only its bytes: the handle stays valid
 * until smt_reply or smt_reject. */
SMT_API void smt_release(struct smt_msg *msg);

enum smt_event_type {
    SMT_EV_NONE = 0,
    SMT_EV_REQUEST,      /* msg, data, len: a request; reply or reject, and release it */
    SMT_EV_RESPONSE,     /* call_id, user, data, len; msg to release unless resp_buf was given */
    SMT_EV_MESSAGE,      /* msg, data, len: a one-way message; release it */
    SMT_EV_SENT,         /* call_id, user: a one-way message or a reply has arrived whole */
    SMT_EV_FAILED,       /* call_id, user, error: a call, message or reply ended without success */
    SMT_EV_INCOMING,     /* msg, len, of (the type to come): accept or reject it */
    SMT_EV_WRITABLE,     /* session: after SMT_EAGAIN, posting is possible again */
    SMT_EV_SESSION_UP,   /* session: handshake complete (both sides; again after a replacement) */
    SMT_EV_SESSION_DOWN, /* session, error: gone; the handle dies when the next smt_poll begins */
    /* Of the endpoint's device; session is NULL. */
    SMT_EV_DEVICE_DOWN,  /* its port has lost its link; sessions wait for it as long as for peers */
    SMT_EV_DEVICE_UP,    /* the link is back */
    /* error: the device is gone for good. The last event: calls have FAILED (SMT_EMAYBE what had
     * left, SMT_EDEVICE what had not), sessions are DOWN. From here on smt_poll answers
     * SMT_EDEVICE; what is left to do is smt_ep_close. */
    SMT_EV_DEVICE_LOST,
};

struct smt_event {
    enum smt_event_type type;
    enum smt_event_type of; /* INCOMING: REQUEST, MESSAGE or RESPONSE */
    int error;              /* FAILED, SESSION_DOWN: negative code, 0 = closed in order */
    struct smt_session *session;
    uint64_t call_id;       /* 0 for replies */
    void *user;             /* of the call or reply */
    struct smt_msg *msg;
    const void *data;
    size_t len;
};

/* Moves packets and time, then hands out up to n events; returns how many. Never blocks. */
SMT_API int smt_poll(struct smt_ep *ep, struct smt_event *events, unsigned n);

/* ---- sleeping and waking ------------------------------------------------------------------- */

/* One file descriptor, readable when smt_poll has something to do. For select, epoll, libevent …
 * Pattern: poll until it returns 0; smt_arm; if that returned SMT_EBUSY poll again, else sleep. */
SMT_API int smt_get_fd(struct smt_ep *ep);

/* Prepares for sleep: 0 = sleep on the fd until readable; SMT_EBUSY = work arrived, poll again. */
SMT_API int smt_arm(struct smt_ep *ep);

/* smt_arm + poll(2) on the fd, at most timeout_ns (UINT64_MAX = for ever). 0 = poll again, also
 * after the timeout. Looks for 20 us before it sleeps, as long as that has been worth it lately.
 * With poll_spin it returns at once. */
SMT_API int smt_wait(struct smt_ep *ep, uint64_t timeout_ns);

/* Wakes a sleeping or armed endpoint: the one call that any thread may make at any time, also from
 * a signal handler. */
SMT_API int smt_wakeup(struct smt_ep *ep);

/* ---- convenience --------------------------------------------------------------------------- */

/* Connects and waits for SESSION_UP or failure. Other events are kept for smt_poll. */
SMT_API int smt_connect_wait(struct smt_ep *ep, const char *host, const char *verify_name,
                             unsigned flags, uint64_t timeout_ns, struct smt_session **out);

/* A whole call: sends, waits, copies at most resp_cap bytes. Returns the response's length or an
 * error (SMT_EMSGSIZE when it did not fit). Other events are kept for smt_poll. Borrowed. */
SMT_API int64_t smt_call_wait(struct smt_session *session, const void *req, size_t req_len,
                              void *resp, size_t resp_cap, uint64_t timeout_ns);

/* ---- memory -------------------------------------------------------------------------------- */

/* Memory the device can reach without copies (page-aligned, registered where the device registers).
 * Any memory works everywhere; this is faster on RDMA devices. Given; smt_buf_free. */
SMT_API void *smt_buf_alloc(struct smt_ctx *ctx, size_t len);
SMT_API void smt_buf_free(struct smt_ctx *ctx, void *buf);

/* Registers the user's own memory for the device. It must stay mapped until smt_buf_unregister. A
 * device that needs no registration accepts any. */
SMT_API int smt_buf_register(struct smt_ctx *ctx, void *addr, size_t len);
SMT_API int smt_buf_unregister(struct smt_ctx *ctx, void *addr);

/* ---- looking inside ------------------------------------------------------------------------ */

/* Counters of an endpoint: static names, values now. Fills up to n; returns how many there are. */
struct smt_counter {
    const char *name;
    uint64_t value;
};
SMT_API int smt_ep_counters(const struct smt_ep *ep, struct smt_counter *out, unsigned n);

/* Devices of this machine and what each can do. Strings are the caller's structs' own. */
struct smt_device_info {
    char name[64];
    char text[256];    /* one line: what it is */
    char offload[256]; /* whether the NIC seals, and why not */
    int usable;        /* 1: smt_ctx_open would succeed on it */
    char reason[512];  /* when not usable: why, and the remedy */
    char addresses[512]; /* RDMA: the GIDs, "1 192.0.2.1 (RoCE v2, used), …" */
};
SMT_API int smt_device_list(struct smt_device_info *out, unsigned n);

/* The steps between this machine and a NIC that seals, tried in their order on one device
 * ("mlx5_0", "eth0"; NULL = the first mlx5 one): up to n of 16; returns how many were got to.
 * Objects are made and destroyed, nothing is sent. */
enum smt_probe_result { SMT_PROBE_GOOD, SMT_PROBE_BAD, SMT_PROBE_REMARK };
struct smt_device_probe {
    unsigned number;              /* 1 ... 16 */
    enum smt_probe_result result;
    char what[40];
    char text[256];               /* what was found, and what helps */
};
SMT_API int smt_device_probe(const char *device, struct smt_device_probe *out, unsigned n);

/* Memory facts of the process for smt_info: bytes of key memory that could not be locked. */
SMT_API uint64_t smt_secret_unlocked_bytes(void);

/* "0.1.0" */
SMT_API const char *smt_version(void);

#ifdef __cplusplus
}
#endif
#endif
