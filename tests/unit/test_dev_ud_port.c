/* Which RDMA port is taken, and what people are told when none is: the judgement on plain tables,
 * then opening over the provider in software. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "dev/dev_impl.h"
#include "dev/ud_choose.h"
#include "dev/ud_env.h"
#include "dev/ud_port.h"
#include "dev/verbs_probe.h"
#include "verbs_model.h"

enum { LO = 1 };

/* ---- plain tables -----------------------------------------------------------------------------
 */

static void gid_add(struct smt_ud_scan *s, uint32_t index, const char *ip, uint32_t type,
                    uint32_t ifindex)
{
    struct ibv_gid_entry *e = &s->entries[s->n_entries++];
    *e = (struct ibv_gid_entry){
        .gid_index = index, .port_num = s->number, .gid_type = type, .ndev_ifindex = ifindex};
    if (strchr(ip, ':') != NULL) {
        assert_int_equal(inet_pton(AF_INET6, ip, e->gid.raw), 1);
        return;
    }
    e->gid.raw[10] = e->gid.raw[11] = 0xff;
    assert_int_equal(inet_pton(AF_INET, ip, e->gid.raw + 12), 1);
}

static struct smt_ud_scan roce(const char *name, const char *ip, uint32_t ifindex)
{
    struct smt_ud_scan s = {
        .has_ud = true,
        .number = 1,
        .n_ports = 1,
        .state = IBV_PORT_ACTIVE,
        .mtu = 1024,
        .max_mtu = 4096,
    };
    strcpy(s.devname, name);
    strcpy(s.node, "/dev/infiniband/uverbs3");
    gid_add(&s, 0, "fe80::1", IBV_GID_TYPE_ROCE_V1, ifindex);
    gid_add(&s, 1, "fe80::1", IBV_GID_TYPE_ROCE_V2, ifindex);
    if (ip != NULL) {
        gid_add(&s, 2, ip, IBV_GID_TYPE_ROCE_V1, ifindex);
        gid_add(&s, 3, ip, IBV_GID_TYPE_ROCE_V2, ifindex);
    }
    return s;
}

static struct smt_ud_scan infiniband(const char *name)
{
    struct smt_ud_scan s = {
        .has_ud = true,
        .number = 1,
        .n_ports = 1,
        .state = IBV_PORT_ACTIVE,
        .is_ib = true,
        .lid = 4,
        .mtu = 4096,
        .max_mtu = 4096,
        .ib_ifindex = LO,
    };
    strcpy(s.devname, name);
    gid_add(&s, 0, "fe80::a:b", IBV_GID_TYPE_IB, 0);
    return s;
}

static struct smt_addr address(const char *host)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve(host, 0, &a, 1), 1);
    return a;
}

static struct smt_ud_verdict judge(const struct smt_ud_scan *s, const struct smt_ud_want *want)
{
    struct smt_ud_verdict v;
    smt_ud_judge(s, want, &v);
    assert_true((v.code == 0) == (v.reason[0] == '\0'));
    return v;
}

static const struct smt_ud_want anything = {.gid = -1};

static void test_judge_good(void **state)
{
    struct smt_ud_scan s = roce("rxe0", "192.0.2.7", LO);
    struct smt_ud_verdict v = judge(&s, &anything);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.ifindex, LO);
    assert_string_equal(v.ifname, "lo");
    assert_int_equal(v.n_gids, 2); /* RoCE v2 only */
    assert_int_equal(v.gids[0].index, 1);
    assert_int_equal(v.gids[1].index, 3);
    s = infiniband("mlx5_0");
    v = judge(&s, &anything);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, 1);
    /* Link-local only is an address too. */
    s = roce("rxe0", NULL, LO);
    v = judge(&s, &anything);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, 1);
}

