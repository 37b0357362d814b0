/* Explains the RDMA ports of this machine for smt_info: what each is, whether `ud` can use it, and
 * if not, why and what helps.
 *
 * Owns the wording of the list; the facts are ud_scan.c's and the judgement ud_choose.c's, the same
 * that opening a device uses, so that the list never promises what opening refuses. */
#include "dev/verbs_probe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/ud_choose.h"
#include "dev/ud_port.h"

#define SYS_DIR "/sys/class/infiniband"
#define DEV_DIR "/dev/infiniband"

/* Is there an entry whose name begins with `prefix`? -1 when the directory cannot be read. */
static int dir_has(const char *path, const char *prefix)
{
    DIR *dir = opendir(path);
    if (dir == NULL)
        return -1;
    bool found = false;
    const struct dirent *e;
    while (!found && (e = readdir(dir)) != NULL)
        found = e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return found;
}

void smt_verbs_why_none(const char *sys_dir, const char *dev_dir, int error, char *out,
                        size_t out_len)
{
    const char *load = "load the NIC's driver (modprobe mlx5_ib), or make a software device: "
                       "modprobe rdma_rxe; rdma link add rxe0 type rxe netdev eth0";
    int has_device = dir_has(sys_dir, "");
    if (has_device < 0)
        snprintf(out, out_len, "no RDMA device: the kernel has no RDMA support loaded (no %s); %s",
                 sys_dir, load);
    else if (has_device == 0)
        snprintf(out, out_len, "no RDMA device: %s is empty, no driver has found one; %s", sys_dir,
                 load);
    else if (dir_has(dev_dir, "uverbs") <= 0)
        snprintf(
            out, out_len,
            "no RDMA device: the kernel has one, but there is no %s/uverbs*; modprobe ib_uverbs, "
            "and in a container pass %s in",
            dev_dir, dev_dir);
    else
        snprintf(out, out_len,
                 "no RDMA device: libibverbs does not take the kernel's (%s); install the driver "
                 "library (ibverbs-providers)",
                 error != 0 ? strerror(error) : "no driver matches");
}

/* "192.0.2.1" or "fe80::1". */
static void gid_text(const uint8_t gid[16], char out[INET6_ADDRSTRLEN])
{
    struct smt_addr a = {0};
    memcpy(a.ip, gid, 16);
    bool is_ipv4 = smt_addr_is_ipv4(&a);
    inet_ntop(is_ipv4 ? AF_INET : AF_INET6, gid + (is_ipv4 ? 12 : 0), out, INET6_ADDRSTRLEN);
}

/* Of the usable GIDs the one that packets to far away leave from: what the default route says, else
 * the first that is more than link-local. */
static uint32_t gid_chosen(const struct smt_ud_verdict *v, const struct smt_addr *local)
{
    uint32_t best = v->gids[0].index;
    bool is_found = false;
    for (uint32_t i = 0; i < v->n_gids; i++) {
        const uint8_t *gid = v->gids[i].gid;
        if (memcmp(gid, local->ip, 16) == 0)
            return v->gids[i].index;
        if (!is_found && !(gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80)) {
            best = v->gids[i].index;
            is_found = true;
        }
    }
    return best;
}

/* "0 fe80::1 (RoCE v1), 1 192.0.2.1 (RoCE v2, used)", or as much of it as there is room for. */
static void gids_describe(const struct smt_ud_scan *s, const struct smt_ud_verdict *v,
                          const struct smt_addr *local, char *out, size_t out_len)
{
    enum { ROOM = 96 };
    size_t len = 0;
    for (uint32_t i = 0; i < s->n_entries; i++) {
        const struct ibv_gid_entry *e = &s->entries[i];
        if (len + ROOM > out_len) {
            snprintf(out + len, out_len - len, ", and %u more", s->n_entries - i);
            return;
        }
        char ip[INET6_ADDRSTRLEN];
        gid_text(e->gid.raw, ip);
        bool is_used = v->code == 0 && e->gid_index == gid_chosen(v, local);
        len += (size_t)snprintf(out + len, out_len - len, "%s%u %s (%s%s)", i > 0 ? ", " : "",
                                e->gid_index, ip, smt_ud_gid_type_text(e->gid_type),
                                is_used           ? ", used"
                                : s->is_hollow[i] ? ", not an address"
                                                  : "");
    }
}

