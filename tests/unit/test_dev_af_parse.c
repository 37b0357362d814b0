/* Ethernet frames as they come, and each thing that can be wrong with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "dev/af_parse.h"

enum { IP = SMT_AF_ETH_LEN, FRAME_MAX = 128 };

struct frame {
    uint8_t bytes[SMT_AF_VNET_LEN + FRAME_MAX];
    uint32_t len;
};

/* Made by an independent script: 192.0.2.1:4242 to 192.0.2.2:18515 "hello", ECT(0); and the same in
 * IPv6, "hello6!", CE, with 2001:db8::1 and ::2. */
static const uint8_t v4[] = {
    0x02, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x02, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x08, 0x00, 0x45, 0x02,
    0x00, 0x21, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb6, 0xc6, 0xc0, 0x00, 0x02, 0x01, 0xc0, 0x00,
    0x02, 0x02, 0x10, 0x92, 0x48, 0x53, 0x00, 0x0d, 0xdf, 0x18, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
};
static const uint8_t v6[] = {
    0x02, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x02, 0x00, 0x00, 0x00, 0x00, 0x0b, 0x86, 0xdd, 0x60, 0x30,
    0x00, 0x00, 0x00, 0x0f, 0x11, 0x40, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x20, 0x01, 0x0d, 0xb8, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x10, 0x92, 0x48, 0x53, 0x00, 0x0f, 0xe6, 0x6d, 0x68, 0x65,
    0x6c, 0x6c, 0x6f, 0x36, 0x21,
};

static struct frame make(const uint8_t *bytes, size_t len)
{
    struct frame f = {.len = (uint32_t)len};
    memcpy(f.bytes + SMT_AF_VNET_LEN, bytes, len);
    return f;
}

#define MAKE(bytes) make(bytes, sizeof(bytes))

static uint8_t *frame_at(struct frame *f, unsigned at)
{
    return f->bytes + SMT_AF_VNET_LEN + at;
}

static bool parse(struct frame *f, struct smt_af_seen *out)
{
    return smt_af_parse(SMT_AF_PROTO_UDP, f->bytes, frame_at(f, 0), f->len, false, out);
}

/* Another IP protocol: all of its payload, and the IPv4 identification. */
static void test_raw(void **state)
{
    enum { PROTO = 253 };
    struct smt_af_seen s;
    struct frame f = MAKE(v4);
    *frame_at(&f, IP + 9) = PROTO;
    smt_put_be16(frame_at(&f, IP + 4), 77);
    assert_false(parse(&f, &s));
    assert_true(smt_af_parse(PROTO, f.bytes, frame_at(&f, 0), f.len, false, &s));
    assert_int_equal(s.from.port, 4242);
    assert_ptr_equal(s.payload, frame_at(&f, IP + SMT_AF_IPV4_LEN));
    assert_int_equal(s.payload_len, 13);
    assert_int_equal(s.seg_len, 13);
    assert_int_equal(s.ip_id, 77);
    f.bytes[1] = SMT_AF_VNET_GSO_UDP_L4; /* there are no super-frames of it */
    f.bytes[4] = 5;
    assert_false(smt_af_parse(PROTO, f.bytes, frame_at(&f, 0), f.len, false, &s));
    f.bytes[1] = 0;
    smt_put_be16(frame_at(&f, IP + 2), SMT_AF_IPV4_LEN + 3); /* no room for ports */
    assert_false(smt_af_parse(PROTO, f.bytes, frame_at(&f, 0), f.len, false, &s));
    f = MAKE(v6);
    *frame_at(&f, IP + 6) = PROTO;
    assert_true(smt_af_parse(PROTO, f.bytes, frame_at(&f, 0), f.len, false, &s));
    assert_int_equal(s.payload_len, 15);
    assert_int_equal(s.ip_id, 0);
}

static void test_good(void **state)
{
    struct smt_af_seen s;
    struct frame f = MAKE(v4);
    assert_true(parse(&f, &s));
    assert_int_equal(s.from.port, 4242);
    assert_int_equal(s.from.ip[15], 1);
    assert_int_equal(s.to_ip[15], 2);
    assert_true(smt_addr_is_ipv4(&s.from));
    assert_int_equal(s.payload_len, 5);
    assert_int_equal(s.seg_len, 5);
    assert_memory_equal(s.payload, "hello", 5);
    assert_int_equal(s.ecn, 2);
    f = MAKE(v6);
    assert_true(parse(&f, &s));
    assert_int_equal(s.from.ip[0], 0x20);
    assert_int_equal(s.to_ip[15], 2);
    assert_memory_equal(s.payload, "hello6!", 7);
    assert_int_equal(s.ecn, 3);
    /* An Ethernet frame may be padded behind. */
    f = MAKE(v4);
    f.len += 13;
    assert_true(parse(&f, &s));
    assert_int_equal(s.payload_len, 5);
}

