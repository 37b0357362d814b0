/* Reads what there is of RDMA ports.
 *
 * Owns the calls of libibverbs that list, open and query, and the paths in sysfs; judges nothing.
 * The netdev of a RoCE GID comes with the GID; that of an InfiniBand port (IPoIB) is only in sysfs.
 */
#include "dev/ud_scan.h"

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/link.h"

#define SYS_NET "/sys/class/net"
#define SYS_RDMA "/sys/class/infiniband"

/* A number in a file of sysfs, or -1. */
static long number_read(const char *path)
{
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    char line[64] = "";
    bool ok = fgets(line, sizeof(line), f) != NULL;
    fclose(f);
    return ok ? strtol(line, NULL, 0) : -1;
}

/* Last part of what a symbolic link points at; "" when there is none. */
static void link_read(const char *path, char *out, size_t out_len)
{
    char target[512];
    out[0] = '\0';
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n <= 0)
        return;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(out, out_len, "%.*s", (int)out_len - 1, slash != NULL ? slash + 1 : target);
}

/* First word of a device's file; "" when there is none. Software devices have no driver in sysfs,
 * but describe themselves. */
static void word_read(const char *device, const char *name, char *out, size_t out_len)
{
    char path[512];
    snprintf(path, sizeof(path), SYS_RDMA "/%s/%s", device, name);
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (f == NULL)
        return;
    if (fgets(out, (int)out_len, f) == NULL)
        out[0] = '\0';
    fclose(f);
    out[strcspn(out, " \n")] = '\0';
}

/* Does this interface carry IP over this port? dev_port counts from 0. Partitions other than the
 * default one have interfaces of their own, named "ib0.8001". */
static bool is_ipoib_of(const char *ifname, const char *devname, unsigned number)
{
    char path[512];
    snprintf(path, sizeof(path), SYS_NET "/%s/type", ifname);
    if (strchr(ifname, '.') != NULL || number_read(path) != ARPHRD_INFINIBAND)
        return false;
    snprintf(path, sizeof(path), SYS_NET "/%s/device/infiniband/%s", ifname, devname);
    if (access(path, F_OK) != 0)
        return false;
    snprintf(path, sizeof(path), SYS_NET "/%s/dev_port", ifname);
    return number_read(path) == (long)number - 1;
}

static int ipoib_find(const char *devname, unsigned number)
{
    DIR *dir = opendir(SYS_NET);
    if (dir == NULL)
        return 0;
    int found = 0;
    const struct dirent *e;
    while (found == 0 && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] != '.' && is_ipoib_of(e->d_name, devname, number))
            found = (int)if_nametoindex(e->d_name);
    }
    closedir(dir);
    return found;
}