/* A RoCE port has a link-local GID even when its interface has no address at all. */
static void test_hollow_gid(void **state)
{
    struct smt_ud_scan s = roce("rxe0", NULL, LO);
    s.is_hollow[0] = s.is_hollow[1] = true;
    struct smt_ud_verdict v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_ENODEV);
    assert_non_null(strstr(v.reason, "no address"));
    s = roce("rxe0", "192.0.2.7", LO);
    s.is_hollow[0] = s.is_hollow[1] = true;
    v = judge(&s, &anything);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, 1);
    assert_int_equal(v.gids[0].index, 3);
    struct smt_ud_want want = {.gid = 1};
    v = judge(&s, &want);
    assert_int_equal(v.code, SMT_EINVAL);
    assert_non_null(strstr(v.reason, "its interface does not have"));
}

static void test_judge_bad(void **state)
{
    struct smt_ud_scan s = roce("rxe0", "192.0.2.7", LO);
    s.has_ud = false;
    struct smt_ud_verdict v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_EUNSUPPORTED);
    assert_non_null(strstr(v.reason, "iWARP"));

    s = roce("rxe0", "192.0.2.7", LO);
    s.open_error = EACCES;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_EPERM);
    assert_non_null(strstr(v.reason, "/dev/infiniband/uverbs3"));

    s = roce("rxe0", "192.0.2.7", LO);
    s.state = IBV_PORT_DOWN;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_EDEVICE);
    assert_non_null(strstr(v.reason, "is down"));
    assert_non_null(strstr(v.reason, "ip link set lo up"));

    s = roce("rxe0", "192.0.2.7", LO);
    s.mtu = 512;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_EMTU);
    assert_non_null(strstr(v.reason, "1120"));

    s = roce("rxe0", NULL, LO);
    s.n_entries = 1;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_ENODEV);
    assert_non_null(strstr(v.reason, "RoCE v1"));
    s.n_entries = 0;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_ENODEV);
    assert_non_null(strstr(v.reason, "no address"));

    s = infiniband("mlx5_0");
    s.ib_ifindex = 0;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_ENODEV);
    assert_non_null(strstr(v.reason, "ib_ipoib"));
    s = infiniband("mlx5_0");
    s.state = IBV_PORT_INIT;
    s.ib_ifindex = 0;
    v = judge(&s, &anything);
    assert_non_null(strstr(v.reason, "subnet manager"));
    s = infiniband("mlx5_0");
    s.mtu = 256;
    v = judge(&s, &anything);
    assert_int_equal(v.code, SMT_EMTU);
    assert_non_null(strstr(v.reason, "subnet manager"));
}

static void test_forced_gid(void **state)
{
    struct smt_ud_scan s = roce("rxe0", "192.0.2.7", LO);
    struct smt_ud_want want = {.gid = 3};
    struct smt_ud_verdict v = judge(&s, &want);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, 1);
    assert_int_equal(v.gids[0].index, 3);
    want.gid = 2;
    v = judge(&s, &want);
    assert_int_equal(v.code, SMT_EINVAL);
    assert_non_null(strstr(v.reason, "GID 2 is RoCE v1"));
    assert_non_null(strstr(v.reason, "usable: 1, 3"));
    want.gid = 9;
    v = judge(&s, &want);
    assert_int_equal(v.code, SMT_EINVAL);
    assert_non_null(strstr(v.reason, "GID 9 is empty"));
    /* Together with an address that it is not. */
    want.gid = 3;
    want.bind = address("192.0.2.8");
    v = judge(&s, &want);
    assert_int_equal(v.code, SMT_ENAME);
    assert_non_null(strstr(v.reason, "192.0.2.8 at the index"));
}

/* A port with as many addresses as its table holds: the last one is found as well. */
static void test_many_addresses(void **state)
{
    struct smt_ud_scan s = roce("mlx5_0", NULL, LO);
    char ip[32] = "";
    for (unsigned i = 2; i < SMT_UD_SCAN_GIDS; i++) {
        snprintf(ip, sizeof(ip), "10.1.0.%u", i / 2);
        gid_add(&s, i, ip, i % 2 == 0 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2, LO);
    }
    struct smt_ud_want want = {.gid = -1, .bind = address(ip)};
    struct smt_ud_verdict v;
    smt_ud_judge(&s, &want, &v);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, 1);
    assert_int_equal(v.gids[0].index, SMT_UD_SCAN_GIDS - 1);
    want.bind = (struct smt_addr){0};
    smt_ud_judge(&s, &want, &v);
    assert_int_equal(v.code, 0);
    assert_int_equal(v.n_gids, SMT_UD_MAX_GIDS);
}

