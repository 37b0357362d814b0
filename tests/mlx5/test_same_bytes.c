/* Who seals makes no difference on the wire: the same records under the same keys and numbers,
 * sealed by the (model's) NIC and by the CPU, leave in packets with the same bytes, order and
 * identifications. One process, three devices on a port that hears itself; run with the model
 * preloaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/seal.h"
#include "crypto/aead.h"
#include "dev/dev.h"
#include "wire/wire.h"

enum { HDR_LEN = 44, MAX_PACKETS = 24, MAX_LEN = 1500, SKIP = 77 };

struct caught {
    unsigned n;
    struct {
        uint16_t ip_id;
        uint8_t ecn;
        uint32_t len;
        uint8_t bytes[MAX_LEN];
    } packets[MAX_PACKETS];
};

static struct smt_dev *rx, *nic, *cpu;
static struct smt_addr to;

static struct smt_dev *device_open(const char *spec)
{
    char text[256] = "";
    const struct smt_dev_config c = {.spec = spec,
                                     .bind_host = "10.97.0.1",
                                     .error_text = text,
                                     .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&c, &dev) < 0)
        fail_msg("%s: %s", spec, text);
    return dev;
}

static int setup(void **state)
{
    /* The first has the rule for raw IP. */
    rx = device_open("mlx5,crypto=cpu");
    nic = device_open("mlx5,crypto=nic");
    cpu = device_open("mlx5,crypto=cpu,burst=1");
    return smt_dev_resolve("10.97.0.1", rx->ops->port(rx), &to, 1) == 1 ? 0 : -1;
}

static int teardown(void **state)
{
    struct smt_dev *devs[] = {nic, cpu, rx};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(devs); i++)
        devs[i]->ops->close(devs[i]);
    return 0;
}

static void packets_catch(struct smt_dev *sender, unsigned n, struct caught *out)
{
    struct smt_pkt pkts[MAX_PACKETS];
    out->n = 0;
    for (unsigned round = 0; round < 5000 && out->n < n; round++) {
        int got = rx->ops->rx(rx, pkts, MAX_PACKETS);
        assert_true(got >= 0);
        for (int i = 0; i < got; i++) {
            assert_true(out->n < MAX_PACKETS && pkts[i].len <= MAX_LEN);
            out->packets[out->n].ip_id = pkts[i].ip_id;
            out->packets[out->n].ecn = pkts[i].ecn;
            out->packets[out->n].len = pkts[i].len;
            memcpy(out->packets[out->n++].bytes, pkts[i].data, pkts[i].len);
        }
        (void)sender->ops->tx_flush(sender);
        if (got == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(out->n, n);
}

/* Clear header and record head; where the plaintext goes, which is filled in too. */
static uint8_t *record_put(uint8_t *out, uint64_t record_no, size_t plain_len)
{
    memset(out, 0, HDR_LEN);
    smt_put_be16(out, 1234);
    smt_put_be16(out + 2, to.port);
    out[12] = (HDR_LEN / 4) << 4;
    out[13] = SMT_KIND_DATA;
    smt_record_head_encode(out + HDR_LEN, record_no, plain_len);
    uint8_t *plain = out + HDR_LEN + SMT_RECORD_HEAD_LEN;
    for (size_t i = 0; i < plain_len; i++)
        plain[i] = (uint8_t)(i * 7 + record_no);
    return plain;
}

static void record_compare(uint64_t ctx, uint32_t key_len, const uint8_t *key, const uint8_t *salt,
                           uint64_t record_no, size_t plain_len, size_t slice_len)
{
    static struct caught by_nic, by_cpu;
    uint32_t record_len = (uint32_t)(plain_len + SMT_RECORD_OVERHEAD);
    if (slice_len > record_len)
        slice_len = record_len;
    unsigned n = (unsigned)((record_len + slice_len - 1) / slice_len);
    const struct smt_sealer *s = nic->ops->sealer(nic);
    const struct smt_seal_record r = {.to = &to,
                                      .record_no = record_no,
                                      .hdr_len = HDR_LEN,
                                      .record_len = record_len,
                                      .slice_len = (uint32_t)slice_len,
                                      .prio = 3};
    uint8_t *p;
    assert_int_equal(s->reserve(s->arg, ctx, &r, &p), 0);
    record_put(p, record_no, plain_len);
    (void)nic->ops->tx_flush(nic);
    packets_catch(nic, n, &by_nic);

    p = cpu->ops->tx_burst(cpu, &to, HDR_LEN, record_len, slice_len, 3);
    assert_non_null(p);
    uint8_t *plain = record_put(p, record_no, plain_len);
    const struct smt_aead *aead =
        smt_aead_find(key_len == 16 ? SMT_AEAD_AES128_GCM : SMT_AEAD_AES256_GCM, "openssl");
    void *aead_ctx = aligned_alloc(64, (aead->ctx_len + 63) / 64 * 64);
    memset(aead_ctx, 0, aead->ctx_len);
    assert_int_equal(aead->init(aead_ctx, key), 0);
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, salt, record_no);
    smt_record_aad(aad, record_no, plain_len);
    const struct smt_aead_in in = {plain, plain_len};
    uint8_t *tag = plain + plain_len;
    assert_int_equal(aead->seal(aead_ctx, nonce, aad, sizeof(aad), &in, 1, plain, tag),
                     0);
    aead->fini(aead_ctx);
    free(aead_ctx);
    (void)cpu->ops->tx_flush(cpu);
    packets_catch(cpu, n, &by_cpu);

    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(by_nic.packets[i].ip_id, i);
        assert_int_equal(by_cpu.packets[i].ip_id, i);
        assert_int_equal(by_nic.packets[i].ecn, 2);
        assert_int_equal(by_nic.packets[i].len, by_cpu.packets[i].len);
        assert_memory_equal(by_nic.packets[i].bytes, by_cpu.packets[i].bytes,
                            by_nic.packets[i].len);
    }
}

static void same_bytes(void **state)
{
    static const struct {
        size_t plain_len, slice_len;
    } cuts[] = {{16, 1428}, {17, 1428}, {1399, 1428}, {1400, 1428}, {5000, 1428},
                {16384, 1428}, {16384, 980}, {16384, 1368}, {40, 35}};
    const uint8_t salt[4] = {0x87, 0xc6, 0x35, 0xc8};
    uint8_t key[32];
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(0xd0 + i);
    const struct smt_sealer *s = nic->ops->sealer(nic);
    assert_non_null(s);
    for (uint32_t key_len = 16; key_len <= 32; key_len += 16) {
        uint64_t ctx, record_no = 0x8000000005000000;
        const struct smt_seal_key k = {.key = key, .key_len = key_len, .salt = salt};
        assert_int_equal(s->open(s->arg, &k, &ctx), 0);
        for (unsigned i = 0; i < SMT_ARRAY_LEN(cuts); i++) {
            record_compare(ctx, key_len, key, salt, record_no, cuts[i].plain_len,
                           cuts[i].slice_len);
            /* The next number, or one far away with the same low bits. */
            record_no += i % 3 == 2 ? 1ull << 32 : 1;
        }
        s->close(s->arg, ctx);
        assert_int_equal(s->reserve(s->arg, ctx, NULL, NULL), SMT_ESTATE);
    }
}

int main(void)
{
    if (unshare(CLONE_NEWNET) < 0 ||
        system("ip link set lo up && ip link add mx0 type veth peer name mx1 && "
               "ip addr add 10.97.0.1/24 dev mx0 && ip link set mx0 up && "
               "ip link set mx1 up") != 0) {
        printf("skipped: no network namespace of our own\n");
        return SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_bytes, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
