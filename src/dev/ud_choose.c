/* Judges RDMA ports and chooses one.
 *
 * Owns the rule of ud_port.h. Nothing is asked of the system but the names of interfaces, so that
 * every case of the rule can be laid out in a table. The first thing that is wrong with a port is
 * what people are told: they repair in that order. */
#include "dev/ud_choose.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "dev/dev_impl.h"
#include "dev/ud_env.h"

enum { LEAST_MTU = 1024 };

const char *smt_ud_state_text(enum ibv_port_state state)
{
    static const char *const table[] = {
        [IBV_PORT_NOP] = "in no state",   [IBV_PORT_DOWN] = "down",
        [IBV_PORT_INIT] = "initialising", [IBV_PORT_ARMED] = "armed",
        [IBV_PORT_ACTIVE] = "active",     [IBV_PORT_ACTIVE_DEFER] = "deferred",
    };
    return (unsigned)state < SMT_ARRAY_LEN(table) ? table[state] : "in an unknown state";
}

const char *smt_ud_gid_type_text(uint32_t type)
{
    switch (type) {
    case IBV_GID_TYPE_ROCE_V2:
        return "RoCE v2";
    case IBV_GID_TYPE_ROCE_V1:
        return "RoCE v1";
    default:
        return "InfiniBand";
    }
}

static bool is_zero(const uint8_t ip[16])
{
    static const uint8_t zero[16];
    return memcmp(ip, zero, sizeof(zero)) == 0;
}

static bool is_link_local(const uint8_t ip[16])
{
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

static bool type_fits(const struct smt_ud_scan *s, const struct ibv_gid_entry *e)
{
    return e->gid_type == (s->is_ib ? IBV_GID_TYPE_IB : IBV_GID_TYPE_ROCE_V2) &&
           !s->is_hollow[e - s->entries];
}

static bool is_on(const struct smt_ud_scan *s, int ifindex)
{
    for (uint32_t i = 0; i < s->n_entries; i++) {
        if ((int)s->entries[i].ndev_ifindex == ifindex)
            return true;
    }
    return false;
}

static const struct ibv_gid_entry *entry_at(const struct smt_ud_scan *s, int32_t index)
{
    for (uint32_t i = 0; i < s->n_entries; i++) {
        if (index >= 0 && s->entries[i].gid_index == (uint32_t)index)
            return &s->entries[i];
    }
    return NULL;
}

static bool is_named(const struct smt_ud_scan *s, const struct smt_ud_want *want)
{
    return want->name != NULL && strcmp(s->devname, want->name) == 0;
}

/* The interface to live on: of the forced GID, the named one, that of the bound address, else that
 * of the first address which is more than link-local, else of any. */
static int interface_of(const struct smt_ud_scan *s, const struct smt_ud_want *want)
{
    if (s->is_ib)
        return s->ib_ifindex;
    const struct ibv_gid_entry *forced = entry_at(s, want->gid);
    if (forced != NULL)
        return (int)forced->ndev_ifindex;
    /* An interface may have the name of an RDMA device; the device is meant then. */
    if (want->ifindex != 0 && !is_named(s, want) && is_on(s, want->ifindex))
        return want->ifindex;
    const struct ibv_gid_entry *best = NULL;
    for (uint32_t i = 0; i < s->n_entries; i++) {
        const struct ibv_gid_entry *e = &s->entries[i];
        if (!is_zero(want->bind.ip) && memcmp(e->gid.raw, want->bind.ip, 16) == 0)
            return (int)e->ndev_ifindex;
        bool is_better =
            best == NULL || (!type_fits(s, best) && type_fits(s, e)) ||
            (is_link_local(best->gid.raw) && !is_link_local(e->gid.raw) && type_fits(s, e));
        if (is_better)
            best = e;
    }
    return best != NULL ? (int)best->ndev_ifindex : 0;
}

/* The usable GIDs; on RoCE those of the interface and, if one is bound, of its address. */
static void gids_take(const struct smt_ud_scan *s, const struct smt_ud_want *want,
                      struct smt_ud_verdict *v)
{
    for (uint32_t i = 0; i < s->n_entries; i++) {
        const struct ibv_gid_entry *e = &s->entries[i];
        bool fits = type_fits(s, e) && (s->is_ib || (int)e->ndev_ifindex == v->ifindex);
        if (want->gid >= 0)
            fits = fits && e->gid_index == (uint32_t)want->gid;
        if (!s->is_ib && !is_zero(want->bind.ip))
            fits = fits && memcmp(e->gid.raw, want->bind.ip, 16) == 0;
        if (!fits || v->n_gids == SMT_UD_MAX_GIDS)
            continue;
        struct smt_ud_gid *g = &v->gids[v->n_gids++];
        memcpy(g->gid, e->gid.raw, 16);
        g->index = e->gid_index;
    }
}

/* "1, 3", the indices that gid=N may name. */
static void usable_list(const struct smt_ud_scan *s, char *out, size_t out_len)
{
    size_t len = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < s->n_entries && len + 12 < out_len; i++) {
        if (type_fits(s, &s->entries[i]))
            len += (size_t)snprintf(out + len, out_len - len, "%s%u", len > 0 ? ", " : "",
                                    s->entries[i].gid_index);
    }
}

