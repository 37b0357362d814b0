/* The limits of a key (docs/wire.md 7, docs/security.md), at both ends of one: what may be sealed
 * and opened under it, by every call that seals and opens, and when the next one is due. Counts
 * that take years are set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/keys.h"
#include "crypto/aead.h"
#include "wire/wire.h"

enum { LEN = 100, RECORD_LEN = LEN + SMT_RECORD_OVERHEAD };

static const uint64_t most_blocks = 1ull << 34, most_sealed = 1ull << 28, most_failed = 1ull << 36;

static struct ends {
    struct smt_pool replays;
    struct smt_keys_env env;
    struct smt_keys a, b;
    uint32_t seal; /* the next of id 1 */
} ends;

static int set_up(void **state)
{
    static const uint8_t secret[SMT_SECRET_LEN] = {7};
    const struct smt_aead *aead = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    memset(&ends, 0, sizeof(ends));
    ends.seal = 1;
    return smt_pool_init(&ends.replays, sizeof(struct smt_replay), 4, 64) < 0 ||
           smt_keys_env_init(&ends.env, aead, &ends.replays, 16, 0) < 0 ||
           smt_keys_install(&ends.a, &ends.env, secret, true) < 0 ||
           smt_keys_install(&ends.b, &ends.env, secret, false) < 0;
}

static int tear_down(void **state)
{
    smt_keys_fini(&ends.a);
    smt_keys_fini(&ends.b);
    smt_keys_env_fini(&ends.env);
    smt_pool_fini(&ends.replays);
    return 0;
}

/* ---- each way to seal and to open ---- */

static int seal_data(uint64_t id, uint8_t record[RECORD_LEN])
{
    static const uint8_t text[LEN] = {1};
    const struct smt_aead_in in = {text, LEN};
    return smt_keys_seal_data(&ends.a, id, ends.seal++, record, &in, 1, LEN);
}

static int seal_run(uint64_t id, uint8_t record[RECORD_LEN])
{
    struct smt_seal_run run;
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    uint64_t no = smt_data_record_no(id, 0);
    int rc = smt_keys_run_begin(&ends.a, id, &run);
    if (rc < 0)
        return rc;
    smt_record_head_encode(record, no, LEN);
    smt_record_aad(run.aad, 0, LEN);
    smt_keys_note_data(&ends.a, LEN);
    const struct smt_aead_in in = {plain, LEN};
    return smt_keys_run_seal(&run, SMT_BSWAP_BE64(no), &in, 1, plain, LEN);
}

static int seal_by_nic(uint64_t id, uint8_t record[RECORD_LEN])
{
    int rc = smt_keys_check_data(&ends.a, id);
    if (rc == 0)
        smt_keys_note_data(&ends.a, LEN);
    return rc;
}

static int (*const seals[])(uint64_t id, uint8_t record[RECORD_LEN]) = {seal_data, seal_run,
                                                                         seal_by_nic};

static uint64_t number_of(const uint8_t record[RECORD_LEN])
{
    uint64_t no = 0;
    size_t len;
    assert_int_equal(smt_record_head_decode(record, RECORD_LEN, &no, &len), 0);
    return no;
}

static int open_data(uint8_t record[RECORD_LEN])
{
    uint8_t text[LEN];
    const struct smt_aead_out out = {text, LEN};
    return smt_keys_open_data(&ends.b, 0, SMT_EPOCH_NOW, number_of(record), record, LEN, &out, 1);
}

static int open_run(uint8_t record[RECORD_LEN])
{
    uint8_t text[LEN];
    struct smt_open_run run;
    int rc = smt_keys_open_begin(&ends.b, LEN, &run);
    uint64_t no = SMT_BSWAP_BE64(number_of(record));
    return rc < 0 ? rc : smt_keys_run_open(&ends.b, &run, no, record, LEN, text);
}

static int open_ctrl(uint8_t record[RECORD_LEN])
{
    return smt_keys_open_ctrl(&ends.b, 0, SMT_EPOCH_NOW, number_of(record), record, LEN);
}

static int seal_ctrl(uint64_t id, uint8_t record[RECORD_LEN])
{
    (void)id;
    return smt_keys_seal_ctrl(&ends.a, record, LEN);
}

static const struct {
    int (*seal)(uint64_t id, uint8_t record[RECORD_LEN]);
    int (*open)(uint8_t record[RECORD_LEN]);
} ways[] = {{seal_data, open_data}, {seal_run, open_run}, {seal_ctrl, open_ctrl}};

/* ---- the limits ---- */

