/* The closed loop over any carrier. The clock is read once a batch, as a transport would. */
#include "limit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gcm.h"

enum { HEAD_LEN = 16, OVERHEAD = HEAD_LEN + GCM_TAG_LEN };

/* Clear head of each segment. */
struct head {
    uint32_t id, index;
    uint64_t seq;
};
_Static_assert(sizeof(struct head) == HEAD_LEN, "head");

/* How a message is cut: the last segment is padded. */
struct cut {
    size_t data;
    uint32_t n;
};

struct side {
    const struct limit_carrier *carrier;
    void *end;
    struct gcm *gcm;
    uint64_t seq;
    unsigned depth;
    struct cut out, in;
    uint8_t *source;   /* a message to send */
    uint8_t *bodies;   /* depth messages received */
    uint32_t *arrived; /* segments of each */
};

static struct cut cut_of(size_t size)
{
    uint32_t n = (uint32_t)((size + LIMIT_MAX_DATA - 1) / LIMIT_MAX_DATA);
    return (struct cut){.data = (size + n - 1) / n, .n = n};
}

static void *filled(size_t len)
{
    void *p = malloc(len);
    if (p == NULL) {
        peer_die("memory");
    }
    memset(p, 7, len);
    return p;
}

static void side_init(struct side *s, const struct limit_carrier *carrier, void *end,
                      const struct peer_args *args, bool server)
{
    *s = (struct side){
        .carrier = carrier,
        .end = end,
        .gcm = gcm_new(args->plain),
        .seq = server ? 1ull << 63 : 0,
        .depth = args->depth,
        .out = cut_of(server ? args->resp_size : args->size),
        .in = cut_of(server ? args->size : args->resp_size),
    };
    s->source = filled(s->out.data * s->out.n);
    s->bodies = filled(s->in.data * s->in.n * s->depth);
    s->arrived = calloc(s->depth, sizeof(*s->arrived));
    if (s->arrived == NULL) {
        peer_die("memory");
    }
}

static void side_fini(struct side *s)
{
    gcm_free(s->gcm);
    free(s->source);
    free(s->bodies);
    free(s->arrived);
}

static void put(struct side *s, uint32_t id)
{
    for (uint32_t i = 0; i < s->out.n; i++) {
        uint8_t *p = s->carrier->reserve(s->end, s->out.data + OVERHEAD);
        struct head head = {.id = id, .index = i, .seq = s->seq++};
        memcpy(p, &head, HEAD_LEN);
        gcm_seal(s->gcm, head.seq, s->source + i * s->out.data, s->out.data, p + HEAD_LEN,
                 p + HEAD_LEN + s->out.data);
    }
}

/* Opens one segment; true when its message is whole. */
static bool got(struct side *s, const uint8_t *p, size_t len, uint32_t *id)
{
    struct head head;
    errno = 0;
    if (len != s->in.data + OVERHEAD) {
        peer_die("segment of a wrong size");
    }
    memcpy(&head, p, HEAD_LEN);
    if (head.id >= s->depth || head.index >= s->in.n) {
        peer_die("head");
    }
    uint8_t *body = s->bodies + ((size_t)head.id * s->in.n + head.index) * s->in.data;
    if (!gcm_open(s->gcm, head.seq, p + HEAD_LEN, s->in.data, body, p + HEAD_LEN + s->in.data)) {
        peer_die("tag");
    }
    *id = head.id;
    if (++s->arrived[head.id] < s->in.n) {
        return false;
    }
    s->arrived[head.id] = 0;
    return true;
}

static const struct limit_carrier *used;
static void *ends[2];

static void serve(const struct peer_args *args)
{
    struct side s;
    side_init(&s, used, ends[1], args, true);
    for (;;) {
        const uint8_t *data;
        size_t segment, n = used->take(s.end, &data, &segment);
        for (size_t at = 0; at < n; at += segment) {
            uint32_t id;
            if (got(&s, data + at, segment < n - at ? segment : n - at, &id)) {
                put(&s, id);
            }
        }
        if (n > 0) {
            used->flush(s.end);
        }
    }
}

/* Runs until the time is up; returns how long it measured. */
static uint64_t call(struct side *s, const struct peer_args *args, struct peer_lat *lat,
                     uint64_t *since)
{
    uint64_t now = peer_now();
    for (uint32_t id = 0; id < args->depth; id++) {
        since[id] = now;
        put(s, id);
    }
    used->flush(s->end);
    uint64_t begin = now + (uint64_t)(args->warm_s * 1e9);
    uint64_t stop = begin + (uint64_t)(args->seconds * 1e9);
    /* However short the time, one RPC is measured. */
    while (now < stop || lat->n_rpcs == 0) {
        const uint8_t *data;
        size_t segment, n = used->take(s->end, &data, &segment);
        if (n == 0) {
            continue;
        }
        now = peer_now();
        for (size_t at = 0; at < n; at += segment) {
            uint32_t id;
            if (!got(s, data + at, segment < n - at ? segment : n - at, &id)) {
                continue;
            }
            if (begin <= since[id]) {
                peer_lat_add(lat, now - since[id]);
            }
            since[id] = now;
            put(s, id);
        }
        used->flush(s->end);
    }
    return now - begin;
}

int limit_main(int argc, char **argv, const struct limit_carrier *carrier)
{
    struct peer_args args;
    peer_parse(argc, argv, 64, LIMIT_MAX_SIZE, &args);
    used = carrier;
    carrier->open(&args, ends);
    peer_spawn(&args, serve);

    struct side s;
    struct peer_lat lat;
    side_init(&s, carrier, ends[0], &args, false);
    peer_lat_init(&lat);
    uint64_t *since = calloc(args.depth, sizeof(*since));
    if (since == NULL) {
        peer_die("memory");
    }
    uint64_t measured = call(&s, &args, &lat, since);
    peer_report(carrier->name, gcm_name(s.gcm), &args, &lat, measured);
    free(since);
    side_fini(&s);
    return 0;
}