/* A VLAN's GIDs stand in the same table; one interface is used. */
static void test_two_interfaces(void **state)
{
    struct smt_ud_scan s = roce("mlx5_0", "192.0.2.7", 50);
    gid_add(&s, 4, "fe80::1", IBV_GID_TYPE_ROCE_V2, 51);
    gid_add(&s, 5, "198.51.100.7", IBV_GID_TYPE_ROCE_V2, 51);
    struct smt_ud_want want = anything;
    struct smt_ud_verdict v = judge(&s, &want);
    assert_int_equal(v.ifindex, 50);
    assert_int_equal(v.n_gids, 2);
    want.ifindex = 51;
    v = judge(&s, &want);
    assert_int_equal(v.ifindex, 51);
    assert_int_equal(v.n_gids, 2);
    assert_int_equal(v.gids[1].index, 5);
    want = anything;
    want.bind = address("198.51.100.7");
    v = judge(&s, &want);
    assert_int_equal(v.ifindex, 51);
    assert_int_equal(v.n_gids, 1);
    want = (struct smt_ud_want){.gid = 5};
    v = judge(&s, &want);
    assert_int_equal(v.ifindex, 51);
}

static int choose(const struct smt_ud_scan *ports, unsigned n, const struct smt_ud_want *want,
                  char text[512])
{
    struct smt_ud_verdict v[8];
    text[0] = '\0';
    for (unsigned i = 0; i < n; i++)
        smt_ud_judge(&ports[i], want, &v[i]);
    int r = smt_ud_choose(ports, v, n, want, text, 512);
    assert_true(text[0] != '\0');
    return r;
}

static void test_choose(void **state)
{
    struct smt_ud_scan p[4] = {
        roce("mlx5_0", "192.0.2.7", 50),
        roce("mlx5_1", "198.51.100.7", 51),
        roce("rxe0", "203.0.113.7", LO),
        infiniband("mlx5_2"),
    };
    p[3].ib_ifindex = 60;
    p[1].n_ports = 2;
    char text[512];
    struct smt_ud_want want = anything;
    assert_int_equal(choose(p, 4, &want, text), 0);
    assert_string_equal(text, "the first usable one");
    want.route_ifindex = 51;
    assert_int_equal(choose(p, 4, &want, text), 1);
    assert_string_equal(text, "the default route leaves by its interface");
    want.route_ifindex = 60;
    assert_int_equal(choose(p, 4, &want, text), 3);
    want.route_ifindex = 99;
    assert_int_equal(choose(p, 4, &want, text), 0);
    p[0].state = p[1].state = p[3].state = IBV_PORT_DOWN;
    assert_int_equal(choose(p, 4, &want, text), 2);
    assert_string_equal(text, "the only usable one");
    p[0].state = p[1].state = p[3].state = IBV_PORT_ACTIVE;

    want = anything;
    want.bind = address("198.51.100.7");
    assert_int_equal(choose(p, 4, &want, text), 1);
    want = anything;
    want.name = "rxe0";
    assert_int_equal(choose(p, 4, &want, text), 2);
    assert_string_equal(text, "it was named");
    want = (struct smt_ud_want){.gid = -1, .name = "eth1", .ifindex = 51};
    assert_int_equal(choose(p, 4, &want, text), 1);
    want = (struct smt_ud_want){.gid = -1, .name = "ib0", .ifindex = 60};
    assert_int_equal(choose(p, 4, &want, text), 3);
    /* Both an RDMA device and an interface have the name: the device is meant. */
    want = (struct smt_ud_want){.gid = -1, .name = "rxe0", .ifindex = 51};
    assert_int_equal(choose(p, 4, &want, text), 2);

    want = (struct smt_ud_want){.gid = -1, .name = "nonsense"};
    assert_int_equal(choose(p, 4, &want, text), SMT_ENODEV);
    assert_non_null(strstr(text, "no RDMA device or network interface \"nonsense\""));
    assert_non_null(strstr(text, "rxe0 (lo)"));
    want = (struct smt_ud_want){.gid = -1, .name = "eth9", .ifindex = 77};
    assert_int_equal(choose(p, 4, &want, text), SMT_ENODEV);
    assert_non_null(strstr(text, "carries no RDMA port"));
    want = (struct smt_ud_want){.gid = -1, .port = 3};
    assert_int_equal(choose(p, 4, &want, text), SMT_ENODEV);
    assert_non_null(strstr(text, "port 3"));
    want = (struct smt_ud_want){.gid = -1, .name = "mlx5_1", .port = 2};
    p[2] = p[1];
    p[2].number = 2;
    assert_int_equal(choose(p, 4, &want, text), 2);

    /* One that was named and cannot be used says why itself; of several the first does. */
    p[0].state = IBV_PORT_DOWN;
    want = (struct smt_ud_want){.gid = -1, .name = "mlx5_0"};
    assert_int_equal(choose(p, 4, &want, text), SMT_EDEVICE);
    assert_memory_equal(text, "mlx5_0 port 1 is down", 21);
    p[1].mtu = p[2].mtu = p[3].mtu = 256;
    want = anything;
    assert_int_equal(choose(p, 4, &want, text), SMT_EDEVICE);
    assert_non_null(strstr(text, "none of 4 RDMA ports"));
}