/* Is there a GID, and none of type RoCE v2? */
static bool is_only_v1(const struct smt_ud_scan *s)
{
    for (uint32_t i = 0; i < s->n_entries; i++) {
        if (s->entries[i].gid_type == IBV_GID_TYPE_ROCE_V2)
            return false;
    }
    return s->n_entries > 0;
}

/* Why no GID is left. */
static int fail_gid(const struct smt_ud_scan *s, const struct smt_ud_want *want,
                    const struct smt_ud_verdict *v, struct smt_ud_text t)
{
    const struct ibv_gid_entry *forced = entry_at(s, want->gid);
    if (want->gid >= 0 && (forced == NULL || !type_fits(s, forced))) {
        char usable[128];
        usable_list(s, usable, sizeof(usable));
        const char *what = forced == NULL ? "empty"
                           : s->is_hollow[forced - s->entries]
                               ? "an address that its interface does not have"
                               : smt_ud_gid_type_text(forced->gid_type);
        return smt_ud_env_gid_index(t, s->devname, s->number, want->gid, what, usable);
    }
    if (!s->is_ib && !is_zero(want->bind.ip)) {
        char address[64];
        smt_dev_addr_text(&want->bind, address, sizeof(address));
        char *colon = strrchr(address, ':');
        *colon = '\0';
        return smt_dev_fail(t.text, t.len, SMT_ENAME,
                            "%s port %u%s%s has no GID of type RoCE v2 for the local address %s%s",
                            s->devname, s->number, v->ifname[0] != '\0' ? " on " : "", v->ifname,
                            address, forced != NULL ? " at the index that gid=N names" : "");
    }
    return smt_ud_env_no_gid(t, s->devname, s->number, v->ifname, is_only_v1(s));
}

void smt_ud_judge(const struct smt_ud_scan *s, const struct smt_ud_want *want,
                  struct smt_ud_verdict *v)
{
    *v = (struct smt_ud_verdict){.code = 0};
    struct smt_ud_text t = {v->reason, sizeof(v->reason)};
    if (!s->has_ud) {
        v->code = smt_ud_env_iwarp(t, s->devname);
        return;
    }
    if (s->open_error != 0) {
        v->code = smt_ud_env_open(t, s->devname, s->node, s->open_error);
        return;
    }
    v->ifindex = interface_of(s, want);
    if (v->ifindex == 0 || if_indextoname((unsigned)v->ifindex, v->ifname) == NULL)
        v->ifname[0] = '\0';
    gids_take(s, want, v);
    if (s->state != IBV_PORT_ACTIVE)
        v->code =
            smt_ud_env_port_down(t, s->devname, s->number, v->ifname, smt_ud_state_text(s->state));
    else if (v->n_gids == 0)
        v->code = fail_gid(s, want, v, t);
    else if (s->is_ib && v->ifindex == 0)
        v->code = smt_ud_env_no_ipoib(t, s->devname, s->number);
    else if (s->mtu < LEAST_MTU)
        v->code = smt_ud_env_mtu(t, s->devname, s->number, v->ifname, s->is_ib, s->mtu);
}

