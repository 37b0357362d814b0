/* Instruction counts of the engine: two engines in one process over the in-memory device, `n` RPCs
 * of `size` bytes, `depth` in flight. Run it under callgrind and collect one side only:
 *
 *   valgrind --tool=callgrind --toggle-collect=engine_client_turn bench_loop 64 1 10000 aes-128-gcm
 *
 * engine_client_turn and engine_server_turn hold everything that a side does for its RPCs, device
 * included, application excluded as far as posting and releasing go. scripts/count-instructions
 * does this for the table in docs/performance.md. Without valgrind it prints the time of an RPC in
 * one thread that does both sides. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine_pair.h"

enum { MTU = 1472, CAPACITY = 8192 };

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr,
                "usage: bench_loop SIZE DEPTH N [none|aes-128-gcm|aes-256-gcm] [MTU] [IMPL]\n");
        return 1;
    }
    size_t size = strtoull(argv[1], NULL, 0);
    unsigned depth = (unsigned)atoi(argv[2]);
    uint64_t n = strtoull(argv[3], NULL, 0);
    const char *cipher = argc > 4 ? argv[4] : "aes-128-gcm";
    uint32_t mtu = argc > 5 ? (uint32_t)atoi(argv[5]) : MTU;
    const char *impl = argc > 6 ? argv[6] : NULL;
    const struct smt_aead *aead = strcmp(cipher, "none") == 0 ? smt_aead_find(SMT_AEAD_NONE, NULL)
                                                              : smt_aead_by_name(cipher, impl);
    if (aead == NULL)
        engine_check(SMT_EUNSUPPORTED, cipher);
    struct smt_dev *da, *db;
    engine_check(smt_dev_loop_pair(mtu, CAPACITY, &da, &db), "loop");
    struct smt_addr to = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
                          .port = db->ops->port(db)};
    struct engine_pair p;
    engine_pair_open(&p, da, db, &to, aead, size, depth);
    /* Warm: probes, pools and the first marks. */
    engine_pair_run(&p, depth * 10ull + 100);
    uint64_t first = p.done, t0 = clock_ns();
    engine_pair_run(&p, n);
    uint64_t ns = clock_ns() - t0;
    printf("{\"size\":%zu,\"depth\":%u,\"cipher\":\"%s\",\"rpcs\":%llu,\"all_rpcs\":%llu,"
           "\"ns_per_rpc\":%.1f}\n",
           size, depth, aead->name, (unsigned long long)(p.done - first),
           (unsigned long long)p.done, (double)ns / (double)(p.done - first));
    engine_pair_close(&p);
    da->ops->close(da);
    db->ops->close(db);
    return 0;
}