/* ---- sentences --------------------------------------------------------------------------------
 */

static void test_memlock(void **state)
{
    char text[512];
    struct smt_ud_text t = {text, sizeof(text)};
    assert_int_equal(smt_ud_env_memlock(t, 37 << 20, 8 << 20), SMT_ENOMEM);
    assert_non_null(strstr(text, "needs 37888 kB"));
    assert_non_null(strstr(text, "may lock 8192 kB"));
    assert_non_null(strstr(text, "* - memlock unlimited"));
    assert_non_null(strstr(text, "/etc/security/limits.d/rdma.conf"));
    assert_non_null(strstr(text, "LimitMEMLOCK=infinity"));
    assert_non_null(strstr(text, "--ulimit memlock=-1"));
    assert_true(smt_ud_env_memlock_allowed() > 0);
}

static void test_sentences(void **state)
{
    char text[512];
    struct smt_ud_text t = {text, sizeof(text)};
    assert_int_equal(smt_ud_env_open(t, "rxe0", "/dev/infiniband/uverbs0", ENOENT), SMT_ENODEV);
    assert_non_null(strstr(text, "--device=/dev/infiniband"));
    assert_int_equal(smt_ud_env_open(t, "rxe0", "/dev/infiniband/uverbs0", EIO), SMT_EDEVICE);
    assert_int_equal(smt_ud_env_create(t, "rxe0", "queue pair", ENOMEM, 0), SMT_ENOMEM);
    assert_int_equal(smt_ud_env_create(t, "rxe0", "queue pair", EOPNOTSUPP, 0), SMT_EUNSUPPORTED);
    assert_non_null(strstr(text, "queue pair"));
    assert_int_equal(smt_ud_env_create(t, "rxe0", "queue pair", EACCES, 0), SMT_EPERM);
    assert_int_equal(smt_ud_env_create(t, "rxe0", "queue pair", EINVAL, 0), SMT_EDEVICE);
    assert_int_equal(smt_ud_env_no_answer(t, "192.0.2.1:5", 7), SMT_EUNREACHABLE);
    assert_non_null(strstr(text, "udp peer does not answer"));
    assert_int_equal(smt_ud_env_no_packets(t, "192.0.2.1:5", true), SMT_EUNREACHABLE);
    assert_non_null(strstr(text, "P_Key"));
    assert_int_equal(smt_ud_env_mtu_mismatch(t, "192.0.2.1:5", false, 4096, 1024), 0);
    assert_non_null(strstr(text, "1024 are used"));
    assert_non_null(strstr(text, "at that end"));
    assert_non_null(strstr(text, "4192"));
    assert_int_equal(smt_ud_env_mtu_mismatch(t, "192.0.2.1:5", false, 1024, 4096), 0);
    assert_non_null(strstr(text, "at this end"));
    assert_int_equal(smt_ud_env_mtu_mismatch(t, "192.0.2.1:5", true, 2048, 4096), 0);
    assert_non_null(strstr(text, "subnet manager"));
    assert_int_equal(smt_ud_env_no_device(t, ENOSYS), SMT_ENODEV);
    assert_memory_equal(text, "no RDMA device", 14);
    /* Nobody has to want the text. */
    assert_int_equal(smt_ud_env_iwarp((struct smt_ud_text){NULL, 0}, "siw0"), SMT_EUNSUPPORTED);
    assert_int_equal(smt_ud_env_fork(t), 0);
}

