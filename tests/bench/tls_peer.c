/* The peer most people use today: TLS 1.3 over TCP with TCP_NODELAY, TLS_AES_128_GCM_SHA256; with
 * -P TCP alone.
 *
 * lat:    one connection, ping-pong.
 * rps:    -t connections with one RPC in flight each, by epoll.
 * stream: one connection with -t RPCs in flight, answers in order and joined into one write: the
 *         artificial best of a stream, without ids or independence.
 * bulk:   the same with answers of 16 bytes.
 * Both sides spin on non-blocking sockets; with -e they sleep in recv (lat) or epoll_wait (rps).
 *
 * It is given what helps it: read-ahead (header and body of a record in one recv), no tickets, no
 * copies besides OpenSSL's own, edge-triggered epoll, one clock read a batch of completions, and
 * cubic where the machine would pace it by BBR.
 * Certificates are not checked: no handshake is timed and the records are the same. */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

enum {
    MAX_SIZE = 1 << 20,
    MAX_EVENTS = 256,
    CHUNK = 256 << 10,     /* most bytes of one read or write */
    TURN_BYTES = 64 << 10, /* so much read, whole messages are answered */
};

struct conn {
    int fd;
    SSL *ssl;           /* NULL: plain TCP */
    size_t got;         /* bytes of the current message read */
    uint64_t owed;      /* bytes to write */
    uint64_t *since;    /* client: when each RPC in flight began, a ring of `window` */
    unsigned window, oldest;
    bool lost;
};

static int listener;
static struct sockaddr_in address;
static uint8_t message[CHUNK], inbox[CHUNK];

static void give_certificate(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    if (key == NULL || cert == NULL) {
        peer_die("key");
    }
    X509_NAME *name = X509_get_subject_name(cert);
    if (ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(cert), -60) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(cert), 86400) == NULL ||
        X509_set_pubkey(cert, key) != 1 ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost",
                                   -1, -1, 0) != 1 ||
        X509_set_issuer_name(cert, name) != 1 || X509_sign(cert, key, EVP_sha256()) == 0 ||
        SSL_CTX_use_certificate(ctx, cert) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1) {
        peer_die("certificate");
    }
    X509_free(cert);
    EVP_PKEY_free(key);
}

static SSL_CTX *new_ctx(const struct peer_args *args, bool server)
{
    if (args->plain) {
        return NULL;
    }
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1) {
        peer_die("TLS context");
    }
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, 64 << 10);
    if (server) {
        give_certificate(ctx);
    }
    return ctx;
}

/* Handshakes while the socket blocks, then makes it spin unless it shall sleep in recv. */
static void conn_init(struct conn *c, SSL_CTX *ctx, int fd, bool server,
                      const struct peer_args *args)
{
    int one = 1;
    unsigned window = args->stream ? args->depth : 1;
    *c = (struct conn){.fd = fd, .window = window, .since = calloc(window, sizeof(*c->since))};
    if (c->since == NULL || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        peer_die("TCP_NODELAY");
    }
    /* Not there or not allowed: the machine's own choice stays. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    errno = 0;
    if (ctx != NULL) {
        c->ssl = SSL_new(ctx);
        if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1 ||
            (server ? SSL_accept(c->ssl) : SSL_connect(c->ssl)) != 1) {
            peer_die("handshake");
        }
    }
    if ((!args->sleeps || args->rps) && fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        peer_die("O_NONBLOCK");
    }
}

/* Bytes moved; 0: not now, or the connection is lost. */
static size_t conn_io(struct conn *c, bool writes, size_t len)
{
    errno = 0;
    if (c->ssl == NULL) {
        ssize_t r = writes ? send(c->fd, message, len, MSG_NOSIGNAL) : recv(c->fd, inbox, len, 0);
        c->lost = r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR);
        return r > 0 ? (size_t)r : 0;
    }
    int r = writes ? SSL_write(c->ssl, message, (int)len) : SSL_read(c->ssl, inbox, (int)len);
    if (r > 0) {
        return (size_t)r;
    }
    int e = SSL_get_error(c->ssl, r);
    c->lost = e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE;
    return 0;
}

static void conn_write(struct conn *c)
{
    while (c->owed > 0) {
        size_t n = conn_io(c, true, c->owed < CHUNK ? (size_t)c->owed : CHUNK);
        if (n == 0) {
            return;
        }
        c->owed -= n;
    }
}

/* Reads messages of `size` bytes as far as they are there; how many are whole. */
static unsigned conn_read(struct conn *c, size_t size)
{
    size_t total = 0, limit = c->window * size - c->got;
    unsigned whole = 0;
    while (total < limit && (whole == 0 || total < TURN_BYTES)) {
        size_t n = conn_io(c, false, limit - total < CHUNK ? limit - total : CHUNK);
        if (n == 0) {
            break;
        }
        total += n;
        c->got += n;
        whole += (unsigned)(c->got / size);
        c->got %= size;
    }
    return whole;
}

static void epoll_add(int ep, struct conn *c)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) != 0) {
        peer_die("epoll_ctl");
    }
}

static unsigned n_conns(const struct peer_args *args)
{
    return args->stream ? 1 : args->depth;
}

