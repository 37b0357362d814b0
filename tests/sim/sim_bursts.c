/* Records in slices, and NICs that seal them: under loss, duplicates, reordering and corruption,
 * with contexts that vanish, are too few, or seal wrongly. Whatever the NIC does, every call runs
 * exactly once, no number seals two different strings, and in the end the CPU takes over where it
 * must. */
#include <stdio.h>

#include "pair.h"
#include "sim_nic.h"

static uint64_t counter(const struct sim_host *h, const char *name)
{
    return sim_counter(h->engine, name);
}

struct rig {
    struct pair p;
    struct sim_nic nics[2];
    struct smt_conn *conn, *back;
};

/* Both take bursts; with `nic` both have a NIC that seals, else their sinks cut what the CPU
 * sealed. */
static void rig_new(struct rig *r, uint64_t seed, const struct sim_link *link, bool nic)
{
    r->p = pair_new(sim_seed(seed), link, CHECKING_FAST);
    struct sim_host *hosts[2] = {r->p.a, r->p.b};
    for (unsigned i = 0; i < 2; i++) {
        hosts[i]->config.bursts = true;
        hosts[i]->cuts_bursts = !nic;
        if (nic)
            sim_nic_init(&r->nics[i], hosts[i]);
    }
}

static void rig_start(struct rig *r)
{
    pair_start(&r->p);
    r->conn = pair_connect(&r->p, &r->back);
}

static void rig_load(struct rig *r, uint32_t n_calls, uint32_t max_len)
{
    pair_load_both(&r->p, r->conn, r->back, n_calls, max_len);
}

static void rig_free(struct rig *r)
{
    pair_free(&r->p);
    for (unsigned i = 0; i < 2; i++) {
        if (r->nics[i].host != NULL)
            assert_int_equal(sim_nic_n_open(&r->nics[i]), 0);
    }
}

static void bursts_sealed_by_the_cpu(void **state)
{
    const struct sim_link *links[] = {&clean_link, &lossy_link};
    for (unsigned i = 0; i < 2; i++) {
        struct rig r = {0};
        rig_new(&r, 1 + i, links[i], false);
        rig_start(&r);
        rig_load(&r, (uint32_t)sim_scaled(600), 1 << 20);
        assert_true(counter(r.p.a, "bursts_sent") > 100);
        assert_true(counter(r.p.b, "bursts_rcvd") > 100);
        assert_int_equal(counter(r.p.a, "records_sealed_nic"), 0);
        if (i == 0) {
            assert_int_equal(counter(r.p.b, "bursts_rcvd"), counter(r.p.a, "bursts_sent"));
            /* What is late behind better messages may be asked for while it is on its way. */
            assert_true(counter(r.p.a, "resent_records") * 100 < counter(r.p.a, "records_sealed"));
        }
        printf("    %s: %llu bursts, %llu whole\n", i == 0 ? "clean" : "lossy",
               (unsigned long long)counter(r.p.a, "bursts_sent"),
               (unsigned long long)counter(r.p.b, "bursts_rcvd"));
        rig_free(&r);
    }
}

static void bursts_only_to_who_takes_them(void **state)
{
    struct rig r = {0};
    rig_new(&r, 3, &clean_link, true);
    r.p.b->config.bursts = false;
    rig_start(&r);
    rig_load(&r, 100, 1 << 18);
    assert_int_equal(counter(r.p.a, "bursts_sent"), 0);
    assert_int_equal(counter(r.p.a, "nic_tests"), 0);
    assert_int_equal(r.nics[0].n_opened, 0);
    /* The other way they go. */
    assert_true(counter(r.p.b, "records_sealed_nic") > 0);
    rig_free(&r);
}

/* What a NIC did not seal has a reason. */
static void assert_reasons(const struct sim_host *h)
{
    assert_int_equal(counter(h, "records_sealed") - counter(h, "records_sealed_nic"),
                     counter(h, "nic_not_ready") + counter(h, "nic_not_again") +
                         counter(h, "nic_not_worth"));
}

/* Nothing is sealed by a NIC whose test has not passed; afterwards nearly all new records are. */
static void nic_seals_after_its_test(void **state)
{
    const struct sim_link *links[] = {&clean_link, &lossy_link};
    for (unsigned i = 0; i < 2; i++) {
        struct rig r = {0};
        rig_new(&r, 4 + i, links[i], true);
        rig_start(&r);
        rig_load(&r, (uint32_t)sim_scaled(600), 1 << 20);
        uint64_t nic = counter(r.p.a, "records_sealed_nic"), all = counter(r.p.a, "records_sealed");
        uint64_t again = counter(r.p.a, "resent_records");
        printf("    %s: %llu of %llu records by the NIC, %llu again\n", i == 0 ? "clean" : "lossy",
               (unsigned long long)nic, (unsigned long long)all, (unsigned long long)again);
        assert_true(i == 1 || counter(r.p.a, "nic_tests_passed") == 1);
        assert_true(i == 1 || nic * 2 > all);
        assert_true(nic > 100);
        assert_int_equal(nic, r.nics[0].n_sealed);
        assert_reasons(r.p.a);
        assert_reasons(r.p.b);
        assert_int_equal(counter(r.p.a, "nic_refused"), 0);
        rig_free(&r);
    }
}

