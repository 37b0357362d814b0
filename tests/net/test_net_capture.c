/* What goes over the wire of a whole run, written down by the taps of both ends: nothing of a known
 * payload is in it, while the same run in plaintext is full of it. Every packet is what
 * docs/wire.md says, by the word of the independent decoder, to which we give the session's secret,
 * or nothing but the file that SSLKEYLOGFILE names.
 *
 * usage: test_net_capture DECODE_SMT2.PY */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/prng.h"
#include "core/engine.h"

enum {
    KNOWN_LEN = 1 << 20,
    WINDOW = 16,
    INDEX_BITS = 19, /* four places for each word of the payload */
    N_SIZES = 9,
    N_KINDS = 4, /* requests and one-way messages, both ways */
};

static struct net_pair pair;
static uint8_t known[KNOWN_LEN];
static const char *decoder;
static char secret_text[2 * SMT_SECRET_LEN + 1];

/* The linker puts this in front of the engine's own (--wrap): the decoder needs the secret. */
int __real_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer);
int __wrap_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer);

int __wrap_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer)
{
    for (unsigned i = 0; i < SMT_SECRET_LEN; i++)
        snprintf(secret_text + 2 * i, 3, "%02x", secret[i]);
    return __real_smt_conn_install(c, now, aead, secret, peer);
}

/* ---- finding the payload ---- */

/* Any 16 bytes in a row of the payload contain one of its 8-byte words whole: looking up every
 * place of the capture among the words, and the surroundings of what is found, misses none. */
static uint32_t *known_index(void)
{
    uint32_t *index = calloc(1u << INDEX_BITS, sizeof(*index));
    for (uint32_t i = 0; i < KNOWN_LEN / 8; i++) {
        uint64_t w;
        memcpy(&w, known + 8 * i, 8);
        uint64_t at = w * 0x9e3779b97f4a7c15ull >> (64 - INDEX_BITS);
        while (index[at] != 0)
            at = (at + 1) & ((1u << INDEX_BITS) - 1);
        index[at] = i + 1;
    }
    return index;
}

/* How many bytes around here equal the payload around there, both at the begin of an equal word;
 * `*end` is behind the last of them. */
static size_t match_len(const uint8_t *p, size_t len, size_t at, size_t in_known, size_t *end)
{
    size_t before = 0, after = 8;
    while (before < at && before < in_known && p[at - before - 1] == known[in_known - before - 1])
        before++;
    while (at + after < len && in_known + after < KNOWN_LEN &&
           p[at + after] == known[in_known + after])
        after++;
    *end = at + after;
    return before + after;
}

/* The length of the longest piece of the payload in the file. */
static size_t longest_known(const uint8_t *p, size_t len)
{
    uint32_t *index = known_index();
    size_t longest = 0;
    for (size_t at = 0; at + 8 <= len; at++) {
        uint64_t w;
        memcpy(&w, p + at, 8);
        uint64_t slot = w * 0x9e3779b97f4a7c15ull >> (64 - INDEX_BITS);
        for (; index[slot] != 0; slot = (slot + 1) & ((1u << INDEX_BITS) - 1)) {
            size_t in_known = 8 * (size_t)(index[slot] - 1), end;
            if (memcmp(&w, known + in_known, 8) != 0)
                continue;
            size_t n = match_len(p, len, at, in_known, &end);
            longest = n > longest ? n : longest;
            at = end - 8; /* words are chance: none is there twice */
            break;
        }
    }
    free(index);
    return longest;
}

static uint8_t *file_read(const char *path, size_t *len)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    *len = (size_t)st.st_size;
    uint8_t *p = malloc(*len);
    assert_int_equal(fread(p, 1, *len, f), *len);
    fclose(f);
    return p;
}

/* ---- the run ---- */

static void tapped_open(struct net_end *end, enum net_security security, bool accept,
                        const char *file)
{
    char tap[256];
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.accept_len = 256 << 10;
    config.mtu = 1472;
    config.rekey_records = 100; /* of up to 16 KB each */
    snprintf(tap, sizeof(tap), "pcap=%s", net_file(file));
    setenv("SMT_TEST_TAP", tap, 1);
    net_end_open(end, security, accept, &config);
    unsetenv("SMT_TEST_TAP");
}

/* What came at this end: announced messages are accepted, requests echoed from the payload. */
static void end_serve(struct net_end *end)
{
    struct smt_event ev;
    while (net_take(end, SMT_EV_INCOMING, &ev))
        assert_int_equal(smt_accept(ev.msg, NULL, 0), 0);
    while (net_take(end, SMT_EV_REQUEST, &ev)) {
        struct smt_iov iov = {known + KNOWN_LEN - ev.len, ev.len};
        assert_memory_equal(ev.data, known, ev.len);
        assert_int_equal(smt_reply(ev.msg, &iov, 1, NULL), 0);
        smt_release(ev.msg);
    }
    while (net_take(end, SMT_EV_MESSAGE, &ev)) {
        assert_memory_equal(ev.data, known, ev.len);
        smt_release(ev.msg);
    }
}