static uint32_t mtu_bytes(enum ibv_mtu mtu)
{
    return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

/* The entries of one port, by index, empty ones left out. */
static int gids_read(struct ibv_context *ctx, uint8_t number, struct smt_ud_scan *out)
{
    enum { TABLE = 1024 };
    struct ibv_gid_entry *table = smt_mem_alloc(TABLE * sizeof(*table));
    if (table == NULL)
        return SMT_EDEVICE;
    ssize_t n = ibv_query_gid_table(ctx, table, TABLE, 0);
    out->n_entries = 0;
    for (ssize_t i = 0; i < n && out->n_entries < SMT_UD_SCAN_GIDS; i++) {
        const union ibv_gid *gid = &table[i].gid;
        if (table[i].port_num == number && table[i].gid_index < SMT_UD_SCAN_GIDS &&
            (gid->global.subnet_prefix != 0 || gid->global.interface_id != 0))
            out->entries[out->n_entries++] = table[i];
    }
    smt_mem_free(table);
    return n < 0 ? SMT_EDEVICE : 0;
}

static bool is_link_local(const uint8_t ip[16])
{
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

/* Only link-local GIDs are in doubt: the others come from addresses. */
static void hollow_find(struct smt_ud_scan *s)
{
    struct ifaddrs *list;
    if (getifaddrs(&list) != 0)
        return;
    for (uint32_t i = 0; i < s->n_entries; i++) {
        const uint8_t *gid = s->entries[i].gid.raw;
        s->is_hollow[i] = is_link_local(gid);
        for (const struct ifaddrs *a = list; a != NULL && s->is_hollow[i]; a = a->ifa_next) {
            if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET6)
                continue;
            struct sockaddr_in6 in6;
            memcpy(&in6, a->ifa_addr, sizeof(in6));
            s->is_hollow[i] = memcmp(&in6.sin6_addr, gid, 16) != 0 ||
                              in6.sin6_scope_id != s->entries[i].ndev_ifindex;
        }
    }
    freeifaddrs(list);
}

int smt_ud_scan_port(struct ibv_context *ctx, uint8_t number, struct smt_ud_scan *out)
{
    struct ibv_port_attr port;
    struct smt_ud_scan now = *out;
    if (ibv_query_port(ctx, number, &port) != 0 || gids_read(ctx, number, &now) < 0)
        return SMT_EDEVICE;
    now.number = number;
    now.is_ib = port.link_layer != IBV_LINK_LAYER_ETHERNET;
    now.state = port.state;
    now.lid = port.lid;
    now.mtu = mtu_bytes(port.active_mtu);
    now.max_mtu = mtu_bytes(port.max_mtu);
    now.mbps = now.is_ib ? smt_verbs_mbps(&port) : 0;
    memset(now.is_hollow, 0, sizeof(now.is_hollow));
    if (!now.is_ib)
        hollow_find(&now);
    if (now.is_ib)
        now.ib_ifindex = now.n_entries > 0 && now.entries[0].ndev_ifindex != 0
                             ? (int)now.entries[0].ndev_ifindex
                             : ipoib_find(now.devname, number);
    *out = now;
    return 0;
}

int smt_ud_scan_open_error(const char *node, int error)
{
    if (access(node, R_OK | W_OK) != 0 && (errno == EACCES || errno == EPERM))
        return errno;
    return error != 0 ? error : EIO;
}

/* What holds for every port of a device. The context is closed again. */
static unsigned device_scan(struct ibv_device *device, struct smt_ud_scan *out, unsigned n)
{
    struct smt_ud_scan base = {.number = 1, .n_ports = 1};
    char path[512];
    const char *name = ibv_get_device_name(device);
    snprintf(base.devname, sizeof(base.devname), "%s", name);
    snprintf(base.node, sizeof(base.node), "/dev/infiniband/%.60s", device->dev_name);
    snprintf(path, sizeof(path), SYS_RDMA "/%s/device/driver", name);
    link_read(path, base.driver, sizeof(base.driver));
    if (base.driver[0] == '\0')
        word_read(name, "node_desc", base.driver, sizeof(base.driver));
    base.has_ud = device->transport_type == IBV_TRANSPORT_IB;
    out[0] = base;
    errno = 0;
    struct ibv_context *ctx = ibv_open_device(device);
    if (ctx == NULL) {
        out[0].open_error = smt_ud_scan_open_error(base.node, errno);
        return 1;
    }
    struct ibv_device_attr attr;
    int r = ibv_query_device(ctx, &attr);
    if (r != 0) {
        out[0].open_error = r;
        ibv_close_device(ctx);
        return 1;
    }
    if (strncmp(attr.fw_ver, "0.0.0", 5) != 0)
        snprintf(base.firmware, sizeof(base.firmware), "%s", attr.fw_ver);
    base.n_ports = attr.phys_port_cnt;
    unsigned got = 0;
    for (unsigned port = 1; port <= attr.phys_port_cnt && got < n; port++) {
        out[got] = base;
        out[got].number = (uint8_t)port;
        if (smt_ud_scan_port(ctx, (uint8_t)port, &out[got]) < 0)
            out[got].open_error = EIO;
        got++;
    }
    ibv_close_device(ctx);
    return got;
}

unsigned smt_ud_scan_all(struct smt_ud_scan *out, unsigned n, int *error)
{
    int n_devices = 0;
    errno = 0;
    struct ibv_device **list = ibv_get_device_list(&n_devices);
    *error = list == NULL ? errno : 0;
    unsigned got = 0;
    for (int i = 0; list != NULL && i < n_devices && got < n; i++)
        got += device_scan(list[i], out + got, n - got);
    if (list != NULL)
        ibv_free_device_list(list);
    return got;
}