/* Everything that can be said fits into the buffers of smt_ctx_open and smt_device_list. */
static void test_sentences_fit(void **state)
{
    char text[2048], big[1024];
    struct smt_ud_text t = {text, sizeof(text)};
    const char *dev = "a_name_of_24_characters_", *ifname = "interface_of_15";
    const char *addr = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    memset(big, 'x', sizeof(big));
    const unsigned most = 480;
#define FITS(call)                                                                                 \
    do {                                                                                           \
        (void)(call);                                                                              \
        assert_in_range(strlen(text), 20, most);                                                   \
    } while (0)
    FITS(smt_ud_env_no_device(t, ENOSYS));
    FITS(smt_ud_env_open(t, dev, "/dev/infiniband/uverbs100", EACCES));
    FITS(smt_ud_env_open(t, dev, "/dev/infiniband/uverbs100", ENOENT));
    FITS(smt_ud_env_memlock(t, UINT64_MAX / 2, UINT64_MAX / 2));
    FITS(smt_ud_env_create(t, dev, "completion queue", ENOMEM, 0));
    FITS(smt_ud_env_port_down(t, dev, 255, ifname, "in an unknown state"));
    FITS(smt_ud_env_mtu(t, dev, 255, ifname, false, 512));
    FITS(smt_ud_env_mtu(t, dev, 255, ifname, true, 512));
    FITS(smt_ud_env_no_gid(t, dev, 255, ifname, false));
    FITS(smt_ud_env_no_gid(t, dev, 255, ifname, true));
    FITS(smt_ud_env_no_ipoib(t, dev, 255));
    FITS(smt_ud_env_gid_index(t, dev, 255, 65535, "InfiniBand", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"));
    FITS(smt_ud_env_mtu_mismatch(t, addr, false, 1024, 4096));
    FITS(smt_ud_env_no_answer(t, addr, UINT32_MAX));
    FITS(smt_ud_env_no_packets(t, addr, false));
    FITS(smt_ud_env_no_path(t, addr, dev, ifname));
    FITS(smt_ud_env_no_scope(t, addr, ifname));
#undef FITS
}

/* ---- opening over the model -------------------------------------------------------------------
 */

static int setup(void **state)
{
    verbs_model_reset();
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(verbs_model_n_live(), 0);
    return 0;
}

static int port_open(const char *spec, const char *host, struct smt_ud_port *port, char text[512])
{
    struct smt_dev_config config = {
        .spec = spec, .bind_host = host, .error_text = text, .error_text_len = 512};
    text[0] = '\0';
    int r = smt_ud_port_open(&config, port);
    assert_true((r == 0) == (port->ctx != NULL));
    assert_true((r == 0) == (text[0] == '\0'));
    return r;
}

static void test_open(void **state)
{
    static const char *const specs[] = {"ud", "ud:model0", "ud:lo", "ud:lo,port=1", "ud:,gid=3"};
    char text[512];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(specs); i++) {
        struct smt_ud_port port;
        assert_int_equal(port_open(specs[i], NULL, &port, text), 0);
        assert_string_equal(port.devname, "model0");
        assert_string_equal(port.ifname, "lo");
        assert_int_equal(port.number, 1);
        assert_true(port.is_up && !port.is_ib);
        assert_true(port.mtu >= 1024);
        smt_ud_port_close(&port);
        smt_ud_port_close(&port);
    }
}

static void test_open_fails(void **state)
{
    static const struct {
        const char *spec, *host, *word;
        int code;
    } table[] = {
        {"ud:nothing", NULL, "\"nothing\"", SMT_ENODEV},
        {"ud:model0,port=2", NULL, "there is", SMT_ENODEV},
        {"ud:model0,gid=200", NULL, "GID 200 is empty", SMT_EINVAL},
        {"ud:model0,mtu=1", NULL, "no option", SMT_EINVAL},
        {"ud", "192.0.2.99", "192.0.2.99", SMT_ENAME},
        {"ud", "127.0.0.1:5", "names a port", SMT_EINVAL},
        {"ud", "[", "not understood", SMT_ENAME},
    };
    struct smt_ud_port port;
    char text[512];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(table); i++) {
        assert_int_equal(port_open(table[i].spec, table[i].host, &port, text), table[i].code);
        assert_non_null(strstr(text, table[i].word));
    }
    verbs_model.fail[VERBS_MODEL_OPEN_DEVICE] = (struct verbs_model_failure){0, 1, EACCES};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_EPERM);
    assert_non_null(strstr(text, "/dev/infiniband/uverbs0"));
    /* The second time, when the chosen one is opened for good. */
    verbs_model.fail[VERBS_MODEL_OPEN_DEVICE] = (struct verbs_model_failure){1, 1, ENOENT};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_ENODEV);
    verbs_model.fail[VERBS_MODEL_QUERY_DEVICE] = (struct verbs_model_failure){1, 1, EIO};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_EDEVICE);
    verbs_model.fail[VERBS_MODEL_QUERY_PORT] = (struct verbs_model_failure){0, 1, EIO};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_EDEVICE);
    verbs_model.fail[VERBS_MODEL_QUERY_GIDS] = (struct verbs_model_failure){0, 1, EIO};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_EDEVICE);
    verbs_model.n_devices = 0;
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_ENODEV);
    assert_memory_equal(text, "no RDMA device", 14);
    verbs_model.fail[VERBS_MODEL_GET_DEVICE_LIST] = (struct verbs_model_failure){0, 1, ENOSYS};
    assert_int_equal(port_open("ud", NULL, &port, text), SMT_ENODEV);
}

