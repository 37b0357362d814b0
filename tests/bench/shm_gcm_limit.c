/* The limit of shared memory with AES-GCM: what is left when a transport does nothing.
 *
 * For each message in flight one slot each way: a line with a number, and room for the message as
 * sealed records of at most 16 KB. The writer seals straight into the room of the other and raises
 * the number; who polls finds it and opens straight into memory of its own. Nobody checks what may
 * change meanwhile, waits for room, or knows a session. Both sides spin. Not a transport, but no
 * transport over shared memory that seals with the CPU can pass it. */
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "gcm.h"

enum { LINE = 64, RECORD = 16384, MAX_SIZE = 1 << 20, MAX_DEPTH = 4096 };

/* Slots of one direction. */
struct lane {
    uint8_t *mem;
    size_t step, size;
};

static struct lane lanes[2]; /* [0] requests */

static uint8_t *lane_slot(const struct lane *l, unsigned i)
{
    return l->mem + i * l->step;
}

static void lane_init(struct lane *l, size_t size, unsigned depth)
{
    size_t n_records = size / RECORD + 1;
    l->size = size;
    l->step = (LINE + size + n_records * GCM_TAG_LEN + 2 * LINE - 1) / LINE * LINE;
    l->mem = mmap(NULL, l->step * depth, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (l->mem == MAP_FAILED) {
        peer_die("shared memory");
    }
    memset(l->mem, 0, l->step * depth);
}

static uint64_t number_of(const struct lane *l, unsigned i)
{
    return __atomic_load_n((uint64_t *)(void *)lane_slot(l, i), __ATOMIC_ACQUIRE);
}

static uint64_t seq_of(const struct lane *l, unsigned i, uint64_t number, size_t record)
{
    uint64_t way = l == &lanes[0] ? 0 : 1;
    return way << 63 | (uint64_t)i << 48 | number << 8 | record;
}

static void put(const struct lane *l, unsigned i, uint64_t number, struct gcm *g,
                const uint8_t *from)
{
    uint8_t *to = lane_slot(l, i) + LINE;
    for (size_t at = 0, record = 0; at < l->size; at += RECORD, record++) {
        size_t len = l->size - at < RECORD ? l->size - at : RECORD;
        gcm_seal(g, seq_of(l, i, number, record), from + at, len, to, to + len);
        to += len + GCM_TAG_LEN;
    }
    __atomic_store_n((uint64_t *)(void *)lane_slot(l, i), number, __ATOMIC_RELEASE);
}

static void get(const struct lane *l, unsigned i, uint64_t number, struct gcm *g, uint8_t *to)
{
    const uint8_t *from = lane_slot(l, i) + LINE;
    for (size_t at = 0, record = 0; at < l->size; at += RECORD, record++) {
        size_t len = l->size - at < RECORD ? l->size - at : RECORD;
        if (!gcm_open(g, seq_of(l, i, number, record), from, len, to + at, from + len)) {
            peer_die("tag");
        }
        from += len + GCM_TAG_LEN;
    }
}

static uint8_t *bytes_new(size_t len)
{
    uint8_t *p = malloc(len);
    if (p == NULL) {
        peer_die("memory");
    }
    memset(p, 7, len);
    return p;
}

static void serve(const struct peer_args *args)
{
    struct gcm *g = gcm_new(args->plain);
    uint8_t *in = bytes_new(args->size), *out = bytes_new(args->resp_size);
    uint64_t *seen = calloc(args->depth, sizeof(*seen));
    if (seen == NULL) {
        peer_die("memory");
    }
    for (;;) {
        for (unsigned i = 0; i < args->depth; i++) {
            uint64_t number = number_of(&lanes[0], i);
            if (number == seen[i]) {
                continue;
            }
            seen[i] = number;
            get(&lanes[0], i, number, g, in);
            put(&lanes[1], i, number, g, out);
        }
    }
}

static uint64_t call(const struct peer_args *args, struct peer_lat *lat, uint64_t *since,
                     uint64_t *number)
{
    struct gcm *g = gcm_new(args->plain);
    uint8_t *out = bytes_new(args->size), *in = bytes_new(args->resp_size);
    uint64_t now = peer_now();
    for (unsigned i = 0; i < args->depth; i++) {
        since[i] = now;
        put(&lanes[0], i, ++number[i], g, out);
    }
    uint64_t begin = now + (uint64_t)(args->warm_s * 1e9);
    uint64_t stop = begin + (uint64_t)(args->seconds * 1e9);
    /* However short the time, one RPC is measured. */
    while (now < stop || lat->n_rpcs == 0) {
        for (unsigned i = 0; i < args->depth; i++) {
            if (number_of(&lanes[1], i) != number[i]) {
                continue;
            }
            get(&lanes[1], i, number[i], g, in);
            now = peer_now();
            if (begin <= since[i]) {
                peer_lat_add(lat, now - since[i]);
            }
            since[i] = now;
            put(&lanes[0], i, ++number[i], g, out);
        }
    }
    free(in);
    free(out);
    return now - begin;
}

int main(int argc, char **argv)
{
    struct peer_args args;
    peer_parse(argc, argv, 64, MAX_SIZE, &args);
    if (args.depth > MAX_DEPTH) {
        peer_die("depth");
    }
    lane_init(&lanes[0], args.size, args.depth);
    lane_init(&lanes[1], args.resp_size, args.depth);
    peer_spawn(&args, serve);

    struct peer_lat lat;
    peer_lat_init(&lat);
    uint64_t *since = calloc(args.depth, sizeof(*since));
    uint64_t *number = calloc(args.depth, sizeof(*number));
    if (since == NULL || number == NULL) {
        peer_die("memory");
    }
    uint64_t measured = call(&args, &lat, since, number);
    struct gcm *g = gcm_new(args.plain);
    peer_report("shm-gcm-limit", gcm_name(g), &args, &lat, measured);
    gcm_free(g);
    free(since);
    free(number);
    return 0;
}
