/* Who the device is: the netdev it belongs to, its addresses, and the directory that stands for it
 * in sysfs. A netdev that exists lends its MAC, MTU and IP addresses; without one they are made up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model.h"

static void mac_fill(struct mm_dev *dev)
{
    const char *text = mm_config()->mac[dev->index];
    if (text[0] != '\0') {
        unsigned m[6];
        if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
            mm_die("MLX5_MODEL", "mac=%s: want aa:bb:cc:dd:ee:ff", text);
        for (int i = 0; i < 6; i++)
            dev->mac[i] = (uint8_t)m[i];
        return;
    }
    struct ifaddrs *list;
    static const uint8_t zero[6];
    if (dev->ifindex != 0 && getifaddrs(&list) == 0) {
        for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
            if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_PACKET ||
                strcmp(i->ifa_name, dev->netdev) != 0)
                continue;
            const struct sockaddr_ll *ll = (const void *)i->ifa_addr;
            memcpy(dev->mac, ll->sll_addr, 6);
        }
        freeifaddrs(list);
    }
    if (memcmp(dev->mac, zero, 6) == 0)
        memcpy(dev->mac, (uint8_t[6]){2, 0, 0x5e, 0, 0x10, (uint8_t)(dev->index + 1)}, 6);
}

static void mtu_fill(struct mm_dev *dev)
{
    struct ifreq req = {0};
    dev->mtu = 1500;
    memcpy(req.ifr_name, dev->netdev, sizeof(dev->netdev));
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && dev->ifindex != 0 && ioctl(fd, SIOCGIFMTU, &req) == 0)
        dev->mtu = (uint32_t)req.ifr_mtu;
    if (fd >= 0)
        close(fd);
    if (mm_config()->mtu != 0)
        dev->mtu = (uint32_t)mm_config()->mtu;
    if (dev->mtu < 576 || dev->mtu > MM_FRAME_LEN - 64)
        mm_die("MLX5_MODEL", "mtu=%u: want 576 ... %d", dev->mtu, MM_FRAME_LEN - 64);
}

static void gid_add(struct mm_dev *dev, const union ibv_gid *gid)
{
    if (dev->n_gids == MM_MAX_GIDS)
        return;
    dev->gids[dev->n_gids] = (struct ibv_gid_entry){.gid = *gid,
                                                    .gid_index = dev->n_gids,
                                                    .port_num = 1,
                                                    .gid_type = IBV_GID_TYPE_ROCE_V2,
                                                    .ndev_ifindex = (uint32_t)dev->ifindex};
    dev->n_gids++;
}

/* One RoCE v2 GID for each address: the link-local one first, as the kernel has it. */
static void gids_fill(struct mm_dev *dev)
{
    union ibv_gid local = {.raw = {0xfe, 0x80, [8] = dev->mac[0] ^ 2, dev->mac[1], dev->mac[2],
                                   0xff, 0xfe, dev->mac[3], dev->mac[4], dev->mac[5]}};
    dev->n_gids = 0;
    gid_add(dev, &local);
    struct ifaddrs *list;
    if (dev->ifindex == 0 || getifaddrs(&list) != 0)
        return;
    for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        union ibv_gid gid = {.raw = {[10] = 0xff, [11] = 0xff}};
        if (i->ifa_addr == NULL || strcmp(i->ifa_name, dev->netdev) != 0)
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *in = (const void *)i->ifa_addr;
            memcpy(gid.raw + 12, &in->sin_addr, 4);
            gid_add(dev, &gid);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *in6 = (const void *)i->ifa_addr;
            memcpy(gid.raw, &in6->sin6_addr, 16);
            if (memcmp(gid.raw, local.raw, 16) != 0)
                gid_add(dev, &gid);
        }
    }
    freeifaddrs(list);
}

static void dir_make(const char *path)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
}

static void file_write(const char *dir, const char *name, const char *text)
{
    char path[MM_MAX_PATH + 64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    fprintf(f, "%s\n", text);
    fclose(f);
}

/* DIR/sysfs.PID/mlx5_N: two processes on one wire may be different machines. */
static void sysfs_fill(struct mm_dev *dev)
{
    char path[MM_MAX_PATH];
    int n = snprintf(path, sizeof(path), "%s/sysfs.%d", mm_config()->dir, (int)getpid());
    dir_make(path);
    n += snprintf(path + n, sizeof(path) - (size_t)n, "/%s", dev->ibv.name);
    dir_make(path);
    snprintf(dev->ibv.ibdev_path, sizeof(dev->ibv.ibdev_path), "%s", path);
    snprintf(dev->ibv.dev_path, sizeof(dev->ibv.dev_path), "%s", path);
    file_write(path, "fw_ver", "22.41.1000");
    file_write(path, "board_id", "MODEL000000001");
    file_write(path, "hca_type", "MT4125");
    file_write(path, "node_type", "1: CA");
    snprintf(path + n, sizeof(path) - (size_t)n, "/device");
    dir_make(path);
    file_write(path, "vendor", "0x15b3");
    file_write(path, "device", "0x101d");
    snprintf(path + n, sizeof(path) - (size_t)n, "/device/driver");
    if (symlink("/sys/bus/pci/drivers/mlx5_core", path) < 0 && errno != EEXIST)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    snprintf(path + n, sizeof(path) - (size_t)n, "/device/net");
    dir_make(path);
    if (dev->netdev[0] != '\0') {
        snprintf(path + n, sizeof(path) - (size_t)n, "/device/net/%s", dev->netdev);
        dir_make(path);
        char number[16];
        snprintf(number, sizeof(number), "%d", dev->ifindex);
        file_write(path, "ifindex", number);
    }
}

void mm_identity_fill(struct mm_dev *dev)
{
    if (!dev->is_ready) {
        dev->is_ready = true;
        dev->is_up = !mm_config()->port_down;
        memcpy(dev->netdev, mm_config()->netdev[dev->index], sizeof(dev->netdev));
        dev->ibv.node_type = IBV_NODE_CA;
        dev->ibv.transport_type = IBV_TRANSPORT_IB;
        snprintf(dev->ibv.name, sizeof(dev->ibv.name), "mlx5_%u", dev->index);
        snprintf(dev->ibv.dev_name, sizeof(dev->ibv.dev_name), "uverbs%u", dev->index);
        if (dev->netdev[0] != '\0') {
            dev->ifindex = (int)if_nametoindex(dev->netdev);
            if (dev->ifindex == 0)
                mm_die("MLX5_MODEL", "netdev=%s: there is none", dev->netdev);
        }
        mac_fill(dev);
        mtu_fill(dev);
        sysfs_fill(dev);
    }
    gids_fill(dev);
}