static void test_super(void **state)
{
    struct smt_af_seen s;
    struct frame f = MAKE(v6);
    uint16_t gso_size = 3;
    f.bytes[0] = SMT_AF_VNET_NEEDS_CSUM;
    f.bytes[1] = SMT_AF_VNET_GSO_UDP_L4 | SMT_AF_VNET_GSO_ECN;
    memcpy(f.bytes + 4, &gso_size, 2);
    assert_true(parse(&f, &s));
    assert_int_equal(s.seg_len, 3);
    assert_int_equal(s.payload_len, 7);
    memset(f.bytes + 4, 0, 2);
    assert_false(parse(&f, &s)); /* segments of nothing */
    memcpy(f.bytes + 4, &gso_size, 2);
    f.bytes[1] = 1; /* TCP */
    assert_false(parse(&f, &s));
}

/* Cut anywhere, no byte behind the end is believed. */
static void test_short(void **state)
{
    struct smt_af_seen s;
    for (uint32_t len = 0; len < sizeof(v4); len++) {
        struct frame f = make(v4, len);
        assert_false(parse(&f, &s));
    }
    for (uint32_t len = 0; len < sizeof(v6); len++) {
        struct frame f = make(v6, len);
        assert_false(parse(&f, &s));
    }
}

static void test_checksum(void **state)
{
    struct smt_af_seen s;
    for (unsigned at = IP + 12; at < sizeof(v4); at++) {
        struct frame f = MAKE(v4);
        *frame_at(&f, at) ^= 0x10;
        assert_false(parse(&f, &s)); /* addresses, ports, length, sum, data */
    }
    struct frame f = MAKE(v4);
    *frame_at(&f, sizeof(v4) - 1) ^= 1;
    assert_true(smt_af_parse(SMT_AF_PROTO_UDP, f.bytes, frame_at(&f, 0), f.len, true, &s));
    f.bytes[0] = SMT_AF_VNET_DATA_VALID;
    assert_true(parse(&f, &s));
    /* IPv4 may have none, IPv6 may not. */
    f = MAKE(v4);
    smt_put_be16(frame_at(&f, IP + SMT_AF_IPV4_LEN + 6), 0);
    assert_true(parse(&f, &s));
    f = MAKE(v6);
    smt_put_be16(frame_at(&f, IP + SMT_AF_IPV6_LEN + 6), 0);
    assert_false(parse(&f, &s));
}

static void test_not_for_us(void **state)
{
    static const struct {
        const char *what;
        unsigned at;
        uint8_t value;
    } rows[] = {
        {"an ARP packet", 13, 0x06},       {"version 5", IP, 0x55},
        {"a header of 16 bytes", IP, 0x44}, {"a header beyond the packet", IP, 0x4f},
        {"total length 0", IP + 3, 0},     {"total length too large", IP + 3, 0x22},
        {"more fragments", IP + 6, 0x20},  {"a later fragment", IP + 7, 1},
        {"TCP", IP + 9, 6},                {"UDP length 8", IP + 25, 8},
        {"UDP length 7", IP + 25, 7},      {"UDP length beyond the packet", IP + 25, 14},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_af_seen s;
        struct frame f = MAKE(v4);
        *frame_at(&f, rows[i].at) = rows[i].value;
        f.bytes[0] = SMT_AF_VNET_DATA_VALID; /* the checksum alone must not be what stops it */
        if (parse(&f, &s))
            fail_msg("accepted: %s", rows[i].what);
    }
    struct smt_af_seen s;
    struct frame f = MAKE(v6);
    f.bytes[0] = SMT_AF_VNET_DATA_VALID;
    *frame_at(&f, IP + 6) = 0; /* hop-by-hop options first */
    assert_false(parse(&f, &s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw),
        cmocka_unit_test(test_good),     cmocka_unit_test(test_super),
        cmocka_unit_test(test_short),    cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_not_for_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
