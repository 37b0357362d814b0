/* Strangers and eavesdroppers throw datagrams at both ports while calls run: noise, packets of this
 * very run again, cut short, lengthened or damaged, from another port and, as root, under the
 * peer's own address. Nothing happens but counters. */
#include "load.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"
#include "base/bytes.h"
#include "base/prng.h"
#include "core/state.h"

enum {
    N_THROWN = 100000,
    N_MORE = 3000, /* times 32 */
    N_KEPT = 4096, /* packets of the run at hand for another use */
    FRAME_MAX = 2048,
    ETHER_LEN = 14,
    IPV4_LEN = 20,
    UDP_LEN = 8,
    HEADERS_LEN = ETHER_LEN + IPV4_LEN + UDP_LEN,
};

static struct net_pair pair;

struct packet {
    uint16_t sport, dport, len;
    uint8_t data[FRAME_MAX];
};

struct thrower {
    struct smt_prng rng;
    FILE *capture; /* what the client's tap wrote so far */
    bool has_begun;
    struct packet *kept; /* a ring */
    uint64_t n_read;
    int fd;            /* an ordinary socket, a stranger's */
    int raw_fd;        /* forges source addresses; -1 without privilege */
    uint16_t ports[2]; /* client, server */
    uint64_t n_noise, n_replayed, n_cut, n_flipped, n_forged;
    uint32_t n_left; /* datagrams still to throw */
    bool gentle;     /* leaves bytes as they are: nothing protects those of a handshake */
};

static bool capture_begins(struct thrower *t)
{
    uint8_t head[24];
    t->has_begun = fread(head, 1, sizeof(head), t->capture) == sizeof(head);
    if (!t->has_begun)
        rewind(t->capture);
    return t->has_begun;
}

/* Takes the packets that were added to the capture. Records are written whole. */
static void capture_follow(struct thrower *t)
{
    uint8_t head[16], frame[HEADERS_LEN + FRAME_MAX];
    clearerr(t->capture);
    while (t->has_begun || capture_begins(t)) {
        long at = ftell(t->capture);
        uint32_t len;
        if (fread(head, 1, sizeof(head), t->capture) != sizeof(head)) {
            fseek(t->capture, at, SEEK_SET);
            return;
        }
        memcpy(&len, head + 8, 4);
        assert_in_range(len, HEADERS_LEN, sizeof(frame));
        if (fread(frame, 1, len, t->capture) != len) {
            fseek(t->capture, at, SEEK_SET);
            return;
        }
        struct packet *p = &t->kept[t->n_read++ % N_KEPT];
        p->sport = smt_get_be16(frame + ETHER_LEN + IPV4_LEN);
        p->dport = smt_get_be16(frame + ETHER_LEN + IPV4_LEN + 2);
        p->len = (uint16_t)(len - HEADERS_LEN);
        memcpy(p->data, frame + HEADERS_LEN, p->len);
    }
}

/* Of the end with this port. */
static struct sockaddr_in address_of(const struct thrower *t, uint16_t port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, net_host(port == t->ports[1]), &sa.sin_addr), 1);
    return sa;
}

/* IPv4 and UDP headers of our own; the kernel fills in the IP checksum and id. */
static void send_forged(struct thrower *t, uint16_t sport, uint16_t dport, const uint8_t *p,
                        size_t len)
{
    uint8_t frame[IPV4_LEN + UDP_LEN + FRAME_MAX + 64] = {0x45};
    smt_put_be16(frame + 2, (uint16_t)(IPV4_LEN + UDP_LEN + len));
    frame[8] = 64;
    frame[9] = IPPROTO_UDP;
    struct sockaddr_in from = address_of(t, sport), to = address_of(t, dport);
    memcpy(frame + 12, &from.sin_addr, sizeof(from.sin_addr));
    memcpy(frame + 16, &to.sin_addr, sizeof(to.sin_addr));
    smt_put_be16(frame + 20, sport);
    smt_put_be16(frame + 22, dport);
    smt_put_be16(frame + 24, (uint16_t)(UDP_LEN + len));
    memcpy(frame + IPV4_LEN + UDP_LEN, p, len);
    to.sin_port = 0;
    t->n_forged += sendto(t->raw_fd, frame, IPV4_LEN + UDP_LEN + len, MSG_DONTWAIT,
                          (struct sockaddr *)&to, sizeof(to)) > 0;
}

