/* The limit of UDP sockets with AES-GCM: what is left when a transport does nothing.
 *
 * Messages of one segment with an id, every one sealed and opened by AES-128-GCM (intel-ipsec-mb
 * where the build has it, OpenSSL's EVP elsewhere), a closed loop of -t in flight, both sides spin.
 * UDP_SEGMENT sends a batch of equal segments in one call, UDP_GRO takes it in one; the clock is
 * read once a batch. With -b at half of -t the two sides work at the same time, which is the
 * fastest; with -b at -t (the default, both 64) they take turns. No handshake, no retransmission,
 * no flow control, no ordering, no sessions: a lost datagram ends the run. Not a transport, but no
 * transport over UDP sockets can pass it. */
#include "peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef SMT_HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#else
#include <openssl/evp.h>
#endif

enum {
    HEAD_LEN = 16,
    TAG_LEN = 16,
    AAD_LEN = 13,
    MAX_SIZE = 1400,
    BATCH_LEN = 65536,
};

/* Clear head of each segment. */
struct head {
    uint32_t id;
    uint32_t len;
    uint64_t seq;
};
_Static_assert(sizeof(struct head) == HEAD_LEN, "head");

static const uint8_t fixed_key[16] = {1, 2, 3};

static void fill_nonce(uint64_t seq, uint8_t nonce[12], uint8_t aad[16])
{
    memset(nonce, 0, 12);
    memcpy(nonce + 4, &seq, 8);
    memset(aad, 0, 16);
    memcpy(aad, &seq, 8);
}

#ifdef SMT_HAVE_IPSEC_MB

static const char crypto_name[] = "ipsec-mb";

struct gcm {
    struct gcm_key_data key;
    IMB_MGR *mb;
};

static struct gcm *gcm_new(void)
{
    struct gcm *g = aligned_alloc(64, (sizeof(*g) + 63) / 64 * 64);
    if (g == NULL || (g->mb = alloc_mb_mgr(0)) == NULL) {
        peer_die("ipsec-mb");
    }
    init_mb_mgr_auto(g->mb, NULL);
    IMB_AES128_GCM_PRE(g->mb, fixed_key, &g->key);
    return g;
}

static void gcm_seal(struct gcm *g, uint64_t seq, uint8_t *p, size_t len, uint8_t *tag)
{
    struct gcm_context_data run;
    uint8_t nonce[12], aad[16];
    fill_nonce(seq, nonce, aad);
    IMB_AES128_GCM_ENC(g->mb, &g->key, &run, p, p, len, nonce, aad, AAD_LEN, tag, TAG_LEN);
}

static bool gcm_open(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                     const uint8_t *tag)
{
    struct gcm_context_data run;
    uint8_t nonce[12], aad[16], mine[TAG_LEN];
    fill_nonce(seq, nonce, aad);
    IMB_AES128_GCM_DEC(g->mb, &g->key, &run, out, in, len, nonce, aad, AAD_LEN, mine, TAG_LEN);
    return memcmp(mine, tag, TAG_LEN) == 0;
}

#else

static const char crypto_name[] = "openssl";

struct gcm {
    EVP_CIPHER_CTX *seal, *open;
};

static struct gcm *gcm_new(void)
{
    struct gcm *g = calloc(1, sizeof(*g));
    if (g == NULL || (g->seal = EVP_CIPHER_CTX_new()) == NULL ||
        (g->open = EVP_CIPHER_CTX_new()) == NULL ||
        EVP_EncryptInit_ex(g->seal, EVP_aes_128_gcm(), NULL, fixed_key, NULL) != 1 ||
        EVP_DecryptInit_ex(g->open, EVP_aes_128_gcm(), NULL, fixed_key, NULL) != 1) {
        peer_die("EVP");
    }
    return g;
}