static void test_sealing_ends(void **state)
{
    uint8_t record[RECORD_LEN] = {0};
    struct smt_epoch *e = &ends.a.now;
    for (uint64_t i = 0; i < 3; i++) {
        e->n_sealed = e->n_blocks = 0;
        assert_int_equal(seals[i](10 + i, record), 0);
        assert_int_equal(e->n_sealed, 1);
        assert_true(e->n_blocks >= (LEN + 15) / 16 + 1);
        e->n_sealed = most_sealed - 1;
        assert_int_equal(seals[i](20 + i, record), 0);
        assert_int_equal(seals[i](30 + i, record), SMT_EKEYLIMIT);
        assert_int_equal(e->n_sealed, most_sealed);
        e->n_sealed = 0;
        e->n_blocks = most_blocks;
        assert_int_equal(seals[i](40 + i, record), SMT_EKEYLIMIT);
    }
    e->ctrl_next = most_sealed - 1;
    assert_int_equal(seal_ctrl(0, record), 0);
    assert_int_equal(seal_ctrl(0, record), SMT_EKEYLIMIT);
    assert_int_equal(e->ctrl_next, most_sealed);
}

/* In a run the limits are not looked at, so it ends before any of them, and before the next epoch
 * is due. */
static void test_runs_end_before_limits(void **state)
{
    struct smt_seal_run run;
    struct smt_epoch *e = &ends.a.now;
    assert_int_equal(smt_keys_run_begin(&ends.a, 7, &run), 0);
    uint64_t left = run.left, blocks = left * (SMT_RECORD_MAX_PLAIN / 16 + 3);
    assert_true(left > 1);
    e->n_sealed = most_sealed - left - 1;
    assert_int_equal(smt_keys_run_begin(&ends.a, 7, &run), 0);
    assert_int_equal(run.left, left);
    e->n_sealed++;
    assert_int_equal(smt_keys_run_begin(&ends.a, 7, &run), 0);
    assert_int_equal(run.left, 1);
    e->n_sealed = 0;
    e->n_blocks = most_blocks / 2 - blocks;
    assert_int_equal(smt_keys_run_begin(&ends.a, 7, &run), 0);
    assert_int_equal(run.left, 1);
}

/* Two ids that share their low 33 bits share record numbers. */
static void test_ids_far_apart(void **state)
{
    uint8_t record[RECORD_LEN] = {0};
    for (uint64_t i = 0; i < 3; i++) {
        ends.a.now.first_run[0] = 0;
        ends.a.want_next = false;
        assert_int_equal(seals[i](50 + i, record), 0);
        assert_int_equal(seals[i]((1ull << 32) + 50 + i, record), 0);
        assert_int_equal(seals[i]((1ull << 33) + 50 + i, record), SMT_EKEYLIMIT);
        assert_true(ends.a.want_next); /* under the next key it may */
    }
}

static void test_failures_count(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        uint8_t good[RECORD_LEN] = {0}, bad[RECORD_LEN];
        struct smt_epoch *e = &ends.b.now;
        e->n_failed = 0;
        assert_int_equal(ways[i].seal(1, good), 0);
        memcpy(bad, good, sizeof(bad));
        bad[RECORD_LEN - 1] ^= 1;
        assert_int_equal(ways[i].open(bad), SMT_EAUTH);
        assert_int_equal(e->n_failed, 1);
        e->n_failed = most_failed;
        memcpy(bad, good, sizeof(bad));
        assert_int_equal(ways[i].open(bad), SMT_EAUTH);
        e->n_failed = most_failed - 1;
        memcpy(bad, good, sizeof(bad));
        assert_int_equal(ways[i].open(bad), 0);
    }
}

/* The number of no honest peer's CTRL, although its tag is right. */
static void test_control_numbers_end(void **state)
{
    uint8_t record[RECORD_LEN] = {0}, last[RECORD_LEN];
    ends.a.now.ctrl_next = most_sealed - 1;
    assert_int_equal(seal_ctrl(0, record), 0);
    memcpy(last, record, sizeof(last));
    /* As many more bits of the number as the record's head has. */
    last[SMT_RECORD_HEAD_LEN - 8 + 4] ^= 0x10;
    assert_int_equal(number_of(last) >= most_sealed, 1);
    assert_int_equal(open_ctrl(last), SMT_EAUTH);
    assert_int_equal(ends.b.now.n_failed, 0); /* not even tried */
    assert_int_equal(open_ctrl(record), 0);
}

static void test_when_the_next_is_due(void **state)
{
    struct smt_keys *k = &ends.a;
    struct smt_epoch *e = &k->now;
    struct {
        uint64_t *count, due;
    } const counts[] = {
        {&e->n_sealed, most_sealed},     {&e->ctrl_next, most_sealed},
        {&e->n_blocks, most_blocks / 2}, {&e->n_failed, most_failed / 2},
    };
    for (unsigned i = 0; i < 4; i++) {
        uint32_t number = e->number;
        k->confirmed = true;
        *counts[i].count = counts[i].due - 1;
        assert_false(smt_keys_step(k, 0));
        *counts[i].count = counts[i].due;
        k->confirmed = false; /* the peer has not spoken in this one */
        assert_false(smt_keys_step(k, 0));
        k->confirmed = true;
        assert_true(smt_keys_step(k, 0));
        assert_int_equal(e->number, number + 1);
        assert_int_equal(*counts[i].count, 0);
        assert_false(k->confirmed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sealing_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_runs_end_before_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ids_far_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_failures_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_control_numbers_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_when_the_next_is_due, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
