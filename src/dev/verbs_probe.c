/* Lists RDMA devices for smt_info. Nothing is opened: a list must not fail because a driver does,
 * and sysfs tells enough for one line. */
#include "dev/verbs_probe.h"

#include <dirent.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <string.h>

#define SYS_DIR "/sys/class/infiniband"
#define DEV_DIR "/dev/infiniband"

/* First line of a file of a device, without its newline; "" when there is none. */
static void attribute_read(const char *device, const char *name, char *out, size_t out_len)
{
    char path[512];
    out[0] = '\0';
    int n = snprintf(path, sizeof(path), SYS_DIR "/%s/%s", device, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    if (fgets(out, (int)out_len, f) == NULL)
        out[0] = '\0';
    fclose(f);
    out[strcspn(out, "\n")] = '\0';
}

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

static void device_describe(struct ibv_device *device, struct smt_dev_report *r)
{
    const char *name = ibv_get_device_name(device);
    char type[64], link[64], state[64];
    attribute_read(name, "hca_type", type, sizeof(type));
    attribute_read(name, "ports/1/link_layer", link, sizeof(link));
    attribute_read(name, "ports/1/state", state, sizeof(state));
    *r = (struct smt_dev_report){.usable = false};
    snprintf(r->name, sizeof(r->name), "%s", name);
    snprintf(r->text, sizeof(r->text), "RDMA device%s%s, port 1: %s, state %s",
             type[0] != '\0' ? " " : "", type, link[0] != '\0' ? link : "unknown link",
             state[0] != '\0' ? state : "unknown");
    snprintf(r->offload, sizeof(r->offload), "none used");
    snprintf(r->reason, sizeof(r->reason),
             "verbs devices are recognised, but this version carries data by udp only; use \"udp\" "
             "on the network interface of this NIC");
}

int smt_verbs_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    int n_devices = 0;
    errno = 0;
    struct ibv_device **list = ibv_get_device_list(&n_devices);
    int error = list == NULL ? errno : 0;
    int got = 0;
    for (int i = 0; i < n_devices && list != NULL && (unsigned)got < n; i++)
        device_describe(list[i], &out[got++]);
    if (list != NULL)
        ibv_free_device_list(list);
    if (got > 0)
        return got;
    out[0] =
        (struct smt_dev_report){.name = "verbs", .text = "RDMA by libibverbs", .usable = false};
    smt_verbs_why_none(SYS_DIR, DEV_DIR, error, out[0].reason, sizeof(out[0].reason));
    return 1;
}