static void gcm_seal(struct gcm *g, uint64_t seq, uint8_t *p, size_t len, uint8_t *tag)
{
    uint8_t nonce[12], aad[16];
    int n;
    fill_nonce(seq, nonce, aad);
    if (EVP_EncryptInit_ex(g->seal, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(g->seal, NULL, &n, aad, AAD_LEN) != 1 ||
        EVP_EncryptUpdate(g->seal, p, &n, p, (int)len) != 1 ||
        EVP_EncryptFinal_ex(g->seal, p + len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(g->seal, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) != 1) {
        peer_die("seal");
    }
}

static bool gcm_open(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                     const uint8_t *tag)
{
    uint8_t nonce[12], aad[16];
    int n;
    fill_nonce(seq, nonce, aad);
    return EVP_DecryptInit_ex(g->open, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(g->open, NULL, &n, aad, AAD_LEN) == 1 &&
           EVP_DecryptUpdate(g->open, out, &n, in, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(g->open, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, (void *)tag) == 1 &&
           EVP_DecryptFinal_ex(g->open, out + len, &n) == 1;
}

#endif

/* One side's socket with the batch being built and the batch being read. */
struct side {
    int fd;
    struct gcm *gcm;
    uint64_t seq;
    size_t size;        /* of a message */
    size_t segment;     /* of a datagram: head, message, tag */
    unsigned n_out, max_out;
    uint8_t out[BATCH_LEN], in[BATCH_LEN], plain[MAX_SIZE], body[MAX_SIZE];
};

static int server_fd, client_fd;

static int open_socket(void)
{
    int one = 1, room = 8 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in any = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) != 0 ||
        setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) != 0) {
        peer_die("UDP socket");
    }
    /* Forced with privilege, as far as allowed without: the closed loop fits either. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) != 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) != 0) {
        peer_die("SO_RCVBUF");
    }
    return fd;
}

static void connect_to(int fd, int other)
{
    struct sockaddr_in addr;
    socklen_t len = sizeof(addr);
    if (getsockname(other, (struct sockaddr *)&addr, &len) != 0 ||
        connect(fd, (struct sockaddr *)&addr, len) != 0) {
        peer_die("connect");
    }
}

static struct side *side_new(int fd, const struct peer_args *args, uint64_t first_seq)
{
    struct side *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        peer_die("memory");
    }
    s->fd = fd;
    s->gcm = gcm_new();
    s->seq = first_seq;
    s->size = args->size;
    s->segment = HEAD_LEN + args->size + TAG_LEN;
    s->max_out = (unsigned)((BATCH_LEN - 1024) / s->segment);
    if (s->max_out > args->batch) {
        s->max_out = args->batch;
    }
    memset(s->plain, 7, sizeof(s->plain));
    return s;
}

static void side_flush(struct side *s)
{
    if (s->n_out == 0) {
        return;
    }
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov = {s->out, s->n_out * s->segment};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (s->n_out > 1) {
        uint16_t segment = (uint16_t)s->segment;
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_level = IPPROTO_UDP,
            .cmsg_type = UDP_SEGMENT,
            .cmsg_len = CMSG_LEN(sizeof(segment)),
        };
        memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    }
    while (sendmsg(s->fd, &msg, 0) < 0) {
        if (errno == ECONNREFUSED) {
            exit(0);
        }
        if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
            peer_die("sendmsg");
        }
    }
    s->n_out = 0;
}

/* Lays one sealed message into the batch. */
static void side_put(struct side *s, uint32_t id)
{
    uint8_t *p = s->out + s->n_out * s->segment;
    struct head head = {.id = id, .len = (uint32_t)s->size, .seq = s->seq++};
    memcpy(p, &head, HEAD_LEN);
    memcpy(p + HEAD_LEN, s->plain, s->size);
    gcm_seal(s->gcm, head.seq, p + HEAD_LEN, s->size, p + HEAD_LEN + s->size);
    if (++s->n_out == s->max_out) {
        side_flush(s);
    }
}

/* Receives once. Bytes at s->in, *segment the size of the datagrams in it; 0 when there is none. */
static size_t side_take(struct side *s, size_t *segment)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {s->in, sizeof(s->in)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n = recvmsg(s->fd, &msg, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            peer_die("recvmsg");
        }
        return 0;
    }
    *segment = (size_t)n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            *segment = (size_t)size;
        }
    }
    return (size_t)n;
}

/* Opens one datagram; its id. */
static uint32_t side_open(struct side *s, const uint8_t *p, size_t len)
{
    struct head head;
    if (len != s->segment) {
        peer_die("datagram of a wrong size");
    }
    memcpy(&head, p, HEAD_LEN);
    if (head.len != s->size || !gcm_open(s->gcm, head.seq, p + HEAD_LEN, s->size, s->body,
                                         p + HEAD_LEN + s->size)) {
        errno = 0;
        peer_die("tag");
    }
    return head.id;
}

static void serve(const struct peer_args *args)
{
    struct side *s = side_new(server_fd, args, 1ull << 63);
    for (;;) {
        size_t segment, n = side_take(s, &segment);
        for (size_t at = 0; at < n; at += segment) {
            side_put(s, side_open(s, s->in + at, segment < n - at ? segment : n - at));
        }
        side_flush(s);
    }
}

int main(int argc, char **argv)
{
    struct peer_args args;
    peer_parse(argc, argv, 64, MAX_SIZE, &args);
    server_fd = open_socket();
    client_fd = open_socket();
    connect_to(server_fd, client_fd);
    connect_to(client_fd, server_fd);
    peer_spawn(&args, serve);

    struct side *s = side_new(client_fd, &args, 0);
    uint64_t *since = calloc(args.depth, sizeof(*since));
    struct peer_lat lat;
    peer_lat_init(&lat);
    if (since == NULL) {
        peer_die("memory");
    }
    uint64_t now = peer_now();
    for (uint32_t id = 0; id < args.depth; id++) {
        since[id] = now;
        side_put(s, id);
    }
    side_flush(s);
    uint64_t begin = now + (uint64_t)(args.warm_s * 1e9);
    uint64_t stop = begin + (uint64_t)(args.seconds * 1e9);
    while (now < stop) {
        size_t segment, n = side_take(s, &segment);
        if (n == 0) {
            continue;
        }
        now = peer_now();
        for (size_t at = 0; at < n; at += segment) {
            uint32_t id = side_open(s, s->in + at, segment < n - at ? segment : n - at);
            if (id >= args.depth) {
                peer_die("id");
            }
            if (begin <= since[id]) {
                peer_lat_add(&lat, now - since[id]);
            }
            since[id] = now;
            side_put(s, id);
        }
        side_flush(s);
    }
    peer_report("udp-gcm-limit", crypto_name, &args, &lat, now - begin);
    free(since);
    free(s);
    return 0;
}
