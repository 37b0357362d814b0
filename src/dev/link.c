/* Link speed by sysfs. Interfaces without a device behind them (veth, bridges, tunnels) report
 * 10,000 Mb/s or nothing, and are as fast as the processor. */
#include "dev/link.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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