/* Does the name in the spec mean this port? A device's own name is stronger than an interface's. */
static bool name_fits(const struct smt_ud_scan *s, const struct smt_ud_want *want, bool is_device)
{
    if (want->port != 0 && want->port != s->number)
        return false;
    if (want->name == NULL || want->name[0] == '\0')
        return true;
    if (is_device)
        return is_named(s, want);
    if (want->ifindex == 0)
        return false;
    return s->is_ib ? s->ib_ifindex == want->ifindex : is_on(s, want->ifindex);
}

static int fail_name(const struct smt_ud_scan *ports, const struct smt_ud_verdict *verdicts,
                     unsigned n, const struct smt_ud_want *want, struct smt_ud_text t)
{
    char names[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < n && len + 64 < sizeof(names); i++)
        len +=
            (size_t)snprintf(names + len, sizeof(names) - len, "%s%.24s%s%s%s", i > 0 ? ", " : "",
                             ports[i].devname, verdicts[i].ifname[0] != '\0' ? " (" : "",
                             verdicts[i].ifname, verdicts[i].ifname[0] != '\0' ? ")" : "");
    if (want->name == NULL || want->name[0] == '\0')
        return smt_dev_fail(t.text, t.len, SMT_ENODEV, "no RDMA device has a port %u; there is: %s",
                            want->port, names);
    if (want->ifindex != 0)
        return smt_dev_fail(t.text, t.len, SMT_ENODEV,
                            "network interface \"%s\" carries no RDMA port; there is: %s",
                            want->name, names);
    return smt_dev_fail(t.text, t.len, SMT_ENODEV,
                        "no RDMA device or network interface \"%s\"; there is: %s", want->name,
                        names);
}

int smt_ud_choose(const struct smt_ud_scan *ports, const struct smt_ud_verdict *verdicts,
                  unsigned n, const struct smt_ud_want *want, char *text, size_t text_len)
{
    struct smt_ud_text t = {text, text_len};
    bool is_device = false;
    for (unsigned i = 0; i < n; i++)
        is_device = is_device || is_named(&ports[i], want);
    unsigned n_usable = 0, n_fit = 0;
    int first = -1, first_fit = -1, routed = -1;
    for (unsigned i = 0; i < n; i++) {
        if (!name_fits(&ports[i], want, is_device))
            continue;
        if (n_fit++ == 0)
            first_fit = (int)i;
        if (verdicts[i].code != 0)
            continue;
        if (n_usable++ == 0)
            first = (int)i;
        if (routed < 0 && want->route_ifindex != 0 && verdicts[i].ifindex == want->route_ifindex)
            routed = (int)i;
    }
    if (n_fit == 0)
        return fail_name(ports, verdicts, n, want, t);
    if (n_usable == 0) {
        const char *reason = verdicts[first_fit].reason;
        return n_fit == 1 ? smt_dev_fail(text, text_len, verdicts[first_fit].code, "%s", reason)
                          : smt_dev_fail(text, text_len, verdicts[first_fit].code,
                                         "none of %u RDMA ports is usable (smt_info lists them): "
                                         "%s",
                                         n_fit, reason);
    }
    bool has_name = want->name != NULL && want->name[0] != '\0';
    const char *why = !is_zero(want->bind.ip)     ? "it has the local address"
                      : n_usable == 1 && has_name ? "it was named"
                      : n_usable == 1             ? "the only usable one"
                      : routed >= 0               ? "the default route leaves by its interface"
                                                  : "the first usable one";
    (void)smt_dev_fail(text, text_len, 0, "%s", why);
    return routed >= 0 ? routed : first;
}
