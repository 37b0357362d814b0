/* Calls both ways over a network that loses, repeats, reorders and damages: each is executed once,
 * whole, ends once, and nothing stays behind. */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct net_pair pair;

static void end_open(struct net_end *end, bool accept, uint64_t seed)
{
    char tap[128];
    snprintf(tap, sizeof(tap), "drop=0.05,dup=0.05,reorder=0.2,corrupt=0.01,seed=%" PRIu64, seed);
    setenv("SMT_TEST_TAP", tap, 1);
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.mtu = 1472;
    config.peer_timeout_ns = 20000000000;
    config.handshake_timeout_ns = 20000000000;
    net_end_open(end, NET_CERT, accept, &config);
    unsetenv("SMT_TEST_TAP");
}

/* Nothing protects the bytes of a handshake from damage that UDP's checksum does not see, as the
 * tap's is: such a handshake fails at once and in order. False: it did. */
static bool pair_open(uint64_t seed)
{
    end_open(&pair.server, true, seed);
    end_open(&pair.client, false, seed + 1);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    struct smt_event ev;
    uint64_t until = net_now() + 60000000000ull * net_slow();
    while (!net_take(&pair.client, SMT_EV_SESSION_UP, &ev)) {
        net_pump(&pair);
        assert_true(net_now() < until);
        if (net_take(&pair.client, SMT_EV_SESSION_DOWN, &ev)) {
            printf("# handshake damaged: %s\n", smt_error_name(ev.error));
            net_pair_close(&pair);
            return false;
        }
    }
    pair.peer = net_expect(&pair, &pair.server, SMT_EV_SESSION_UP).session;
    return true;
}

/* What each of the two taps on the way does adds up: about one packet in six is lost or damaged. */
static void test_faults(void **state)
{
    uint64_t seed = load_seed(1);
    unsigned n_failed = 0;
    while (!pair_open(1000 * seed + 2 * n_failed))
        assert_true(++n_failed < 10);
    struct load_config config = {
        .seed = seed,
        .n_calls = load_scale(2000),
        .depth = 32,
        .max_len = 4 << 20,
        .max_resp = getenv("SMT_TEST_ALL") != NULL ? 4 << 20 : 256 << 10,
        .one_way = 10,
    };
    struct load l;
    load_init(&l, &config, &pair, &pair.session, 1, &pair.peer);
    uint64_t begin = net_now();
    load_run(&l, 280, NULL, NULL);
    double s = (double)(net_now() - begin) / 1e9;
    double mb = (double)(l.side[0].n_bytes + l.side[1].n_bytes) / 1e6;
    printf("# %u calls each way, %.0f MB in %.1f s: %.1f MB/s\n", config.n_calls, mb, s, mb / s);
    load_rest(&pair);
    assert_in_range(net_counter(pair.client.ep, "drop_auth"), 1, UINT64_MAX);
    assert_in_range(net_counter(pair.server.ep, "drop_auth"), 1, UINT64_MAX);
    assert_int_equal(net_counter(pair.client.ep, "rpcs_failed"), 0);
    assert_int_equal(net_counter(pair.server.ep, "rpcs_failed"), 0);
    if (getenv("SMT_TEST_LOG") != NULL) {
        struct smt_counter a[256], b[256];
        int n = smt_ep_counters(pair.client.ep, a, 256);
        smt_ep_counters(pair.server.ep, b, 256);
        for (int i = 0; i < n; i++)
            printf("%-24s %12" PRIu64 " %12" PRIu64 "\n", a[i].name, a[i].value, b[i].value);
    }
    load_fini(&l);
    net_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