/* One turn of a connection: writes what is owed, takes what came; how many messages are whole. */
static unsigned turn(struct conn *c, size_t in_size)
{
    conn_write(c);
    return conn_read(c, in_size);
}

/* Runs `take` on each connection that may have something, until it says that all is over. */
static void run(const struct peer_args *args, struct conn *conns,
                bool (*take)(void *, struct conn *), void *arg)
{
    bool goes_on = true;
    if (n_conns(args) == 1 && !(args->rps && args->sleeps)) {
        while (goes_on) {
            goes_on = take(arg, conns);
        }
        return;
    }
    int ep = epoll_create1(0);
    if (ep < 0) {
        peer_die("epoll_create1");
    }
    for (unsigned i = 0; i < n_conns(args); i++) {
        epoll_add(ep, &conns[i]);
    }
    struct epoll_event events[MAX_EVENTS];
    while (goes_on) {
        int n = epoll_wait(ep, events, MAX_EVENTS, args->sleeps ? -1 : 0);
        for (int i = 0; i < n && goes_on; i++) {
            goes_on = take(arg, events[i].data.ptr);
        }
    }
    close(ep);
}

static bool take_requests(void *arg, struct conn *c)
{
    const struct peer_args *args = arg;
    c->owed += (uint64_t)turn(c, args->size) * args->resp_size;
    conn_write(c);
    return !c->lost;
}

static void serve(const struct peer_args *args)
{
    SSL_CTX *ctx = new_ctx(args, true);
    struct conn *conns = calloc(n_conns(args), sizeof(*conns));
    if (conns == NULL) {
        peer_die("server");
    }
    for (unsigned i = 0; i < n_conns(args); i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            peer_die("accept");
        }
        conn_init(&conns[i], ctx, fd, true, args);
    }
    struct peer_args copy = *args;
    run(args, conns, take_requests, &copy);
}

struct client {
    const struct peer_args *args;
    struct peer_lat lat;
    uint64_t begin, end, stop; /* of the measured time */
};

/* Takes the RPCs that have ended and begins as many. */
static bool take_answers(void *arg, struct conn *c)
{
    struct client *cl = arg;
    unsigned n = turn(c, cl->args->resp_size);
    if (c->lost) {
        errno = ECONNRESET;
        peer_die("server");
    }
    if (n == 0) {
        return true;
    }
    uint64_t now = peer_now();
    cl->end = now;
    for (unsigned i = 0; i < n; i++) {
        uint64_t *since = &c->since[c->oldest];
        if (cl->begin <= *since) {
            peer_lat_add(&cl->lat, now - *since);
        }
        *since = now;
        c->oldest = (c->oldest + 1) % c->window;
    }
    c->owed += (uint64_t)n * cl->args->size;
    conn_write(c);
    /* However short the time, one RPC is measured. */
    return now < cl->stop || cl->lat.n_rpcs == 0;
}

static void call(struct client *cl, struct conn *conns)
{
    const struct peer_args *args = cl->args;
    uint64_t now = peer_now();
    cl->begin = now + (uint64_t)(args->warm_s * 1e9);
    cl->stop = cl->begin + (uint64_t)(args->seconds * 1e9);
    for (unsigned i = 0; i < n_conns(args); i++) {
        struct conn *c = &conns[i];
        for (unsigned k = 0; k < c->window; k++) {
            c->since[k] = now;
        }
        c->owed = (uint64_t)c->window * args->size;
        conn_write(c);
    }
    run(args, conns, take_answers, cl);
}

static void listen_there(const struct peer_args *args)
{
    socklen_t len = sizeof(address);
    address.sin_family = AF_INET;
    peer_enter(args, true);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || inet_pton(AF_INET, args->address, &address.sin_addr) != 1 ||
        bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
        peer_die("listen");
    }
    peer_enter(args, false);
}

int main(int argc, char **argv)
{
    struct peer_args args;
    peer_parse(argc, argv, 64, MAX_SIZE, &args);
    if (args.sleeps && args.stream) {
        errno = 0;
        peer_die("-e is for lat and rps");
    }
    memset(message, 7, sizeof(message));
    listen_there(&args);
    peer_spawn(&args, serve);

    SSL_CTX *ctx = new_ctx(&args, false);
    struct client cl = {.args = &args};
    struct conn *conns = calloc(n_conns(&args), sizeof(*conns));
    if (conns == NULL) {
        peer_die("memory");
    }
    for (unsigned i = 0; i < n_conns(&args); i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
            peer_die("connect");
        }
        conn_init(&conns[i], ctx, fd, false, &args);
    }
    peer_lat_init(&cl.lat);
    call(&cl, conns);
    peer_report(args.plain ? "tcp" : "tls", args.plain ? "none" : SSL_get_cipher(conns[0].ssl),
                &args, &cl.lat, cl.end - cl.begin);
    for (unsigned i = 0; i < n_conns(&args); i++) {
        close(conns[i].fd);
        SSL_free(conns[i].ssl);
        free(conns[i].since);
    }
    free(conns);
    SSL_CTX_free(ctx);
    return 0;
}
