/* Which link a packet socket sits on.
 *
 * By name, else the one that has the address bound to, else the one of the default route, else the
 * only one that is up. Loopback carries frames of packet sockets, but its IP layer takes none of
 * them (their source is one of its own), so it stays with UDP sockets. */
#include "dev/af.h"

#include <net/if.h>
#include <net/if_arp.h>

#include <smt/error.h>

static bool link_of_default_route(struct smt_af *d, struct smt_link *out)
{
    /* Addresses for documentation (RFC 5737, 9637): few have a route of their own for them. */
    static const struct smt_addr outside[] = {
        {.ip = {[10] = 0xff, [11] = 0xff, 203, 0, 113, 255}},
        {.ip = {0x3f, 0xff, 0x0f, 0xff, [15] = 1}},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(outside); i++) {
        struct smt_route route;
        if (smt_route_find(d->nl, &outside[i], NULL, 0, &route) == 0 && !route.is_local &&
            smt_link_find(d->nl, NULL, route.ifindex, out) == 0)
            return true;
    }
    return false;
}

/* The link that has the bound address, or the only one that is up. */
static int link_of_list(struct smt_af *d, struct smt_link *out)
{
    struct if_nameindex *list = if_nameindex();
    if (list == NULL)
        return smt_af_unusable(d, "the links of this machine cannot be listed");
    struct smt_addr bound = {.port = 0};
    memcpy(bound.ip, d->bound_ip, sizeof(bound.ip));
    unsigned n_up = 0;
    int r = 0;
    for (const struct if_nameindex *i = list; i->if_index != 0 && r == 0; i++) {
        struct smt_link l;
        bool has = true;
        if (smt_link_find(d->nl, NULL, i->if_index, &l) < 0 || !l.is_up ||
            l.type == ARPHRD_LOOPBACK)
            continue;
        if (d->has_bound_ip &&
            (smt_link_has_addr(d->nl, l.ifindex, &bound, &has) < 0 || !has))
            continue;
        if (n_up++ == 0)
            *out = l;
    }
    if_freenameindex(list);
    if (n_up == 0)
        return smt_af_unusable(d, "no link but loopback %s",
                        d->has_bound_ip ? "has the address" : "is up");
    if (n_up > 1 && !d->has_bound_ip)
        return smt_af_unusable(d, "several links and no default route: name one, as in %s:%.15s",
                               d->carriage->name, out->name);
    return 0;
}

int smt_af_link_choose(struct smt_af *d, const char *ifname)
{
    struct smt_link *l = &d->link;
    if (ifname[0] != '\0') {
        int r = smt_link_find(d->nl, ifname, 0, l);
        if (r < 0)
            return r;
    } else if (d->has_bound_ip || !link_of_default_route(d, l)) {
        int r = link_of_list(d, l);
        if (r < 0)
            return r;
    }
    if (l->type != ARPHRD_ETHER)
        return smt_af_unusable(d, "%.15s is not an Ethernet link", l->name);
    return 0;
}