static void test_source(void **state)
{
    char text[512];
    struct smt_ud_port port;
    struct smt_addr local, to = address("127.0.0.1");
    assert_int_equal(port_open("ud", NULL, &port, text), 0);
    const struct smt_ud_gid *gid = smt_ud_port_source(&port, &to, &local);
    assert_non_null(gid);
    assert_memory_equal(gid->gid, to.ip, 16);
    assert_true(smt_addr_equal(&local, &to));
    assert_ptr_equal(smt_ud_port_gid_of(&port, to.ip), gid);
    to = address("::1");
    gid = smt_ud_port_source(&port, &to, &local);
    assert_true(gid == NULL || memcmp(gid->gid, to.ip, 16) == 0); /* without IPv6 no route */
    smt_ud_port_close(&port);

    /* A forced GID is the source whatever the kernel would take, within its family. */
    verbs_model_set_gid(0, 9, "127.0.0.9", IBV_GID_TYPE_ROCE_V2, "lo");
    assert_int_equal(port_open("ud:model0,gid=9", NULL, &port, text), 0);
    to = address("127.0.0.1");
    gid = smt_ud_port_source(&port, &to, &local);
    assert_non_null(gid);
    assert_int_equal(gid->index, 9);
    assert_int_equal(local.ip[15], 9);
    to = address("::1");
    assert_null(smt_ud_port_source(&port, &to, &local));
    smt_ud_port_close(&port);

    assert_int_equal(port_open("ud", "127.0.0.9", &port, text), 0);
    to = address("127.0.0.1");
    gid = smt_ud_port_source(&port, &to, &local);
    assert_non_null(gid);
    assert_int_equal(gid->index, 9);
    smt_ud_port_close(&port);
}