static void throw_at(struct thrower *t, uint16_t sport, uint16_t dport, const uint8_t *p,
                     size_t len)
{
    if (t->raw_fd >= 0 && smt_prng_below(&t->rng, 2) == 0) {
        send_forged(t, sport, dport, p, len);
        return;
    }
    struct sockaddr_in to = address_of(t, dport);
    (void)sendto(t->fd, p, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to));
}

/* Bytes of chance; half of the time behind a plausible begin. */
static void throw_noise(struct thrower *t)
{
    static const uint8_t kinds[] = {0x10, 0x11, 0x20, 0x30, 0x31, 0x32, 0x33};
    unsigned to = (unsigned)smt_prng_below(&t->rng, 2);
    uint8_t p[1500];
    size_t len = smt_prng_below(&t->rng, sizeof(p) + 1);
    smt_prng_bytes(&t->rng, p, len);
    if (len >= 28 && smt_prng_below(&t->rng, 2) == 0) {
        smt_put_be16(p, t->ports[1 - to]);
        smt_put_be16(p + 2, t->ports[to]);
        p[13] = kinds[smt_prng_below(&t->rng, sizeof(kinds))];
        p[12] = p[13] == 0x10 || p[13] == 0x11 || p[13] == 0x30 ? 0xb0 : 0x70;
        p[14] = 2;
    }
    t->n_noise++;
    throw_at(t, t->ports[1 - to], t->ports[to], p, len);
}

/* A packet of this run, as it was, cut, lengthened, or with bits changed. */
static void throw_known(struct thrower *t)
{
    uint64_t n = t->n_read < N_KEPT ? t->n_read : N_KEPT;
    if (n == 0)
        return;
    struct packet p = t->kept[smt_prng_below(&t->rng, n)];
    switch (t->gentle ? 3 * smt_prng_below(&t->rng, 2) : smt_prng_below(&t->rng, 4)) {
    case 0:
        p.len = (uint16_t)smt_prng_below(&t->rng, p.len);
        t->n_cut++;
        break;
    case 1:
    case 2:
        for (uint64_t i = 1 + smt_prng_below(&t->rng, 3); i > 0; i--) {
            /* Headers are a small part of a packet and the most interesting one. */
            uint64_t range = smt_prng_below(&t->rng, 2) == 0 && p.len > 60 ? 60 : p.len;
            p.data[smt_prng_below(&t->rng, range)] ^= 1u << smt_prng_below(&t->rng, 8);
        }
        t->n_flipped++;
        break;
    default:
        t->n_replayed++;
        break;
    }
    /* Some go to the wrong end. */
    bool back = smt_prng_below(&t->rng, 8) == 0;
    throw_at(t, back ? p.dport : p.sport, back ? p.sport : p.dport, p.data, p.len);
}

static void throw_some(void *arg)
{
    struct thrower *t = arg;
    capture_follow(t);
    for (unsigned i = 0; i < 32 && t->n_left > 0; i++) {
        t->n_left--;
        if (smt_prng_below(&t->rng, 4) == 0)
            throw_noise(t);
        else
            throw_known(t);
    }
}

static void thrower_init(struct thrower *t, const char *capture, uint64_t seed)
{
    *t = (struct thrower){.ports = {smt_ep_port(pair.client.ep), smt_ep_port(pair.server.ep)}};
    smt_prng_seed(&t->rng, seed);
    t->capture = fopen(capture, "rb");
    t->kept = malloc(N_KEPT * sizeof(t->kept[0]));
    assert_non_null(t->capture);
    t->fd = socket(AF_INET, SOCK_DGRAM, 0);
    assert_true(t->fd >= 0);
    t->raw_fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    t->n_left = load_scale(N_THROWN);
}

static void thrower_close(struct thrower *t)
{
    fclose(t->capture);
    free(t->kept);
    close(t->fd);
    if (t->raw_fd >= 0)
        close(t->raw_fd);
}

static void thrower_fini(struct thrower *t)
{
    printf("# %" PRIu64 " of noise, %" PRIu64 " replayed, %" PRIu64 " cut, %" PRIu64
           " with bits changed; %" PRIu64 " of them under the peer's address\n",
           t->n_noise, t->n_replayed, t->n_cut, t->n_flipped, t->n_forged);
    assert_true(t->n_replayed > 100 && t->n_cut > 100 && (t->n_flipped > 100 || t->gentle));
    thrower_close(t);
}

