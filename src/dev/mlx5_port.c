/* Which device, and what may be expected of it.
 *
 * Owns the text that users write after "mlx5", the choice, and the refusals: a link below a bond or
 * a bridge, or of another kind than the NIC's own, carries frames that this device would make
 * wrongly (VLAN tags, two ports), so it says so instead. */
#include "dev/mlx5_port.h"

#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <infiniband/mlx5dv.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/link.h"
#include "dev/ud_env.h"

static int option_set(struct smt_mlx5_spec *s, const char *option, char *text, size_t text_len)
{
    static const char *const cryptos[] = {
        [SMT_MLX5_CRYPTO_AUTO] = "crypto=auto",
        [SMT_MLX5_CRYPTO_NIC] = "crypto=nic",
        [SMT_MLX5_CRYPTO_CPU] = "crypto=cpu",
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(cryptos); i++) {
        if (strcmp(option, cryptos[i]) == 0) {
            s->crypto = (enum smt_mlx5_crypto)i;
            return 0;
        }
    }
    if (strcmp(option, "burst=1") == 0 || strcmp(option, "burst=0") == 0) {
        s->cuts_bursts = option[6] == '1';
        return 0;
    }
    return smt_dev_fail(text, text_len, SMT_EINVAL,
                        "the device mlx5 has no option \"%.40s\"; there is: crypto=auto|nic|cpu, "
                        "burst=0|1",
                        option);
}

int smt_mlx5_spec_parse(const char *spec, struct smt_mlx5_spec *out, char *text, size_t text_len)
{
    *out = (struct smt_mlx5_spec){0};
    const char *at = spec + strcspn(spec, ":,");
    at += *at == ':';
    size_t len = strcspn(at, ",");
    if (len >= sizeof(out->name))
        return smt_dev_fail(text, text_len, SMT_EINVAL, "the name in \"%.60s…\" is too long", spec);
    memcpy(out->name, at, len);
    for (at += len; *at == ','; at += len) {
        char option[32];
        at++;
        len = strcspn(at, ",");
        if (len >= sizeof(option))
            return smt_dev_fail(text, text_len, SMT_EINVAL, "\"%.60s\": an option is too long",
                                spec);
        memcpy(option, at, len);
        option[len] = '\0';
        int r = option_set(out, option, text, text_len);
        if (r < 0)
            return r;
    }
    return 0;
}

