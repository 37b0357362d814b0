/* The pcap writer, read back byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/prng.h"
#include "dev/dev.h"
#include "dev/pcap.h"

static char path[] = "/tmp/smt_test_pcap_XXXXXX";
static uint8_t file[4 << 20];

static int set_up(void **state)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int tear_down(void **state)
{
    unlink(path);
    return 0;
}

static size_t file_read(void)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, sizeof(file), f);
    fclose(f);
    assert_true(n < sizeof(file));
    return n;
}

static uint32_t host32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static struct smt_addr addr(const char *text)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve(text, 0, &a, 1), 1);
    return a;
}

/* One's complement sum of what is covered by a checksum, itself included: 0xffff when right. */
static uint32_t ones_sum(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += (uint32_t)p[i] << (i % 2 == 0 ? 8 : 0);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* Checks one record's frame; returns where the payload is. */
static const uint8_t *frame_check(const uint8_t *p, size_t frame_len, const struct smt_addr *from,
                                  const struct smt_addr *to, uint8_t tos, size_t len)
{
    bool is_ipv4 = smt_addr_is_ipv4(to);
    assert_int_equal(smt_get_be16(p + 12), is_ipv4 ? 0x0800 : 0x86dd);
    const uint8_t *ip = p + 14;
    const uint8_t *udp = ip + (is_ipv4 ? 20 : 40);
    assert_int_equal(frame_len, (size_t)(udp - p) + 8 + len);
    uint32_t sum;
    if (is_ipv4) {
        assert_int_equal(ip[0], 0x45);
        assert_int_equal(ip[1], tos);
        assert_int_equal(smt_get_be16(ip + 2), 28 + len);
        assert_int_equal(ip[9], 17);
        assert_memory_equal(ip + 12, from->ip + 12, 4);
        assert_memory_equal(ip + 16, to->ip + 12, 4);
        assert_int_equal(ones_sum(0, ip, 20), 0xffff);
        sum = ones_sum(0, ip + 12, 8);
    } else {
        assert_int_equal(smt_get_be32(ip), 6u << 28 | (uint32_t)tos << 20);
        assert_int_equal(smt_get_be16(ip + 4), 8 + len);
        assert_int_equal(ip[6], 17);
        assert_memory_equal(ip + 8, from->ip, 16);
        assert_memory_equal(ip + 24, to->ip, 16);
        sum = ones_sum(0, ip + 8, 32);
    }
    assert_int_equal(smt_get_be16(udp), from->port);
    assert_int_equal(smt_get_be16(udp + 2), to->port);
    assert_int_equal(smt_get_be16(udp + 4), 8 + len);
    assert_int_not_equal(smt_get_be16(udp + 6), 0);
    sum += 17 + (uint32_t)(8 + len);
    assert_int_equal(ones_sum(sum, udp, 8 + len), 0xffff);
    return udp + 8;
}

static void test_records(void **state)
{
    static const char *const pairs[][2] = {
        {"192.0.2.1:1000", "192.0.2.2:2000"},
        {"[2001:db8::1]:1000", "[2001:db8::2]:2000"},
    };
    static uint8_t data[65507];
    struct smt_prng g;
    smt_prng_seed(&g, 3);
    smt_prng_bytes(&g, data, sizeof(data));
    static const size_t lens[] = {0, 1, 2, 63, 64, 1447, 9000, 65507};
    struct smt_pcap *p;
    assert_int_equal(smt_pcap_open(path, NULL, 0, &p), 0);
    for (unsigned k = 0; k < 2 * SMT_ARRAY_LEN(lens); k++) {
        struct smt_addr from = addr(pairs[k % 2][0]), to = addr(pairs[k % 2][1]);
        smt_pcap_write(p, 1700000000123456789ull + k, &from, &to, (uint8_t)(k << 4 | 2), data,
                       lens[k / 2]);
    }
    assert_int_equal(smt_pcap_flush(p), 0);
    size_t n = file_read();
    smt_pcap_close(p);
    assert_int_equal(file_read(), n);

    assert_int_equal(host32(file), 0xa1b23c4d);
    assert_int_equal(host32(file + 20), 1);
    size_t at = 24;
    for (unsigned k = 0; k < 2 * SMT_ARRAY_LEN(lens); k++) {
        struct smt_addr from = addr(pairs[k % 2][0]), to = addr(pairs[k % 2][1]);
        assert_true(at + 16 <= n);
        assert_int_equal(host32(file + at), 1700000000);
        assert_int_equal(host32(file + at + 4), 123456789 + k);
        uint32_t frame_len = host32(file + at + 8);
        assert_int_equal(host32(file + at + 12), frame_len);
        at += 16;
        const uint8_t *payload =
            frame_check(file + at, frame_len, &from, &to, (uint8_t)(k << 4 | 2), lens[k / 2]);
        assert_memory_equal(payload, data, lens[k / 2]);
        at += frame_len;
    }
    assert_int_equal(at, n);
}

/* More than the buffer holds goes out by itself, whole records only. */
static void test_buffer_turns_over(void **state)
{
    static uint8_t data[50000];
    struct smt_addr a = addr("192.0.2.1:1");
    struct smt_pcap *p;
    assert_int_equal(smt_pcap_open(path, NULL, 0, &p), 0);
    for (unsigned i = 0; i < 40; i++)
        smt_pcap_write(p, i, &a, &a, 0, data, sizeof(data));
    size_t record = 16 + 14 + 28 + sizeof(data);
    size_t n = file_read();
    assert_true(n > 24 && (n - 24) % record == 0);
    smt_pcap_close(p);
    assert_int_equal(file_read(), 24 + 40 * record);
}

/* An address nobody knows goes with either family. */
static void test_unspecified_source(void **state)
{
    struct smt_addr none = {.port = 5}, to = addr("192.0.2.1:1");
    struct smt_pcap *p;
    assert_int_equal(smt_pcap_open(path, NULL, 0, &p), 0);
    smt_pcap_write(p, 0, &none, &to, 0, "x", 1);
    smt_pcap_close(p);
    assert_int_equal(file_read(), 24 + 16 + 14 + 28 + 1);
    (void)frame_check(file + 40, 43, &none, &to, 0, 1);
}

static void test_failures(void **state)
{
    char text[256] = "";
    struct smt_pcap *p = NULL;
    struct smt_mem_stats before = smt_mem_live();
    assert_int_equal(smt_pcap_open("/nonexistent/dir/x.pcap", text, sizeof(text), &p), SMT_EFILE);
    assert_non_null(strstr(text, "/nonexistent/dir/x.pcap"));
    assert_non_null(strstr(text, "No such file"));
    assert_true(smt_mem_live().n_live == before.n_live);
    smt_pcap_close(NULL);
    if (access("/dev/full", W_OK) != 0)
        return;
    struct smt_addr a = addr("192.0.2.1:1");
    assert_int_equal(smt_pcap_open("/dev/full", text, sizeof(text), &p), 0);
    for (unsigned i = 0; i < 1000; i++)
        smt_pcap_write(p, i, &a, &a, 0, text, sizeof(text));
    assert_int_equal(smt_pcap_flush(p), SMT_EFILE);
    smt_pcap_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_buffer_turns_over),
        cmocka_unit_test(test_unspecified_source),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