static const char *const names[] = {"drop_malformed", "drop_no_session", "drop_auth",
                                    "drop_replay"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static bool drops_seen(struct smt_ep *ep)
{
    for (unsigned i = 0; i < N_NAMES; i++) {
        if (net_counter(ep, names[i]) == 0)
            return false;
    }
    return true;
}

static void drops_expect(struct smt_ep *ep)
{
    for (unsigned i = 0; i < N_NAMES; i++) {
        printf("# %s %" PRIu64 "\n", names[i], net_counter(ep, names[i]));
        assert_in_range(net_counter(ep, names[i]), 1, UINT64_MAX);
    }
    assert_int_equal(net_counter(ep, "rpcs_failed"), 0);
    assert_int_equal(net_counter(ep, "conns_lost"), 0);
    assert_int_equal(net_counter(ep, "sessions"), 1);
    assert_int_equal(net_counter(ep, "sessions_replaced"), 0);
}

static void pair_open(const char *capture, const char *faults, uint64_t handshake_timeout)
{
    char tap[256];
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.mtu = 1472;
    config.peer_timeout_ns = 20000000000;
    config.handshake_timeout_ns = handshake_timeout;
    net_end_open(&pair.server, NET_CERT, true, &config);
    snprintf(tap, sizeof(tap), "%spcap=%s", faults, capture);
    setenv("SMT_TEST_TAP", tap, 1);
    net_end_open(&pair.client, NET_CERT, false, &config);
    unsetenv("SMT_TEST_TAP");
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    pair.peer = net_expect(&pair, &pair.server, SMT_EV_SESSION_UP).session;
}

static void hostile_run(const char *faults, uint32_t n_calls)
{
    uint64_t seed = load_seed(1);
    char capture[200];
    snprintf(capture, sizeof(capture), "%s", net_file("hostile.pcap"));
    pair_open(capture, faults, 20000000000);
    struct smt_session_info before = {.size = sizeof(before)}, after = {.size = sizeof(after)};
    assert_int_equal(smt_session_get_info(pair.peer, &before), 0);
    struct load_config config = {
        .seed = seed,
        .n_calls = load_scale(n_calls),
        .depth = 16,
        .max_len = 256 << 10,
        .max_resp = 64 << 10,
        .one_way = 20,
    };
    struct load l;
    struct thrower t;
    thrower_init(&t, capture, seed);
    load_init(&l, &config, &pair, &pair.session, 1, &pair.peer);
    load_run(&l, 250, throw_some, &t);
    assert_true(t.n_left < load_scale(N_THROWN) / 2); /* most of it came while calls ran */
    /* What the run was too short for. */
    while (t.n_left > 0) {
        throw_some(&t);
        (void)load_step(&l);
    }
    /* And what the kernel has lost of it, where endpoints get little time beside others. */
    for (unsigned i = 0; i < N_MORE && !(drops_seen(pair.client.ep) && drops_seen(pair.server.ep));
         i++) {
        t.n_left = 32;
        throw_some(&t);
        (void)load_step(&l);
    }
    load_rest(&pair);
    thrower_fini(&t);
    drops_expect(pair.client.ep);
    drops_expect(pair.server.ep);
    /* The session still runs to where it ran before. */
    assert_int_equal(smt_session_get_info(pair.peer, &after), 0);
    assert_string_equal(after.peer, before.peer);
    load_fini(&l);
    net_pair_close(&pair);
    unlink(capture);
}

static void test_hostile(void **state)
{
    hostile_run("", 6000);
}

/* Packets that the client sent and the network lost are in the capture as well: an eavesdropper
 * brings genuine packets that nobody has seen, late and from elsewhere. */
static void test_first_by_the_eavesdropper(void **state)
{
    hostile_run("dir=rx,drop=0.1,", 2000);
}

/* "I do not know you" in the peer's name, with the session's id from the wire, to either end. */
static void throw_no_session(void *arg)
{
    struct thrower *t = arg;
    capture_follow(t);
    for (uint64_t i = 0; i < t->n_read && i < 64; i++) {
        const struct packet *p = &t->kept[(t->n_read - 1 - i) % N_KEPT];
        if (p->len < 45 || p->data[13] != 0x10)
            continue;
        uint8_t hint[28] = {[12] = 0x70, [13] = 0x32, [14] = 2};
        smt_put_be16(hint, p->dport);
        smt_put_be16(hint + 2, p->sport);
        memcpy(hint + 20, p->data + 20, 8);
        send_forged(t, p->dport, p->sport, hint, sizeof(hint));
        return;
    }
}

/* The peer is asked before the hint is believed, and he answers: the session stays. */
static void test_forged_hints(void **state)
{
    uint64_t seed = load_seed(1);
    char capture[200];
    snprintf(capture, sizeof(capture), "%s", net_file("hints.pcap"));
    pair_open(capture, "", 20000000000);
    struct load_config config = {
        .seed = seed,
        .n_calls = load_scale(4000),
        .depth = 16,
        .max_len = 64 << 10,
        .max_resp = 64 << 10,
        .one_way = 20,
    };
    struct load l;
    struct thrower t;
    thrower_init(&t, capture, seed);
    bool is_root = t.raw_fd >= 0;
    if (is_root) {
        load_init(&l, &config, &pair, &pair.session, 1, &pair.peer);
        load_run(&l, 250, throw_no_session, &t);
        load_rest(&pair);
        printf("# %" PRIu64 " forged, %" PRIu64 " came to the client\n", t.n_forged,
               net_counter(pair.client.ep, "no_session_rcvd"));
        assert_in_range(net_counter(pair.client.ep, "no_session_rcvd"), 1, UINT64_MAX);
        assert_int_equal(net_counter(pair.client.ep, "conns_opened"), 1);
        assert_int_equal(net_counter(pair.client.ep, "sessions_replaced"), 0);
        load_fini(&l);
    }
    thrower_close(&t);
    net_pair_close(&pair);
    unlink(capture);
    if (!is_root)
        skip();
}

/* Forgets what came, but gives requests back: their replies end in any way. */
static void queues_clear(void)
{
    struct smt_event ev;
    (void)net_echo(&pair.server);
    while (net_take(&pair.server, SMT_EV_FAILED, &ev))
        smt_release(ev.user);
    pair.client.n = pair.server.n = 0;
}

/* Sessions come up under fire, and handshakes made of old packets leave nothing behind. */
static void test_handshakes(void **state)
{
    enum { N_SESSIONS = 40 };
    uint64_t seed = load_seed(1);
    char capture[200];
    snprintf(capture, sizeof(capture), "%s", net_file("handshakes.pcap"));
    pair_open(capture, "", 5000000000);
    struct thrower t;
    thrower_init(&t, capture, seed);
    t.gentle = true;
    for (unsigned i = 0; i < N_SESSIONS; i++) {
        struct smt_session *s;
        assert_int_equal(
            smt_connect(pair.client.ep, net_address(&pair.server), NULL, SMT_NEW_SESSION, &s), 0);
        assert_int_equal(net_call(s, "x", 1, 0, NULL, NULL), 0);
        struct smt_event ev;
        uint64_t until = net_now() + 30000000000ull * net_slow();
        while (!net_take(&pair.client, SMT_EV_RESPONSE, &ev)) {
            t.n_left = 2;
            throw_some(&t);
            net_pump(&pair);
            net_echo(&pair.server);
            if (net_count(&pair.client, SMT_EV_FAILED) > 0 || net_now() > until)
                fail_msg("session %u does not come up", i);
        }
        smt_release(ev.msg);
        assert_int_equal(smt_session_close(s), 0);
        queues_clear();
    }
    printf("# %" PRIu64 " of %" PRIu64 " handshakes came to an end at the server\n",
           net_counter(pair.server.ep, "handshakes_ok"),
           net_counter(pair.server.ep, "conns_accepted"));
    assert_int_equal(net_counter(pair.client.ep, "handshakes_ok"), N_SESSIONS + 1);
    uint64_t until = net_now() + 40000000000ull * net_slow();
    while (smt_pool_n_live(&pair.server.ep->engine->conns) > 1) {
        net_pump(&pair);
        queues_clear();
        assert_true(net_now() < until);
    }
    load_rest(&pair);
    thrower_fini(&t);
    net_pair_close(&pair);
    unlink(capture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_first_by_the_eavesdropper),
        cmocka_unit_test(test_forged_hints),
        cmocka_unit_test(test_handshakes),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
