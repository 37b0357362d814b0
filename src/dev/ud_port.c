/* The port a `ud` device lives on.
 *
 * Owns the opened context and what is asked of the system around the choice: the interface of a
 * name, the one of the default route, the source address towards a peer. The choice itself is
 * ud_choose.c's, reading the hardware ud_scan.c's. */
#include "dev/ud_port.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/ud_choose.h"
#include "dev/ud_env.h"

static bool is_any(const struct smt_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip + (smt_addr_is_ipv4(a) ? 12 : 0), zero, smt_addr_is_ipv4(a) ? 4 : 16) == 0;
}

/* Index of the interface that has this address, 0 = none. */
static int interface_with(const struct smt_addr *ip)
{
    struct ifaddrs *list;
    int found = 0;
    if (getifaddrs(&list) != 0)
        return 0;
    for (const struct ifaddrs *i = list; i != NULL && found == 0; i = i->ifa_next) {
        struct sockaddr_storage sa = {0};
        struct smt_addr addr;
        if (i->ifa_addr == NULL ||
            (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6))
            continue;
        memcpy(&sa, i->ifa_addr,
               i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                 : sizeof(struct sockaddr_in6));
        if (smt_addr_from_sockaddr(&sa, &addr) && memcmp(addr.ip, ip->ip, 16) == 0)
            found = (int)if_nametoindex(i->ifa_name);
    }
    freeifaddrs(list);
    return found;
}

void smt_ud_route_local(struct smt_addr *local)
{
    /* Documentation addresses (RFC 5737, RFC 3849): nobody has them, so the default route it is. */
    static const struct smt_addr far[] = {
        {.ip = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1}},
        {.ip = {[0] = 0x20, [1] = 0x01, [2] = 0x0d, [3] = 0xb8, [15] = 1}},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(far); i++) {
        if (smt_path_local(&far[i], NULL, local))
            return;
    }
    *local = (struct smt_addr){0};
}

int smt_ud_route_ifindex(void)
{
    struct smt_addr local;
    smt_ud_route_local(&local);
    return is_any(&local) ? 0 : interface_with(&local);
}

/* What the configuration asks for; `spec` and the port's bind address are filled in. */
static int want_fill(const struct smt_dev_config *config, struct smt_ud_port *port,
                     struct smt_ud_want *want)
{
    int r =
        smt_ud_spec_parse(config->spec, &port->spec, config->error_text, config->error_text_len);
    if (r < 0)
        return r;
    *want = (struct smt_ud_want){
        .name = port->spec.name,
        .port = port->spec.port,
        .gid = port->spec.gid,
    };
    if (port->spec.name[0] != '\0')
        want->ifindex = (int)if_nametoindex(port->spec.name);
    if (config->bind_host == NULL) {
        want->route_ifindex = smt_ud_route_ifindex();
        return 0;
    }
    struct smt_addr addr;
    r = smt_dev_resolve(config->bind_host, 0, &addr, 1);
    if (r < 0)
        return smt_dev_fail(config->error_text, config->error_text_len, r,
                            "local address \"%.200s\" not understood", config->bind_host);
    if (addr.port != 0)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EINVAL,
                            "local address \"%.200s\" names a port; give the address alone",
                            config->bind_host);
    if (is_any(&addr))
        return 0;
    want->bind = addr;
    port->bind = addr;
    return 0;
}

static struct ibv_context *device_open(const char *name)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    struct ibv_context *ctx = NULL;
    for (unsigned i = 0; list != NULL && list[i] != NULL && ctx == NULL; i++) {
        if (strcmp(ibv_get_device_name(list[i]), name) == 0)
            ctx = ibv_open_device(list[i]);
    }
    if (list != NULL)
        ibv_free_device_list(list);
    return ctx;
}

static void port_fill(struct smt_ud_port *port, const struct smt_ud_scan *s,
                      const struct smt_ud_verdict *v)
{
    port->number = s->number;
    port->is_ib = s->is_ib;
    port->is_up = s->state == IBV_PORT_ACTIVE;
    port->lid = s->lid;
    port->mtu = s->mtu;
    port->mbps = s->mbps;
    port->ifindex = v->ifindex;
    memcpy(port->devname, s->devname, sizeof(port->devname));
    memcpy(port->ifname, v->ifname, sizeof(port->ifname));
    port->n_gids = v->n_gids;
    memcpy(port->gids, v->gids, sizeof(port->gids));
}

struct candidates {
    struct smt_ud_scan ports[SMT_UD_MAX_PORTS];
    struct smt_ud_verdict verdicts[SMT_UD_MAX_PORTS];
};