static void test_refresh(void **state)
{
    char text[512];
    struct smt_ud_port port;
    assert_int_equal(port_open("ud", NULL, &port, text), 0);
    struct verbs_model_device *d = &verbs_model.devices[0];
    d->port_state = IBV_PORT_DOWN;
    d->active_mtu = IBV_MTU_2048;
    assert_int_equal(smt_ud_port_refresh(&port), 0);
    assert_false(port.is_up);
    assert_int_equal(port.mtu, 2048);
    assert_true(port.n_gids > 0);
    d->port_state = IBV_PORT_ACTIVE;
    memset(d->gids, 0, sizeof(d->gids));
    assert_int_equal(smt_ud_port_refresh(&port), 0);
    assert_true(port.is_up);
    assert_int_equal(port.n_gids, 0);
    assert_string_equal(port.ifname, "lo");
    verbs_model_set_gid(0, 4, "127.0.0.4", IBV_GID_TYPE_ROCE_V2, "lo");
    assert_int_equal(smt_ud_port_refresh(&port), 0);
    assert_int_equal(port.n_gids, 1);
    assert_int_equal(port.gids[0].index, 4);
    verbs_model.fail[VERBS_MODEL_QUERY_PORT] = (struct verbs_model_failure){0, 1, EIO};
    assert_int_equal(smt_ud_port_refresh(&port), SMT_EDEVICE);
    assert_int_equal(port.n_gids, 1);
    smt_ud_port_close(&port);
}

static void test_report(void **state)
{
    struct smt_dev_report r[4];
    assert_int_equal(smt_verbs_report(r, 4), 1);
    assert_string_equal(r[0].name, "ud:model0");
    assert_true(r[0].usable);
    assert_string_equal(r[0].reason, "");
    assert_non_null(strstr(r[0].text, "RoCE"));
    assert_non_null(strstr(r[0].text, "port 1 active on lo"));
    assert_non_null(strstr(r[0].text, "\"ud\" takes this: the only usable one"));
    assert_non_null(strstr(r[0].addresses, "127.0.0.1 (RoCE v2, used)"));
    assert_non_null(strstr(r[0].addresses, "127.0.0.1 (RoCE v1)"));
    assert_non_null(strstr(r[0].offload, "CPU"));

    verbs_model.devices[0].port_state = IBV_PORT_DOWN;
    assert_int_equal(smt_verbs_report(r, 4), 1);
    assert_false(r[0].usable);
    assert_non_null(strstr(r[0].text, "port 1 down"));
    assert_non_null(strstr(r[0].reason, "ip link set lo up"));
    assert_null(strstr(r[0].addresses, "used"));

    verbs_model.devices[0].port_state = IBV_PORT_ACTIVE;
    for (unsigned i = 0; i < VERBS_MODEL_GIDS; i++)
        verbs_model_set_gid(0, i, "2001:db8:1111:2222:3333:4444:5555:6666", IBV_GID_TYPE_ROCE_V2,
                            "lo");
    assert_int_equal(smt_verbs_report(r, 4), 1);
    assert_non_null(strstr(r[0].addresses, " more"));

    verbs_model.fail[VERBS_MODEL_OPEN_DEVICE] = (struct verbs_model_failure){0, 1, EPERM};
    assert_int_equal(smt_verbs_report(r, 4), 1);
    assert_false(r[0].usable);
    assert_non_null(strstr(r[0].reason, "no permission"));
    verbs_model.n_devices = 0;
    assert_int_equal(smt_verbs_report(r, 4), 1);
    assert_string_equal(r[0].name, "ud");
    assert_false(r[0].usable);
    assert_int_equal(smt_verbs_report(r, 0), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge_good),
        cmocka_unit_test(test_hollow_gid),
        cmocka_unit_test(test_judge_bad),
        cmocka_unit_test(test_forced_gid),
        cmocka_unit_test(test_many_addresses),
        cmocka_unit_test(test_two_interfaces),
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_memlock),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_sentences_fit),
        TEST(test_open),
        TEST(test_open_fails),
        TEST(test_source),
        TEST(test_refresh),
        TEST(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
