/* Messages of one length that wait for one session leave as a row (core/single_tx.c): by one call
 * of the device, or by one each where it has no place for all, and one that cannot be sealed takes
 * no other with it. Two engines over the in-memory device. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "checking_aead.h"
#include "engine_pair.h"

enum { MTU = 1472, CAPACITY = 4096, LEN = 64, DEPTH = 40, N = 400 };

static struct {
    struct smt_dev *a, *b;
    struct engine_pair p;
} ends;

static void ends_open(const struct smt_aead *aead, unsigned depth)
{
    assert_int_equal(smt_dev_loop_pair(MTU, CAPACITY, &ends.a, &ends.b), 0);
    const struct smt_addr to = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
                                .port = ends.b->ops->port(ends.b)};
    engine_pair_open(&ends.p, ends.a, ends.b, &to, aead, LEN, depth);
    engine_pair_run(&ends.p, N); /* probes and the first marks */
}

static void ends_close(void)
{
    engine_pair_close(&ends.p);
    ends.a->ops->close(ends.a);
    ends.b->ops->close(ends.b);
}

static uint64_t count(const struct engine_side *s, const char *name)
{
    struct smt_engine_counter all[256];
    unsigned n = smt_engine_counters(s->e, all, SMT_ARRAY_LEN(all));
    for (unsigned i = 0; i < n && i < SMT_ARRAY_LEN(all); i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].value;
    fail_msg("no counter %s", name);
    return 0;
}

/* Calls for places, and packets, of N more RPCs. */
static void run_measured(uint64_t *calls, uint64_t *packets)
{
    const struct engine_side *c = &ends.p.client;
    *calls = c->n_reserved;
    *packets = count(c, "packets_sent_data");
    engine_pair_run(&ends.p, N);
    *calls = c->n_reserved - *calls;
    *packets = count(c, "packets_sent_data") - *packets;
}

static void a_row_takes_one_call(void **state)
{
    ends_open(*state, DEPTH);
    uint64_t calls, packets;
    run_measured(&calls, &packets);
    assert_in_range(packets, N, N + DEPTH);
    assert_in_range(calls, 1, packets / 8);
    ends_close();
}

static uint8_t *no_run(void *arg, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio, size_t *stride)
{
    return NULL;
}

static void what_has_no_place_together_has_one_alone(void **state)
{
    ends_open(*state, DEPTH);
    ends.p.client.sink.run = no_run;
    uint64_t calls, packets;
    run_measured(&calls, &packets);
    assert_in_range(calls, packets, UINT64_MAX);
    ends.p.client.sink.run = NULL;
    ends.p.client.sink.run_max = NULL;
    run_measured(&calls, &packets);
    assert_in_range(calls, packets, UINT64_MAX);
    ends_close();
}

/* The client's k-th seal of the turn fails: its call does, its place has no packet, and no other
 * feels it. */
static void one_that_cannot_be_sealed_stands_alone(void **state)
{
    for (unsigned k = 0; k < DEPTH; k++) {
        ends_open(checking_aead(CHECKING_FAST), DEPTH);
        struct engine_side *c = &ends.p.client, *s = &ends.p.server;
        assert_int_equal(checking_aead_fail_after(k), -1);
        uint64_t failed = count(c, "rpcs_failed") + count(s, "rpcs_failed");
        engine_pair_run(&ends.p, N);
        assert_int_equal(checking_aead_fail_after(-1), -1);
        assert_int_equal(count(c, "rpcs_failed") + count(s, "rpcs_failed") - failed, 1);
        assert_int_equal(count(s, "drop_malformed"), 1);
        assert_int_equal(count(s, "drop_auth") + count(c, "drop_auth"), 0);
        ends_close();
        checking_aead_reset();
    }
}

/* A plaintext record is one that ends with the tag of none. */
static void plaintext_with_another_tag_is_dropped(void **state)
{
    ends_open(*state, 1);
    struct engine_side *s = &ends.p.server;
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    for (unsigned i = 1; i <= 3; i++) {
        engine_client_turn(&ends.p);
        int n = s->dev->ops->rx(s->dev, pkts, SMT_DEV_RX_BATCH);
        assert_int_equal(n, 1);
        pkts[0].data[pkts[0].len - i] ^= 1;
        smt_engine_rx(s->e, ends.p.now, pkts, 1);
        assert_int_equal(count(s, "drop_auth"), i);
        /* It comes again, right. */
        for (uint64_t done = ends.p.done; ends.p.done == done; ends.p.now += 100 * SMT_USEC) {
            engine_client_turn(&ends.p);
            engine_server_turn(&ends.p);
        }
        engine_pair_run(&ends.p, 1);
    }
    ends_close();
}

int main(void)
{
    void *plain = (void *)(uintptr_t)smt_aead_find(SMT_AEAD_NONE, NULL);
    void *fast = (void *)(uintptr_t)fast_aead();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(a_row_takes_one_call, plain),
        cmocka_unit_test_prestate(a_row_takes_one_call, fast),
        cmocka_unit_test_prestate(what_has_no_place_together_has_one_alone, plain),
        cmocka_unit_test_prestate(what_has_no_place_together_has_one_alone, fast),
        cmocka_unit_test(one_that_cannot_be_sealed_stands_alone),
        cmocka_unit_test_prestate(plaintext_with_another_tag_is_dropped, plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
