/* Link speed by sysfs, or as verbs tell it. Interfaces without a device behind them (veth, bridges,
 * tunnels) report 10,000 Mb/s or nothing, and are as fast as the processor. */
#include "dev/link.h"

#include <fcntl.h>
#include <infiniband/verbs.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/defs.h"

enum { MOST_MBPS = 4000000 };

uint32_t smt_link_mbps(const char *ifname)
{
    char path[64], text[16] = "";
    snprintf(path, sizeof(path), "/sys/class/net/%s/device", ifname);
    if (access(path, F_OK) < 0)
        return 0;
    snprintf(path, sizeof(path), "/sys/class/net/%s/speed", ifname);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    /* Reading fails while the link is down. */
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    long mbps = n > 0 ? strtol(text, NULL, 10) : 0;
    return mbps > 0 && mbps <= MOST_MBPS ? (uint32_t)mbps : 0;
}

uint32_t smt_verbs_mbps(const struct ibv_port_attr *port)
{
    /* By bit: what the kernel's ib_port_speed and ib_port_width have. */
    static const uint32_t lane_mbps[] = {2000,  4000,  8000,  10000, /* SDR, DDR, QDR, FDR-10 */
                                         13636, 25000, 50000, 100000}; /* FDR, EDR, HDR, NDR */
    static const uint32_t lanes[] = {1, 4, 8, 12, 2};
    unsigned speed = port->active_speed, width = port->active_width;
    if (speed == 0 || width == 0)
        return 0;
    unsigned s = (unsigned)__builtin_ctz(speed), w = (unsigned)__builtin_ctz(width);
    if (s >= SMT_ARRAY_LEN(lane_mbps) || w >= SMT_ARRAY_LEN(lanes))
        return 0;
    return lane_mbps[s] * lanes[w];
}