static void contexts_vanish(void **state)
{
    struct rig r = {0};
    rig_new(&r, 6, &lossy_link, true);
    r.nics[0].lose = r.nics[1].lose = 100;
    r.p.a->config.rekey_records = 500;
    rig_start(&r);
    rig_load(&r, (uint32_t)sim_scaled(1500), 1 << 18);
    assert_true(counter(r.p.a, "nic_lost") > 5);
    assert_true(counter(r.p.a, "nic_tests_passed") > 5);
    assert_true(counter(r.p.a, "rekeys") > 0);
    assert_true(counter(r.p.a, "records_sealed_nic") > 100);
    assert_reasons(r.p.a);
    printf("    %llu contexts lost, %llu tests passed, %llu failed, %llu rekeys\n",
           (unsigned long long)counter(r.p.a, "nic_lost"),
           (unsigned long long)counter(r.p.a, "nic_tests_passed"),
           (unsigned long long)counter(r.p.a, "nic_tests_failed"),
           (unsigned long long)counter(r.p.a, "rekeys"));
    rig_free(&r);
}

/* More conns than contexts. */
static void contexts_are_few(void **state)
{
    struct rig r = {0};
    rig_new(&r, 7, &clean_link, true);
    r.nics[0].max_ctxs = 2;
    rig_start(&r);
    const struct sim_load_config config = {
        .n_calls = 60, .window = 4, .max_len = 1 << 17, .max_resp = 64};
    for (unsigned i = 0; i < 8; i++)
        sim_app_load(r.p.app, r.p.a, r.p.b, &config);
    rig_load(&r, 60, 1 << 17);
    assert_true(counter(r.p.a, "nic_lost") > 0);
    assert_true(counter(r.p.a, "records_sealed_nic") > 0);
    rig_free(&r);
}

enum trouble { UNSUPPORTED, NONE_FREE, WRONG_AT_ONCE, WRONG_LATER };

static void nic_is_of_no_use(void **state)
{
    for (enum trouble what = UNSUPPORTED; what <= WRONG_LATER; what++) {
        struct rig r = {0};
        rig_new(&r, 8 + what, what == WRONG_LATER ? &lossy_link : &clean_link, true);
        struct sim_nic *nic = &r.nics[0];
        nic->is_unsupported = what == UNSUPPORTED;
        nic->is_wrong = what == WRONG_AT_ONCE;
        if (what == NONE_FREE)
            nic->max_ctxs = 0;
        rig_start(&r);
        rig_load(&r, 100, 1 << 18);
        uint64_t nic_records = counter(r.p.a, "records_sealed_nic");
        if (what == WRONG_LATER) {
            nic->is_wrong = true;
            rig_load(&r, 200, 1 << 18);
            assert_int_equal(counter(r.p.a, "nic_refused") + counter(r.p.a, "nic_tests_failed"), 1);
            assert_true(nic_records > 20);
        } else if (what == WRONG_AT_ONCE) {
            assert_true(nic_records >= 1 && nic_records <= 5);
            assert_int_equal(counter(r.p.a, "nic_tests_failed") + counter(r.p.a, "nic_refused"), 1);
        } else {
            assert_int_equal(nic_records, 0);
            assert_true(counter(r.p.a, "nic_no_context") > 0);
        }
        rig_free(&r);
    }
}

/* Slices by hand: what does not fit is dropped, what never becomes whole is bounded. */
static struct {
    unsigned n;
    uint32_t missing; /* this slice of every burst */
} cut;

static enum sim_verdict lose_one_slice(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    if (pkt->ip_id != cut.missing || cut.missing == 0 || pkt->from != 0)
        return SIM_PASS;
    cut.n++;
    return SIM_DROP;
}

static void every_burst_loses_a_slice(void **state)
{
    struct rig r = {0};
    rig_new(&r, 20, &clean_link, false);
    rig_start(&r);
    cut.missing = 3;
    r.p.net->hook = lose_one_slice;
    rig_load(&r, 100, 1 << 20);
    assert_true(cut.n > 100);
    assert_true(counter(r.p.a, "resent_records") > 100);
    rig_free(&r);
}

/* The index of a slice says where it belongs, nothing else does. */
static enum sim_verdict wrong_index(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    if (pkt->from == 0 && pkt->ip_id == 2 && smt_prng_below(&net->rng, 4) == 0)
        pkt->ip_id = (uint16_t)(1 + smt_prng_below(&net->rng, 100));
    return SIM_PASS;
}

static void slices_with_a_wrong_index(void **state)
{
    struct rig r = {0};
    rig_new(&r, 21, &clean_link, false);
    rig_start(&r);
    r.p.net->hook = wrong_index;
    rig_load(&r, 200, 1 << 20);
    assert_true(counter(r.p.b, "drop_burst") > 0);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bursts_sealed_by_the_cpu),
        cmocka_unit_test(bursts_only_to_who_takes_them),
        cmocka_unit_test(nic_seals_after_its_test),
        cmocka_unit_test(contexts_vanish),
        cmocka_unit_test(contexts_are_few),
        cmocka_unit_test(nic_is_of_no_use),
        cmocka_unit_test(every_burst_loses_a_slice),
        cmocka_unit_test(slices_with_a_wrong_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
