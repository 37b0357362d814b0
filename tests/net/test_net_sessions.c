/* Many sessions between two endpoints: opened, used, closed from either side, opened again; nothing
 * is left. */
#include "net.h"

#include <string.h>

enum { N = 300 };

static struct net_pair pair;
static struct smt_session *sessions[N];

static uint64_t open_sessions(const struct smt_ep *ep)
{
    return net_counter(ep, "sessions");
}

static void all_up(void)
{
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL,
                                     SMT_NEW_SESSION, &sessions[i]),
                         0);
    for (unsigned i = 0; i < N; i++) {
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
        smt_session_set_user(ev.session, &pair);
    }
    for (unsigned i = 0; i < N; i++)
        net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    assert_int_equal(open_sessions(pair.client.ep), N);
    assert_int_equal(open_sessions(pair.server.ep), N);
}

static void all_called(void)
{
    for (unsigned i = 0; i < N; i++) {
        assert_ptr_equal(smt_session_user(sessions[i]), &pair);
        assert_int_equal(net_call(sessions[i], &i, sizeof(i), 0, NULL, NULL), 0);
        while (net_echo(&pair.server) == 0)
            net_pump(&pair);
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
        assert_ptr_equal(ev.session, sessions[i]);
        assert_memory_equal(ev.data, &i, sizeof(i));
        smt_release(ev.msg);
    }
}

static void all_down(struct net_end *closer, struct net_end *other)
{
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(net_expect(&pair, closer, SMT_EV_SESSION_DOWN).error, 0);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(net_expect(&pair, other, SMT_EV_SESSION_DOWN).error, 0);
    net_pump_for(&pair, 5000000);
    assert_int_equal(open_sessions(pair.client.ep), 0);
    assert_int_equal(open_sessions(pair.server.ep), 0);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
}

static void test_many(void **state)
{
    net_end_open(&pair.server, NET_PSK, true, NULL);
    net_end_open(&pair.client, NET_PSK, false, NULL);
    all_up();
    all_called();
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(smt_session_close(sessions[i]), 0);
    all_down(&pair.client, &pair.server);
    all_up();
    all_called();
    while (smt_ep_drain(pair.server.ep, 1000000) == SMT_ETIMEDOUT) /* the last replies */
        net_pump(&pair);
    all_down(&pair.server, &pair.client);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
