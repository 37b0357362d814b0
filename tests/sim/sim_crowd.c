/* Ten thousand sessions at rest and a hundred thousand calls open at once on one endpoint with
 * default limits; with SMT_TEST_ALL=1 ten times as many. What stands costs next to nothing: calls
 * that the server holds are asked about seldom, and still a server that has gone is found out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_crowd.h"
#include "simnet.h"

static uint32_t crowd_size(void)
{
    return (uint32_t)sim_scaled(getenv("SMT_TEST_ALL") != NULL ? 100000 : 10000);
}

static void crowd_start(struct crowd *k, uint32_t n)
{
    crowd_open(k, smt_aead_by_name("aes-128-gcm", NULL), n, 10 * n, 64);
    crowd_connect(k, n);
}

static uint64_t memory_of_both(const struct crowd *k)
{
    return smt_engine_memory(k->client.e) + smt_engine_memory(k->server.e);
}

static void held_calls_are_asked_about_seldom(struct crowd *k)
{
    crowd_rest(k, 6 * SMT_SEC);
    uint64_t asked = sim_counter(k->client.e, "resends_sent");
    crowd_rest(k, 2 * SMT_SEC);
    asked = sim_counter(k->client.e, "resends_sent") - asked;
    printf("    %u calls: %llu B each at both ends, %llu questions in 2 s\n", k->n_held,
           (unsigned long long)(memory_of_both(k) / k->n_held), (unsigned long long)asked);
    /* Some 32,000 a second, and of each session one, or two where answers stand behind those to
     * all the others. */
    assert_in_range(asked, k->n_conns, 2 * (40000 + 2 * (uint64_t)k->n_conns));
}

static void sessions_and_calls(void **state)
{
    struct crowd k;
    uint32_t n = crowd_size();
    uint64_t used = 0;
    crowd_start(&k, n);
    crowd_rest(&k, 5 * SMT_SEC);
    printf("    %u sessions: %llu B each at both ends\n", n,
           (unsigned long long)(memory_of_both(&k) / n));
    uint64_t packets = sim_counter(k.client.e, "packets_sent_ctrl");
    crowd_rest(&k, 60 * SMT_SEC);
    assert_int_equal(sim_counter(k.client.e, "packets_sent_ctrl"), packets);
    for (unsigned round = 0; round < 2; round++) {
        crowd_call(&k, 10 * n);
        if (round == 0)
            held_calls_are_asked_about_seldom(&k);
        assert_true(round == 0 || memory_of_both(&k) <= used + (4 << 20));
        used = memory_of_both(&k);
        crowd_answer(&k);
        crowd_rest(&k, 5 * SMT_SEC);
        assert_true(smt_engine_is_at_rest(k.client.e) && smt_engine_is_at_rest(k.server.e));
    }
    crowd_close(&k);
}

/* Nothing is sent by the server any more: each session is given up within twice the peer timeout,
 * that of many silent ones (asks.c). */
static void silent_server_is_found_out(void **state)
{
    struct crowd k;
    uint32_t n = crowd_size() / 10;
    crowd_start(&k, n);
    crowd_call(&k, 10 * n);
    crowd_rest(&k, 3 * SMT_SEC);
    uint64_t gone = k.now;
    while (k.n_down < n) {
        assert_true(k.now < gone + 5 * SMT_SEC);
        crowd_client_alone(&k, 10 * SMT_MSEC);
    }
    assert_int_equal(k.n_failed, 10 * n);
    printf("    %u sessions down after %.2f s\n", n, (double)(k.now - gone) / 1e9);
    crowd_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_and_calls),
        cmocka_unit_test(silent_server_is_found_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