static int port_choose(const struct smt_dev_config *config, const struct smt_ud_want *want,
                       struct candidates *c, struct smt_ud_port *out)
{
    struct smt_ud_text t = {config->error_text, config->error_text_len};
    int error;
    unsigned n = smt_ud_scan_all(c->ports, SMT_UD_MAX_PORTS, &error);
    if (n == 0)
        return smt_ud_env_no_device(t, error);
    for (unsigned i = 0; i < n; i++)
        smt_ud_judge(&c->ports[i], want, &c->verdicts[i]);
    int chosen = smt_ud_choose(c->ports, c->verdicts, n, want, t.text, t.len);
    if (chosen < 0)
        return chosen;
    if (t.text != NULL && t.len > 0)
        t.text[0] = '\0';
    const struct smt_ud_scan *s = &c->ports[chosen];
    port_fill(out, s, &c->verdicts[chosen]);
    errno = 0;
    out->ctx = device_open(s->devname);
    if (out->ctx == NULL)
        return smt_ud_env_open(t, s->devname, s->node, smt_ud_scan_open_error(s->node, errno));
    int r = ibv_query_device(out->ctx, &out->attr);
    if (r != 0) {
        smt_ud_port_close(out);
        return smt_ud_env_open(t, s->devname, s->node, r);
    }
    return 0;
}

int smt_ud_port_open(const struct smt_dev_config *config, struct smt_ud_port *out)
{
    struct smt_ud_text t = {config->error_text, config->error_text_len};
    struct smt_ud_want want;
    *out = (struct smt_ud_port){.ctx = NULL};
    int r = want_fill(config, out, &want);
    if (r == 0)
        r = smt_ud_env_fork(t);
    if (r < 0)
        return r;
    struct candidates *c = smt_mem_alloc(sizeof(*c));
    if (c == NULL)
        return smt_dev_fail(t.text, t.len, SMT_ENOMEM, "no memory for a list of RDMA devices");
    r = port_choose(config, &want, c, out);
    smt_mem_free(c);
    return r;
}

void smt_ud_port_close(struct smt_ud_port *port)
{
    if (port->ctx != NULL)
        (void)ibv_close_device(port->ctx);
    port->ctx = NULL;
}

int smt_ud_port_refresh(struct smt_ud_port *port)
{
    struct smt_ud_scan s = {.has_ud = true};
    struct smt_ud_verdict v;
    struct smt_ud_want want = {.ifindex = port->ifindex, .gid = port->spec.gid, .bind = port->bind};
    memcpy(s.devname, port->devname, sizeof(s.devname));
    if (smt_ud_scan_port(port->ctx, port->number, &s) < 0)
        return SMT_EDEVICE;
    smt_ud_judge(&s, &want, &v);
    /* It stays on its interface even when that has lost every address: they may come back. */
    v.ifindex = port->ifindex;
    memcpy(v.ifname, port->ifname, sizeof(v.ifname));
    port_fill(port, &s, &v);
    return 0;
}

const struct smt_ud_gid *smt_ud_port_gid_of(const struct smt_ud_port *port, const uint8_t ip[16])
{
    for (uint32_t i = 0; i < port->n_gids; i++) {
        if (memcmp(port->gids[i].gid, ip, 16) == 0)
            return &port->gids[i];
    }
    return NULL;
}

const struct smt_ud_gid *smt_ud_port_source(const struct smt_ud_port *port,
                                            const struct smt_addr *to, struct smt_addr *local)
{
    *local = (struct smt_addr){0};
    /* Without the right to bind to the interface the address alone has to tell. */
    const char *ifname = port->ifname[0] != '\0' ? port->ifname : NULL;
    if (port->n_gids == 0 ||
        (!smt_path_local(to, ifname, local) && !smt_path_local(to, NULL, local)))
        return NULL;
    if (port->is_ib) {
        *local = (struct smt_addr){0};
        return &port->gids[0];
    }
    const struct smt_ud_gid *gid = smt_ud_port_gid_of(port, local->ip);
    bool is_fixed = port->spec.gid >= 0 || !is_any(&port->bind);
    if (gid != NULL || !is_fixed)
        return gid;
    /* The user's choice is stronger than the kernel's, if the family fits. */
    gid = &port->gids[0];
    struct smt_addr fixed = {0};
    memcpy(fixed.ip, gid->gid, 16);
    if (smt_addr_is_ipv4(&fixed) != smt_addr_is_ipv4(to))
        return NULL;
    *local = fixed;
    if (fixed.ip[0] == 0xfe && (fixed.ip[1] & 0xc0) == 0x80)
        local->scope = (uint32_t)port->ifindex;
    return gid;
}