bool smt_mlx5_ifname(const struct ibv_device *device, char out[16])
{
    char path[IBV_SYSFS_PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/device/net", device->ibdev_path);
    DIR *dir = opendir(path);
    if (dir == NULL)
        return false;
    const struct dirent *e;
    bool found = false;
    while (!found && (e = readdir(dir)) != NULL) {
        if (e->d_name[0] == '.' || strlen(e->d_name) >= 16)
            continue;
        strcpy(out, e->d_name);
        found = true;
    }
    closedir(dir);
    return found;
}

struct ibv_context *smt_mlx5_context_open(struct ibv_device *device, bool *has_devx)
{
    struct mlx5dv_context_attr attr = {.flags = MLX5DV_CONTEXT_FLAGS_DEVX};
    struct ibv_context *ctx = mlx5dv_open_device(device, &attr);
    *has_devx = ctx != NULL;
    return ctx != NULL ? ctx : ibv_open_device(device);
}

static int group_query(struct ibv_context *ctx, enum smt_mlx5_cap_type type, bool is_current,
                       struct smt_mlx5_caps *caps)
{
    uint8_t in[SMT_MLX5_CAP_IN_LEN];
    uint8_t *out = smt_mem_alloc(SMT_MLX5_CAP_OUT_LEN);
    if (out == NULL)
        return -ENOMEM;
    smt_mlx5_cmd_query_cap(in, type, is_current);
    int r = mlx5dv_devx_general_cmd(ctx, in, sizeof(in), out, SMT_MLX5_CAP_OUT_LEN);
    if (r == 0 && smt_mlx5_out_status(out) == 0)
        smt_mlx5_caps_read(type, out, caps);
    else
        r = r != 0 ? r : EREMOTEIO;
    smt_mem_free(out);
    return r > 0 ? -r : r;
}

int smt_mlx5_caps_query(struct ibv_context *ctx, struct smt_mlx5_caps *out)
{
    *out = (struct smt_mlx5_caps){0};
    int r = group_query(ctx, SMT_MLX5_CAP_GENERAL, true, out);
    if (r == 0 && out->has_eth_offloads)
        r = group_query(ctx, SMT_MLX5_CAP_ETH, true, out);
    /* Asking for what is not there is an error. */
    if (r == 0 && out->has_tls_tx)
        r = group_query(ctx, SMT_MLX5_CAP_TLS, true, out);
    if (r == 0 && out->has_crypto)
        r = group_query(ctx, SMT_MLX5_CAP_CRYPTO, true, out);
    return r;
}

int smt_mlx5_caps_query_max(struct ibv_context *ctx, struct smt_mlx5_caps *out)
{
    *out = (struct smt_mlx5_caps){0};
    return group_query(ctx, SMT_MLX5_CAP_GENERAL, false, out);
}

uint32_t smt_mlx5_max_tso(const struct ibv_device_attr_ex *attr)
{
    bool is_raw = (attr->tso_caps.supported_qpts & 1u << IBV_QPT_RAW_PACKET) != 0;
    return is_raw ? attr->tso_caps.max_tso : 0;
}

const char *smt_mlx5_no_seal(const struct smt_mlx5_port *p)
{
    enum { LEAST_TSO = 16384 + 29 };
    const struct smt_mlx5_caps *c = &p->caps;
    if (p->spec.crypto == SMT_MLX5_CRYPTO_CPU)
        return "switched off (crypto=cpu)";
    if (!p->has_devx)
        return "no firmware commands from user space (DevX): the kernel's mlx5_ib has no "
               "INFINIBAND_USER_ACCESS, or the firmware's log_max_uctx is 0";
    if (p->caps_error != 0)
        return "the firmware does not tell its capabilities";
    if (!c->has_tls_tx)
        return "the NIC has no TLS transmit engine switched on (tls_tx 0): it takes a "
               "crypto-enabled ConnectX-6 Dx, ConnectX-7 or BlueField-2 and current firmware";
    if (!c->has_dek || c->log_max_dek == 0)
        return "the firmware gives no encryption keys (log_max_dek 0)";
    if (!c->seals_128 && !c->seals_256)
        return "the TLS engine knows no TLS 1.2 AES-GCM";
    if (c->failed_selftests != 0)
        return "the NIC's crypto block failed its self-test";
    if (smt_mlx5_max_tso(&p->attr) < LEAST_TSO)
        return "no segmentation offload (TSO) for raw packets of a whole record";
    return NULL;
}

/* One line why this device cannot be used; 0 when it can. */
static int judge(const struct smt_dev_config *config, const struct smt_link *link,
                 const struct ibv_port_attr *port, const char *devname)
{
    char *text = config->error_text;
    size_t len = config->error_text_len;
    if (port->link_layer != IBV_LINK_LAYER_ETHERNET || link->type == ARPHRD_INFINIBAND)
        return smt_dev_fail(text, len, SMT_EUNSUPPORTED,
                            "%s: not an Ethernet port; use \"ud\" on InfiniBand", devname);
    if (strcmp(link->kind, "vlan") == 0 || strcmp(link->kind, "bond") == 0 ||
        strcmp(link->kind, "team") == 0)
        return smt_dev_fail(text, len, SMT_EUNSUPPORTED,
                            "%s: %s is a %s: mlx5 sends frames without VLAN tags out of one port; "
                            "use \"udp\" or \"ud\" there",
                            devname, link->name, link->kind);
    if (link->master != 0)
        return smt_dev_fail(text, len, SMT_EUNSUPPORTED,
                            "%s: %s belongs to a bond or bridge: mlx5 cannot share it; use \"udp\" "
                            "or \"ud\" there",
                            devname, link->name);
    if (!link->is_up || port->state != IBV_PORT_ACTIVE)
        return smt_ud_env_port_down((struct smt_ud_text){text, len}, devname, 1, link->name,
                                    "down");
    return 0;
}

static bool addr_of(const struct ifaddrs *ifa, const struct smt_link *link, struct smt_addr *out)
{
    if (ifa->ifa_addr == NULL || strcmp(ifa->ifa_name, link->name) != 0)
        return false;
    int family = ifa->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6)
        return false;
    struct sockaddr_storage sa = {0};
    memcpy(&sa, ifa->ifa_addr,
           family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
    if (!smt_addr_from_sockaddr(&sa, out))
        return false;
    out->port = 0;
    return true;
}

/* Addresses of the interface: all, or the one to bind to. */
int smt_mlx5_port_addrs(const struct smt_mlx5_port *port, struct smt_addr out[SMT_MLX5_MAX_ADDRS])
{
    struct ifaddrs *list;
    int n = 0;
    if (getifaddrs(&list) != 0)
        return SMT_ESYSTEM;
    for (const struct ifaddrs *i = list; i != NULL && n < SMT_MLX5_MAX_ADDRS; i = i->ifa_next) {
        struct smt_addr a;
        if (addr_of(i, &port->link, &a) &&
            (!port->has_bind || memcmp(port->bind.ip, a.ip, 16) == 0))
            out[n++] = a;
    }
    freeifaddrs(list);
    return n;
}

/* What the search for a device is after. */
struct search {
    const struct smt_dev_config *config;
    int nl;
    struct smt_addr bind;
    bool has_bind;
    int worst; /* of devices that could not be taken */
};

/* Opens this device if it is what is looked for. True when taken. */
static bool device_try(struct search *s, struct ibv_device *device, struct smt_mlx5_port *out)
{
    char ifname[16];
    const char *want = out->spec.name;
    if (!mlx5dv_is_supported(device) || !smt_mlx5_ifname(device, ifname))
        return false;
    const char *devname = ibv_get_device_name(device);
    bool is_named = strcmp(want, devname) == 0 || strcmp(want, ifname) == 0;
    if (want[0] != '\0' && !is_named)
        return false;
    if (smt_link_find(s->nl, ifname, 0, &out->link) < 0)
        return false;
    out->bind = s->bind;
    out->has_bind = s->has_bind;
    int n_addrs = smt_mlx5_port_addrs(out, out->addrs);
    out->n_addrs = n_addrs < 0 ? 0 : (uint32_t)n_addrs;
    if (out->n_addrs == 0) {
        s->worst = smt_dev_fail(s->config->error_text, s->config->error_text_len, SMT_ENODEV,
                                "%s: %s has no IP address%s%.60s", devname, ifname,
                                s->has_bind ? " " : "", s->has_bind ? s->config->bind_host : "");
        return false;
    }
    struct ibv_port_attr port;
    out->ctx = smt_mlx5_context_open(device, &out->has_devx);
    if (out->ctx == NULL) {
        snprintf(out->node, sizeof(out->node), "/dev/infiniband/%.60s", device->dev_name);
        s->worst = smt_ud_env_open(
            (struct smt_ud_text){s->config->error_text, s->config->error_text_len}, devname,
            out->node, errno);
        return false;
    }
    int r = SMT_EDEVICE;
    if (ibv_query_port(out->ctx, 1, &port) == 0 &&
        ibv_query_device_ex(out->ctx, NULL, &out->attr) == 0)
        r = judge(s->config, &out->link, &port, devname);
    if (r < 0) {
        s->worst = r;
        (void)ibv_close_device(out->ctx);
        out->ctx = NULL;
        return false;
    }
    snprintf(out->devname, sizeof(out->devname), "%s", devname);
    out->is_up = true;
    out->mbps = smt_verbs_mbps(&port);
    return true;
}

static int search_run(struct search *s, struct smt_mlx5_port *out)
{
    const struct smt_ud_text text = {s->config->error_text, s->config->error_text_len};
    int n = 0;
    struct ibv_device **list = ibv_get_device_list(&n);
    if (list == NULL || n == 0) {
        int r = smt_ud_env_no_device(text, list == NULL ? errno : 0);
        if (list != NULL)
            ibv_free_device_list(list);
        return r;
    }
    bool taken = false;
    for (int i = 0; i < n && !taken; i++)
        taken = device_try(s, list[i], out);
    ibv_free_device_list(list);
    if (taken)
        return 0;
    if (s->worst != 0)
        return s->worst;
    return out->spec.name[0] != '\0'
               ? smt_dev_fail(text.text, text.len, SMT_ENODEV,
                              "no mlx5 device or interface of one is named \"%s\" (smt_info lists "
                              "them)",
                              out->spec.name)
               : smt_dev_fail(text.text, text.len, SMT_ENODEV,
                              "no RDMA device here is an mlx5 one (ConnectX, BlueField) with a "
                              "network interface; use \"ud\" or \"udp\"");
}

int smt_mlx5_port_open(const struct smt_dev_config *config, struct smt_mlx5_port *out)
{
    *out = (struct smt_mlx5_port){0};
    int r = smt_mlx5_spec_parse(config->spec, &out->spec, config->error_text,
                                config->error_text_len);
    if (r < 0)
        return r;
    struct search s = {.config = config};
    if (config->bind_host != NULL && config->bind_host[0] != '\0') {
        r = smt_dev_resolve(config->bind_host, 0, &s.bind, 1);
        if (r < 0)
            return smt_dev_fail(config->error_text, config->error_text_len, r,
                                "no address to bind to: \"%.60s\"", config->bind_host);
        static const struct smt_addr any, any_v4 = {.ip = {[10] = 0xff, [11] = 0xff}};
        s.has_bind = memcmp(s.bind.ip, any.ip, 16) != 0 && memcmp(s.bind.ip, any_v4.ip, 16) != 0;
    }
    s.nl = smt_route_open();
    if (s.nl < 0)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                            "no netlink socket: %s", strerror(errno));
    r = search_run(&s, out);
    close(s.nl);
    if (r == 0 && out->has_devx)
        out->caps_error = -smt_mlx5_caps_query(out->ctx, &out->caps);
    return r;
}

void smt_mlx5_port_close(struct smt_mlx5_port *port)
{
    if (port->ctx != NULL)
        (void)ibv_close_device(port->ctx);
    port->ctx = NULL;
}

int smt_mlx5_port_refresh(struct smt_mlx5_port *port)
{
    struct ibv_port_attr attr;
    if (ibv_query_port(port->ctx, 1, &attr) != 0)
        return SMT_EDEVICE;
    port->is_up = attr.state == IBV_PORT_ACTIVE;
    port->mbps = smt_verbs_mbps(&attr);
    return 0;
}
