/* The peer most people use today: TLS 1.3 over TCP with TCP_NODELAY, TLS_AES_128_GCM_SHA256.
 *
 * lat: one connection, ping-pong, both sides spin on their non-blocking socket.
 * rps: -t connections with one RPC in flight each, both sides spin on epoll_wait(0).
 *
 * It is given what helps it: read-ahead (header and body of a record in one recv), no tickets, no
 * copies besides OpenSSL's own, edge-triggered epoll, one clock read per completed RPC, and cubic
 * where the machine would pace it by BBR.
 * Certificates are not checked: no handshake is timed and the records are the same. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

enum { MAX_SIZE = 1 << 20, MAX_EVENTS = 256 };

struct conn {
    SSL *ssl;
    size_t got; /* bytes of the current message read */
    size_t put; /* bytes of the current message written */
    bool writing;
    uint64_t since;
};

static int listener;
static struct sockaddr_in address;
static uint8_t message[MAX_SIZE], inbox[MAX_SIZE];

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

static SSL_CTX *new_ctx(bool server)
{
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

/* Handshakes while the socket blocks, then makes it spin. */
static void conn_init(struct conn *c, SSL_CTX *ctx, int fd, bool server)
{
    int one = 1;
    *c = (struct conn){.ssl = SSL_new(ctx)};
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
        peer_die("TCP_NODELAY");
    }
    /* Not there or not allowed: the machine's own choice stays. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    errno = 0;
    if (c->ssl == NULL || SSL_set_fd(c->ssl, fd) != 1 ||
        (server ? SSL_accept(c->ssl) : SSL_connect(c->ssl)) != 1) {
        peer_die("handshake");
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        peer_die("O_NONBLOCK");
    }
}

static bool would_block(struct conn *c, int r)
{
    int e = SSL_get_error(c->ssl, r);
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

/* Writes on; false when the socket is full. -1 in *lost when the peer has gone. */
static bool write_on(struct conn *c, size_t size, bool *lost)
{
    while (c->put < size) {
        int r = SSL_write(c->ssl, message + c->put, (int)(size - c->put));
        if (r <= 0) {
            *lost = !would_block(c, r);
            return false;
        }
        c->put += (size_t)r;
    }
    c->put = 0;
    c->writing = false;
    return true;
}

/* Reads on; true when a message is whole. */
static bool read_on(struct conn *c, size_t size, bool *lost)
{
    while (c->got < size) {
        int r = SSL_read(c->ssl, inbox + c->got, (int)(size - c->got));
        if (r <= 0) {
            *lost = !would_block(c, r);
            return false;
        }
        c->got += (size_t)r;
    }
    c->got = 0;
    return true;
}

/* One turn of a connection: finish what is being written, then take one message. */
static bool turn(struct conn *c, size_t size, bool *lost)
{
    *lost = false;
    if (c->writing && !write_on(c, size, lost)) {
        return false;
    }
    return read_on(c, size, lost);
}

static void begin_write(struct conn *c, size_t size)
{
    bool lost = false;
    c->writing = true;
    if (!write_on(c, size, &lost) && lost) {
        peer_die("connection lost");
    }
}

static void epoll_add(int ep, struct conn *c)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, SSL_get_fd(c->ssl), &e) != 0) {
        peer_die("epoll_ctl");
    }
}

static void serve(const struct peer_args *args)
{
    SSL_CTX *ctx = new_ctx(true);
    struct conn *conns = calloc(args->depth, sizeof(*conns));
    int ep = epoll_create1(0);
    if (conns == NULL || ep < 0) {
        peer_die("server");
    }
    for (unsigned i = 0; i < args->depth; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            peer_die("accept");
        }
        conn_init(&conns[i], ctx, fd, true);
        epoll_add(ep, &conns[i]);
    }
    bool lost = false;
    while (!args->rps && !lost) {
        if (turn(conns, args->size, &lost)) {
            begin_write(conns, args->size);
        }
    }
    struct epoll_event events[MAX_EVENTS];
    while (!lost) {
        int n = epoll_wait(ep, events, MAX_EVENTS, 0);
        for (int i = 0; i < n && !lost; i++) {
            struct conn *c = events[i].data.ptr;
            if (turn(c, args->size, &lost)) {
                begin_write(c, args->size);
            }
        }
    }
}

struct client {
    const struct peer_args *args;
    struct conn *conns;
    struct peer_lat lat;
    uint64_t begin, end; /* of the measured time; 0 = still warming up */
};

/* Takes one finished RPC of `c` and sends the next. */
static void next_rpc(struct client *cl, struct conn *c)
{
    uint64_t now = peer_now();
    if (cl->begin <= c->since) {
        peer_lat_add(&cl->lat, now - c->since);
    }
    cl->end = now;
    c->since = now;
    begin_write(c, cl->args->size);
}

static void call(struct client *cl)
{
    const struct peer_args *args = cl->args;
    int ep = epoll_create1(0);
    if (ep < 0) {
        peer_die("epoll_create1");
    }
    for (unsigned i = 0; i < args->depth; i++) {
        epoll_add(ep, &cl->conns[i]);
        cl->conns[i].since = peer_now();
        begin_write(&cl->conns[i], args->size);
    }
    cl->begin = peer_now() + (uint64_t)(args->warm_s * 1e9);
    uint64_t stop = cl->begin + (uint64_t)(args->seconds * 1e9);
    bool lost = false;
    struct epoll_event events[MAX_EVENTS];
    while (cl->end < stop && !lost) {
        if (!args->rps) {
            if (turn(cl->conns, args->size, &lost)) {
                next_rpc(cl, cl->conns);
            }
            continue;
        }
        int n = epoll_wait(ep, events, MAX_EVENTS, 0);
        for (int i = 0; i < n && !lost; i++) {
            struct conn *c = events[i].data.ptr;
            if (turn(c, args->size, &lost)) {
                next_rpc(cl, c);
            }
        }
    }
    if (lost) {
        errno = ECONNRESET;
        peer_die("server");
    }
    close(ep);
}

int main(int argc, char **argv)
{
    struct peer_args args;
    peer_parse(argc, argv, 64, MAX_SIZE, &args);
    memset(message, 7, sizeof(message));
    socklen_t len = sizeof(address);
    address = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) != 0 ||
        listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
        peer_die("listen");
    }
    peer_spawn(&args, serve);

    struct client cl = {.args = &args, .conns = calloc(args.depth, sizeof(*cl.conns))};
    if (cl.conns == NULL) {
        peer_die("memory");
    }
    SSL_CTX *ctx = new_ctx(false);
    for (unsigned i = 0; i < args.depth; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, len) != 0) {
            peer_die("connect");
        }
        conn_init(&cl.conns[i], ctx, fd, false);
    }
    peer_lat_init(&cl.lat);
    call(&cl);
    peer_report("tls", SSL_get_cipher(cl.conns[0].ssl), &args, &cl.lat, cl.end - cl.begin);
    for (unsigned i = 0; i < args.depth; i++) {
        close(SSL_get_fd(cl.conns[i].ssl));
        SSL_free(cl.conns[i].ssl);
    }
    free(cl.conns);
    SSL_CTX_free(ctx);
    return 0;
}
