/* What a session's ends tell each other of how packets come to them (transport parameters 3 and 4)
 * is what the device is. */
#include "net.h"

#include <stdlib.h>
#include <string.h>

#include "core/engine.h"

static struct smt_params seen[2];
static unsigned n_seen;

/* The linker puts this in front of the engine's own (--wrap): each end installs what the other has
 * said. */
int __real_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer);
int __wrap_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer);

int __wrap_smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                            const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer)
{
    if (n_seen < 2)
        seen[n_seen++] = *peer;
    return __real_smt_conn_install(c, now, aead, secret, peer);
}

static void test_told(void **state)
{
    static const struct {
        const char *device;
        uint8_t carriages, forms;
    } rows[] = {
        {"udp", SMT_CARRIAGE_UDP, SMT_FORM_SINGLE | SMT_FORM_SLICES},
        {"ip", SMT_CARRIAGE_RAW, SMT_FORM_SINGLE},
        {"ud", SMT_CARRIAGE_UD, SMT_FORM_SINGLE},
    };
    static struct net_pair pair;
    const char *device = getenv("SMT_TEST_DEVICE");
    unsigned row = 0;
    while (device != NULL && strcmp(rows[row].device, device) != 0)
        assert_true(++row < SMT_ARRAY_LEN(rows));
    net_pair_open(&pair, NET_PSK, NULL, NULL);
    assert_int_equal(n_seen, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(seen[i].carriages, rows[row].carriages);
        assert_int_equal(seen[i].record_forms, rows[row].forms);
    }
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
