/* Instructions of the grant code and of SRPT for a packet while N messages are under way:
 *
 *   valgrind --tool=callgrind --toggle-collect=sched_grant bench_sched in 100000 20000
 *   valgrind --tool=callgrind --toggle-collect=sched_srpt bench_sched out 100000 20000
 *
 * scripts/count-instructions --only sched makes the table of docs/performance.md of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched_load.h"

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: bench_sched in|out MESSAGES PACKETS\n");
        return 1;
    }
    bool in = strcmp(argv[1], "in") == 0;
    uint32_t n = (uint32_t)strtoul(argv[2], NULL, 0);
    uint64_t n_packets = strtoull(argv[3], NULL, 0);
    static struct sched_load l;
    if (in)
        sched_load_in(&l, n);
    else
        sched_load_out(&l, n);
    while (l.n_packets < n_packets) {
        if (in)
            sched_packet_in(&l);
        else
            sched_packet_out(&l);
    }
    printf("{\"messages\":%u,\"packets\":%llu,\"grants\":%llu}\n", n,
           (unsigned long long)l.n_packets, (unsigned long long)l.n_grants);
    sched_load_free(&l);
    return 0;
}