static unsigned end_take(struct net_end *end)
{
    struct smt_event ev;
    unsigned n = 0;
    for (; net_take(end, SMT_EV_RESPONSE, &ev); n++) {
        assert_memory_equal(ev.data, known + KNOWN_LEN - ev.len, ev.len);
        smt_release(ev.msg);
    }
    while (net_take(end, SMT_EV_SENT, &ev))
        n += ev.call_id != 0;
    return n;
}

/* Each size as request and as one-way message in both directions. */
static void talk(void)
{
    static const size_t sizes[N_SIZES] = {1, 16, 64, 1000, 1400, 9999, 70000, 300001, KNOWN_LEN};
    for (unsigned i = 0; i < N_SIZES; i++) {
        struct smt_iov iov = {known, sizes[i]};
        struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
        assert_int_equal(smt_call(pair.session, &args, NULL), 0);
        assert_int_equal(smt_send(pair.session, &args, NULL), 0);
        assert_int_equal(smt_call(pair.peer, &args, NULL), 0);
        assert_int_equal(smt_send(pair.peer, &args, NULL), 0);
        uint64_t until = net_now() + 60000000000ull * net_slow();
        for (unsigned n = 0; n < N_KINDS;) {
            net_pump(&pair);
            end_serve(&pair.client);
            end_serve(&pair.server);
            n += end_take(&pair.client) + end_take(&pair.server);
            assert_true(net_now() < until);
        }
    }
}

static void known_fill(void)
{
    struct smt_prng rng;
    smt_prng_seed(&rng, load_seed(1));
    smt_prng_bytes(&rng, known, sizeof(known));
}

static void run(enum net_security security)
{
    known_fill();
    tapped_open(&pair.server, security, true, "server.pcap");
    tapped_open(&pair.client, security, false, "client.pcap");
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    pair.peer = net_expect(&pair, &pair.server, SMT_EV_SESSION_UP).session;
    talk();
    if (security != NET_PLAIN)
        assert_in_range(net_counter(pair.client.ep, "rekeys"), 1, UINT64_MAX);
    net_pair_close(&pair);
}

static size_t capture_longest(const char *file, size_t *len)
{
    uint8_t *p = file_read(net_file(file), len);
    size_t longest = longest_known(p, *len);
    free(p);
    printf("# %s: %zu bytes, the longest piece of the payload has %zu\n", file, *len, longest);
    /* Both directions of everything have been seen. */
    assert_true(*len > 6u * KNOWN_LEN);
    return longest;
}

/* ---- the tests ---- */

static void captures_remove(void)
{
    unlink(net_file("client.pcap"));
    unlink(net_file("server.pcap"));
}

/* The capture is in order for a program that knows nothing of ours but docs/wire.md. `key` are the
 * words that give it the secret. */
static void decoder_run(const char *file, const char *key, unsigned n_messages)
{
    char capture[200], text[200], command[3072];
    if (decoder == NULL || system("python3 -c 1 2>/dev/null") != 0) {
        printf("# no python3, no decoder\n");
        return;
    }
    snprintf(capture, sizeof(capture), "%s", net_file(file));
    snprintf(text, sizeof(text), "%s", net_file("decoded.txt"));
    snprintf(command, sizeof(command),
             "python3 -B '%s' --quiet --pcap '%s' %s >'%s' 2>&1; r=$?; tail -n 3 '%s'; "
             "grep -q ' %u messages, ' '%s' || r=9; rm '%s'; exit $r",
             decoder, capture, key, text, text, n_messages, text, text);
    fflush(stdout);
    int status = system(command);
    assert_int_equal(status, 0);
}

static void test_sealed(void **state)
{
    size_t len;
    char key[2 * SMT_SECRET_LEN + 16];
    run(NET_CERT);
    assert_in_range(capture_longest("client.pcap", &len), 0, WINDOW - 1);
    assert_in_range(capture_longest("server.pcap", &len), 0, WINDOW - 1);
    snprintf(key, sizeof(key), "--secret %s", secret_text);
    decoder_run("client.pcap", key, 6 * N_SIZES);
    captures_remove();
}

/* Whoever asks for the secrets by SSLKEYLOGFILE can open a capture with that file alone; nobody
 * else can read the file. */
static void test_keylog(void **state)
{
    char path[200], key[256];
    snprintf(path, sizeof(path), "%s", net_file("keys.log"));
    setenv("SSLKEYLOGFILE", path, 1);
    run(NET_CERT);
    unsetenv("SSLKEYLOGFILE");
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(key, sizeof(key), "--keylog '%s'", path);
    decoder_run("client.pcap", key, 6 * N_SIZES);
    decoder_run("server.pcap", key, 6 * N_SIZES);
    unlink(path);
    captures_remove();
}

