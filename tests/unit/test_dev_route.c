/* What the kernel's routing tells, in a network of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <net/if_arp.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "dev/dev.h"
#include "dev/route.h"

static const char setup[] =
    "ip link set lo up && "
    "ip link add va address 02:00:00:00:00:0a type veth peer name vb && "
    "ip link set va mtu 1400 up && ip link set vb up && "
    "ip addr add 192.0.2.1/24 dev va && ip -6 addr add 2001:db8::1/64 dev va nodad && "
    "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 nud permanent dev va && "
    "ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 nud stale dev va && "
    "ip neigh add 2001:db8::2 lladdr 02:00:00:00:00:03 nud permanent dev va && "
    "ip route add 198.51.100.0/24 via 192.0.2.2 && "
    "ip route add 203.0.113.0/24 via 192.0.2.2 mtu 1300 && "
    "ip route add unreachable 192.0.2.128/25 2>/dev/null";

static int net_begin(void **state)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        *state = "no network namespace can be made here";
    else if (system(setup) != 0)
        *state = "no veth pair can be made here";
    return 0;
}

static int nl_begin(void **state)
{
    if (*state != NULL) {
        print_message("%s\n", (const char *)*state);
        skip();
    }
    int nl = smt_route_open();
    assert_true(nl >= 0);
    return nl;
}

static struct smt_addr address(const char *text)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve(text, 1, &a, 1), 1);
    return a;
}

static void assert_route(int nl, const char *to, const char *src, const char *hop, uint32_t mtu,
                         enum smt_hop_state state, uint8_t last_of_mac)
{
    struct smt_route r;
    struct smt_addr t = address(to), s = address(src), h = address(hop);
    assert_int_equal(smt_route_find(nl, &t, NULL, 0, &r), 0);
    assert_false(r.is_local);
    assert_memory_equal(r.src.ip, s.ip, 16);
    assert_memory_equal(r.hop.ip, h.ip, 16);
    assert_int_equal(r.mtu, mtu);
    assert_int_equal(r.state, state);
    if (state != SMT_HOP_UNKNOWN)
        assert_int_equal(r.mac[5], last_of_mac);
}

static void test_links(void **state)
{
    int nl = nl_begin(state);
    struct smt_link l, again;
    assert_int_equal(smt_link_find(nl, "va", 0, &l), 0);
    assert_string_equal(l.name, "va");
    assert_string_equal(l.kind, "veth");
    assert_int_equal(l.mtu, 1400);
    assert_int_equal(l.type, ARPHRD_ETHER);
    assert_int_equal(l.mac[5], 0x0a);
    assert_true(l.is_up);
    assert_false(l.is_noarp);
    assert_int_equal(smt_link_find(nl, NULL, l.ifindex, &again), 0);
    assert_string_equal(again.name, "va");
    assert_int_equal(smt_link_find(nl, "lo", 0, &l), 0);
    assert_true(l.is_noarp);
    assert_string_equal(l.kind, "");
    assert_int_equal(smt_link_find(nl, "nosuch", 0, &l), SMT_ENODEV);
    assert_int_equal(smt_link_find(nl, "a-name-that-is-too-long", 0, &l), SMT_ENODEV);
    assert_int_equal(smt_link_find(nl, NULL, 9999, &l), SMT_ENODEV);
    close(nl);
}

static void test_routes(void **state)
{
    int nl = nl_begin(state);
    assert_route(nl, "192.0.2.2", "192.0.2.1", "192.0.2.2", 1400, SMT_HOP_GOOD, 2);
    assert_route(nl, "192.0.2.9", "192.0.2.1", "192.0.2.9", 1400, SMT_HOP_STALE, 9);
    assert_route(nl, "192.0.2.77", "192.0.2.1", "192.0.2.77", 1400, SMT_HOP_UNKNOWN, 0);
    assert_route(nl, "198.51.100.7", "192.0.2.1", "192.0.2.2", 1400, SMT_HOP_GOOD, 2);
    assert_route(nl, "203.0.113.7", "192.0.2.1", "192.0.2.2", 1300, SMT_HOP_GOOD, 2);
    assert_route(nl, "2001:db8::2", "2001:db8::1", "2001:db8::2", 1400, SMT_HOP_GOOD, 3);
    close(nl);
}

static void test_no_route(void **state)
{
    int nl = nl_begin(state);
    struct smt_route r;
    static const char *const nowhere[] = {"192.0.2.200", "8.8.8.8", "2001:db8:1::1"};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(nowhere); i++) {
        struct smt_addr to = address(nowhere[i]);
        assert_int_equal(smt_route_find(nl, &to, NULL, 0, &r), SMT_EUNREACHABLE);
    }
    close(nl);
}

static void test_local(void **state)
{
    int nl = nl_begin(state);
    struct smt_route r;
    struct smt_addr own = address("192.0.2.1"), lo = address("127.0.0.1");
    assert_int_equal(smt_route_find(nl, &own, NULL, 0, &r), 0);
    assert_true(r.is_local);
    assert_int_equal(smt_route_find(nl, &lo, NULL, 0, &r), 0);
    assert_true(r.is_local);
    assert_int_equal(r.state, SMT_HOP_GOOD);
    close(nl);
}

static void test_addresses(void **state)
{
    int nl = nl_begin(state);
    struct smt_link va, vb;
    assert_int_equal(smt_link_find(nl, "va", 0, &va), 0);
    assert_int_equal(smt_link_find(nl, "vb", 0, &vb), 0);
    static const struct {
        const char *text;
        bool on_va;
    } rows[] = {
        {"192.0.2.1", true},    {"192.0.2.2", false}, {"2001:db8::1", true},
        {"2001:db8::2", false}, {"127.0.0.1", false},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_addr a = address(rows[i].text);
        bool has;
        assert_int_equal(smt_link_has_addr(nl, va.ifindex, &a, &has), 0);
        assert_int_equal(has, rows[i].on_va);
        assert_int_equal(smt_link_has_addr(nl, vb.ifindex, &a, &has), 0);
        assert_false(has);
    }
    /* A dump leaves nothing behind for the next question. */
    assert_route(nl, "192.0.2.2", "192.0.2.1", "192.0.2.2", 1400, SMT_HOP_GOOD, 2);
    close(nl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_links),     cmocka_unit_test(test_routes),
        cmocka_unit_test(test_no_route),  cmocka_unit_test(test_local),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, net_begin, NULL);
}