/* `why` says why plain "ud" takes this port, "" when it does not. */
static void port_describe(const struct smt_ud_scan *s, const struct smt_ud_verdict *v,
                          const struct smt_addr *local, const char *why, struct smt_dev_report *r)
{
    *r = (struct smt_dev_report){.usable = v->code == 0};
    if (s->n_ports > 1)
        snprintf(r->name, sizeof(r->name), "ud:%.40s,port=%u", s->devname, s->number);
    else
        snprintf(r->name, sizeof(r->name), "ud:%.40s", s->devname);
    snprintf(r->reason, sizeof(r->reason), "%s", v->reason);
    snprintf(r->offload, sizeof(r->offload),
             "none: a UD queue pair cannot seal, the CPU does (AES-GCM)");
    const char *driver = s->driver[0] != '\0' ? s->driver : "unknown";
    if (!s->has_ud || s->open_error != 0) {
        snprintf(r->text, sizeof(r->text), "RDMA device, driver %s", driver);
        return;
    }
    char lid[24] = "", plain[96] = "";
    if (s->is_ib)
        snprintf(lid, sizeof(lid), ", LID %u", s->lid);
    if (why[0] != '\0')
        snprintf(plain, sizeof(plain), "; \"ud\" takes this: %.64s", why);
    snprintf(r->text, sizeof(r->text),
             "%s, driver %s%s%s, port %u %s%s%s%s, %u bytes a packet (%u at most)%s",
             s->is_ib ? "InfiniBand" : "RoCE", driver, s->firmware[0] != '\0' ? ", firmware " : "",
             s->firmware, s->number, smt_ud_state_text(s->state),
             v->ifname[0] != '\0' ? " on " : "", v->ifname, lid, s->mtu, s->max_mtu, plain);
    gids_describe(s, v, local, r->addresses, sizeof(r->addresses));
}

static int none_describe(int error, struct smt_dev_report *r)
{
    *r = (struct smt_dev_report){.name = "ud", .text = "RDMA by libibverbs", .usable = false};
    smt_verbs_why_none(SYS_DIR, DEV_DIR, error, r->reason, sizeof(r->reason));
    return 1;
}

/* Room for what is found, kept off the stack. */
struct findings {
    struct smt_ud_scan ports[SMT_UD_MAX_PORTS];
    struct smt_ud_verdict verdicts[SMT_UD_MAX_PORTS];
};

static int ports_report(struct findings *f, struct smt_dev_report *out, unsigned n)
{
    int error;
    unsigned n_ports = smt_ud_scan_all(f->ports, SMT_UD_MAX_PORTS, &error);
    if (n_ports == 0)
        return none_describe(error, &out[0]);
    struct smt_ud_want want = {.gid = -1, .route_ifindex = smt_ud_route_ifindex()};
    struct smt_addr local;
    smt_ud_route_local(&local);
    for (unsigned i = 0; i < n_ports; i++)
        smt_ud_judge(&f->ports[i], &want, &f->verdicts[i]);
    char why[96];
    int chosen = smt_ud_choose(f->ports, f->verdicts, n_ports, &want, why, sizeof(why));
    unsigned got = n_ports < n ? n_ports : n;
    for (unsigned i = 0; i < got; i++)
        port_describe(&f->ports[i], &f->verdicts[i], &local, (int)i == chosen ? why : "", &out[i]);
    return (int)got;
}

int smt_verbs_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    struct findings *f = smt_mem_alloc(sizeof(*f));
    if (f == NULL)
        return 0;
    int got = ports_report(f, out, n);
    smt_mem_free(f);
    return got;
}
