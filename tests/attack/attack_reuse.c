/* Sessions one after the other between the same two, by every way there is to a secret: full
 * handshakes, resumed ones, a pre-shared key, a responder that began anew, steps of epochs. Each
 * seals the same record numbers with other bytes. The checking cipher remembers all keys and
 * numbers, and fails the test when one pair of them comes twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/pool.h"
#include "checking_aead.h"
#include "core/keys.h"
#include "hs_pair.h"
#include "hs_sides.h"
#include "wire/wire.h"

enum { N_EPOCHS = 4, N_IDS = 10, N_SEALS = 3, N_CTRL = 10, TEXT_LEN = 64 };

static uint64_t n_sealed, n_sessions, n_resumed;

/* No two of these texts are the same. */
static struct smt_aead_in text_next(uint8_t text[TEXT_LEN])
{
    memset(text, 0, TEXT_LEN);
    memcpy(text, &n_sealed, sizeof(n_sealed));
    n_sealed++;
    return (struct smt_aead_in){text, TEXT_LEN};
}

/* What one end of a session seals: the first messages of its life, in each of its epochs. */
static void end_seals(const uint8_t secret[SMT_SECRET_LEN], bool initiator)
{
    struct smt_pool replays;
    struct smt_keys_env env;
    struct smt_keys keys = {0};
    uint8_t record[TEXT_LEN + SMT_RECORD_OVERHEAD], text[TEXT_LEN];
    assert_int_equal(smt_pool_init(&replays, sizeof(struct smt_replay), 4, 64), 0);
    assert_int_equal(smt_keys_env_init(&env, checking_aead(CHECKING_AES128_GCM), &replays, 16, 0),
                     0);
    assert_int_equal(smt_keys_install(&keys, &env, secret, initiator), 0);
    for (unsigned epoch = 1; epoch <= N_EPOCHS; epoch++) {
        assert_int_equal(keys.now.number, epoch);
        for (uint64_t id = 1; id <= N_IDS; id++) {
            for (uint32_t seal = 0; seal < N_SEALS; seal++) {
                const struct smt_aead_in in = text_next(text);
                int rc = smt_keys_seal_data(&keys, id, seal, record, &in, 1, TEXT_LEN);
                assert_int_equal(rc, 0);
            }
        }
        for (unsigned i = 0; i < N_CTRL; i++) {
            memcpy(record + SMT_RECORD_HEAD_LEN, text_next(text).p, TEXT_LEN);
            assert_int_equal(smt_keys_seal_ctrl(&keys, record, TEXT_LEN), 0);
        }
        keys.want_next = keys.confirmed = true;
        assert_true(smt_keys_step(&keys, epoch * SMT_SEC));
    }
    smt_keys_fini(&keys);
    smt_keys_env_fini(&env);
    smt_pool_fini(&replays);
}

static void session(struct smt_creds *i_creds, struct smt_creds *r_creds)
{
    struct hs_pair pair;
    struct smt_hs_result i, r;
    hs_pair_open_simple(&pair, i_creds, r_creds);
    hs_pair_run(&pair);
    assert_int_equal(pair.i_rc, SMT_HS_DONE);
    assert_int_equal(pair.r_rc, SMT_HS_DONE);
    assert_int_equal(smt_hs_result(pair.i, &i), 0);
    assert_int_equal(smt_hs_result(pair.r, &r), 0);
    assert_memory_equal(i.secret, r.secret, sizeof(i.secret));
    hs_pair_close(&pair);
    n_sessions++;
    n_resumed += i.resumed;
    end_seals(i.secret, true);
    end_seals(r.secret, false);
}

static void every_secret_is_new(void **state)
{
    (void)state;
    static const struct hs_side sides[][2] = {
        {{.cert = "client", .ca = "ca"}, {.cert = "server", .ca = "ca"}},
        {{.cert = "client", .ca = "ca", .resume = true},
         {.cert = "server", .ca = "ca", .resume = true}},
        {{.psk = "psk"}, {.psk = "psk"}},
        {{.psk = "psk", .resume = true}, {.psk = "psk", .resume = true}},
    };
    checking_aead_reset();
    for (unsigned k = 0; k < SMT_ARRAY_LEN(sides); k++) {
        struct smt_creds *i = hs_side_creds(&sides[k][0]);
        for (unsigned life = 0; life < 3; life++) {
            struct smt_creds *r = hs_side_creds(&sides[k][1]);
            for (unsigned n = 0; n < 4; n++)
                session(i, r);
            smt_creds_free(r);
        }
        smt_creds_free(i);
    }
    print_message("    %llu sessions, %llu resumed, %llu records\n",
                  (unsigned long long)n_sessions, (unsigned long long)n_resumed,
                  (unsigned long long)n_sealed);
    assert_true(n_resumed >= 9 && n_resumed < n_sessions);
    assert_int_equal(checking_aead_stats().violations, 0);
    assert_int_equal(checking_aead_stats().nonces, n_sealed);
}

/* And that it would be seen: a secret that comes twice. */
static void a_secret_that_comes_twice_is_seen(void **state)
{
    (void)state;
    static const uint8_t secret[SMT_SECRET_LEN] = {7};
    checking_aead_tolerate(true);
    end_seals(secret, true);
    assert_int_equal(checking_aead_stats().violations, 0);
    end_seals(secret, true);
    assert_int_equal(checking_aead_stats().violations,
                     N_EPOCHS * (N_IDS * N_SEALS + N_CTRL));
    checking_aead_tolerate(false);
    checking_aead_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_secret_is_new),
        cmocka_unit_test(a_secret_that_comes_twice_is_seen),
    };
    return cmocka_run_group_tests(tests, hs_sides_setup, hs_sides_teardown);
}