/* ---- early data ---- */

static void early_end_open(struct net_end *end, bool accept, const char *file)
{
    char tap[256], cert[200], key[200], ca[200];
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    snprintf(tap, sizeof(tap), "pcap=%s", net_file(file));
    snprintf(cert, sizeof(cert), "%s", net_file("node.pem"));
    snprintf(key, sizeof(key), "%s", net_file("node.key"));
    snprintf(ca, sizeof(ca), "%s", net_file("ca.pem"));
    config.cert_file = cert;
    config.key_file = key;
    config.ca_file = ca;
    config.tap = tap;
    config.early = 1;
    assert_int_equal(smt_ctx_open(&config, &end->ctx), 0);
    struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
    ep.bind_host = "127.0.0.1";
    ep.accept = accept;
    assert_int_equal(smt_ep_open(end->ctx, &ep, &end->ep), 0);
    end->host = ep.bind_host;
    end->n = 0;
}

static void early_talk(unsigned n_calls)
{
    struct smt_iov iov = {known, 600};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    struct smt_session *s;
    args.flags = SMT_IDEMPOTENT;
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, SMT_NEW_SESSION,
                                 &s), 0);
    for (unsigned i = 0; i < n_calls; i++)
        assert_int_equal(smt_call(s, &args, NULL), 0);
    uint64_t until = net_now() + 10000000000ull * net_slow();
    for (unsigned n = 0; n < n_calls;) {
        net_pump(&pair);
        end_serve(&pair.server);
        n += end_take(&pair.client);
        assert_true(net_now() < until);
    }
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    until = net_now() + 50000000;
    while (net_now() < until) /* its ticket */
        net_pump(&pair);
}

/* The early exporter and all behind it, by the word of the decoder. */
static void test_keylog_early(void **state)
{
    char path[200], key[256];
    size_t len;
    known_fill();
    snprintf(path, sizeof(path), "%s", net_file("keys.log"));
    setenv("SSLKEYLOGFILE", path, 1);
    early_end_open(&pair.server, true, "server.pcap");
    early_end_open(&pair.client, false, "client.pcap");
    unsetenv("SSLKEYLOGFILE");
    early_talk(1);
    early_talk(3);
    early_talk(2);
    assert_int_equal(net_counter(pair.server.ep, "early_taken"), 5);
    net_pair_close(&pair);
    snprintf(key, sizeof(key), "--keylog '%s'", path);
    decoder_run("client.pcap", key, 12);
    decoder_run("server.pcap", key, 12);
    uint8_t *p = file_read(net_file("client.pcap"), &len);
    assert_in_range(longest_known(p, len), 0, WINDOW - 1);
    free(p);
    unlink(path);
    captures_remove();
}

/* Without being asked nothing is written, and a log that cannot be written stops the context. */
static void test_keylog_refused(void **state)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    char text[256] = "", path[200];
    config.psk_file = net_file("keylog.psk");
    snprintf(path, sizeof(path), "%s", config.psk_file);
    FILE *f = fopen(path, "w");
    fputs("me:00112233445566778899aabbccddeeff\n", f);
    fclose(f);
    config.error_text = text;
    config.error_text_len = sizeof(text);
    config.psk_file = path;
    struct smt_ctx *ctx;
    setenv("SSLKEYLOGFILE", "/nowhere/at/all", 1);
    assert_int_equal(smt_ctx_open(&config, &ctx), SMT_EFILE);
    assert_non_null(strstr(text, "SSLKEYLOGFILE"));
    unsetenv("SSLKEYLOGFILE");
    assert_int_equal(smt_ctx_open(&config, &ctx), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
    unlink(path);
}

/* The search finds what is there to be found. */
static void test_plaintext(void **state)
{
    size_t len;
    run(NET_PLAIN);
    assert_in_range(capture_longest("client.pcap", &len), 1000, SIZE_MAX);
    assert_in_range(capture_longest("server.pcap", &len), 1000, SIZE_MAX);
    captures_remove();
}

/* One window anywhere is enough. */
static void test_search(void **state)
{
    static uint8_t p[4096];
    for (unsigned shift = 0; shift < 24; shift++) {
        memset(p, 0, sizeof(p));
        memcpy(p + 1000 + 3 * shift, known + 77 + shift, WINDOW);
        assert_in_range(longest_known(p, sizeof(p)), WINDOW, WINDOW + 2);
        p[1000 + 3 * shift + 5] ^= 1;
        assert_in_range(longest_known(p, sizeof(p)), 0, WINDOW - 1);
    }
}

int main(int argc, char **argv)
{
    decoder = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_keylog),
        cmocka_unit_test(test_keylog_early),
        cmocka_unit_test(test_keylog_refused),
        cmocka_unit_test(test_plaintext),
        cmocka_unit_test(test_search),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
