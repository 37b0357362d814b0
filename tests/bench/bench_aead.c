/* What sealing and opening a record costs, by row, length and shape: not a test.
 *
 * A record's plaintext is a 16-byte head made by us and the user's data. Three ways to seal it:
 *   one    all of it lies in one piece already (the floor, and what in-place receive costs)
 *   two    gathered: head and data as two pieces
 *   copy   data copied behind the head into the output, then sealed there as one piece
 * and to open it: one piece; scattered into head and message; in place and then copied out.
 *
 * At the end 16 KB in the slices of packets, with the clear headers of packets between them: sealed
 * from head and data into 12 slices, opened from them into head and message. Beside it the same in
 * one piece, and the time of the slices whose length is no multiple of 16.
 *
 *   bench_aead [slots]
 *
 * slots: how many records the run walks over, each with memory of its own (default 1: all in the L1
 * cache). Prints ns a record, the median of the runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/aead.h"
#include "crypto/keyring.h"
#include "crypto/schedule.h"

enum { HEAD_LEN = 16, MAX_LEN = 16384, SLOT_LEN = MAX_LEN + 512, N_RUNS = 31, MAX_SLOTS = 65536 };

static const double run_ns = 400e3;

struct bench {
    const struct smt_aead *row;
    void *ctx;
    uint8_t *data, *record; /* slots of plaintext and of sealed records with their tags */
    size_t n_slots, slot;
    size_t len;
    uint64_t nonce;
    struct smt_keyslot handle; /* gcc 12 puts a static one among the constants */
};

struct shape {
    const char *name;
    int (*run)(struct bench *b);
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static uint8_t *next_slot(struct bench *b, uint8_t **record)
{
    b->slot = b->slot + 1 < b->n_slots ? b->slot + 1 : 0;
    *record = b->record + b->slot * SLOT_LEN;
    return b->data + b->slot * SLOT_LEN;
}

static int seal(struct bench *b, const struct smt_aead_in *in, unsigned n_in, uint8_t *out)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN] = {1, 2, 3, 4};
    uint8_t aad[13] = {0};
    b->nonce++;
    memcpy(nonce + 4, &b->nonce, 8);
    memcpy(aad, &b->nonce, 8);
    return b->row->seal(b->ctx, nonce, aad, sizeof(aad), in, n_in, out, out + b->len);
}

static int seal_one(struct bench *b)
{
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_in in = {data, b->len};
    return seal(b, &in, 1, record);
}

static int seal_two(struct bench *b)
{
    uint8_t head[HEAD_LEN] = {0};
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_in in[] = {{head, HEAD_LEN}, {data, b->len - HEAD_LEN}};
    return seal(b, in, 2, record);
}

static int seal_copy(struct bench *b)
{
    uint8_t head[HEAD_LEN] = {0};
    uint8_t *record, *data = next_slot(b, &record);
    memcpy(record, head, HEAD_LEN);
    memcpy(record + HEAD_LEN, data, b->len - HEAD_LEN);
    struct smt_aead_in in = {record, b->len};
    return seal(b, &in, 1, record);
}

/* Opening costs the same whether or not the tag fits, so records need not be valid: what counts
 * as failure is anything but a verdict on the tag. */
static int open_into(struct bench *b, const uint8_t *record, const struct smt_aead_out *out,
                     unsigned n_out)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN] = {1, 2, 3, 4};
    uint8_t aad[13] = {0};
    memcpy(nonce + 4, &b->nonce, 8);
    memcpy(aad, &b->nonce, 8);
    int err =
        b->row->open(b->ctx, nonce, aad, sizeof(aad), record, b->len, out, n_out, record + b->len);
    return err == SMT_EAUTH ? 0 : err;
}

static int open_one(struct bench *b)
{
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_out out = {data, b->len};
    return open_into(b, record, &out, 1);
}

static int open_two(struct bench *b)
{
    uint8_t head[HEAD_LEN];
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_out out[] = {{head, HEAD_LEN}, {data, b->len - HEAD_LEN}};
    return open_into(b, record, out, 2);
}

static int open_copy(struct bench *b)
{
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_out out = {record, b->len};
    int err = open_into(b, record, &out, 1);
    memcpy(data, record + HEAD_LEN, b->len - HEAD_LEN);
    return err;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double run(struct bench *b, int (*work)(struct bench *b), unsigned n)
{
    double start = now_ns();
    for (unsigned i = 0; i < n; i++) {
        if (work(b) != 0) {
            fprintf(stderr, "the cipher failed\n");
            exit(1);
        }
    }
    return (now_ns() - start) / n;
}

static double median(struct bench *b, int (*work)(struct bench *b))
{
    double ns[N_RUNS];
    double first = run(b, work, 100);
    unsigned n = (unsigned)(run_ns / (first > 1 ? first : 1)) + 1;
    if (n < 2 * b->n_slots)
        n = (unsigned)(2 * b->n_slots);
    run(b, work, n);
    for (unsigned i = 0; i < N_RUNS; i++)
        ns[i] = run(b, work, n);
    qsort(ns, N_RUNS, sizeof(ns[0]), compare_doubles);
    return ns[N_RUNS / 2];
}

static const struct shape shapes[] = {
    {"seal one", seal_one}, {"seal two", seal_two}, {"seal copy", seal_copy},
    {"open one", open_one}, {"open two", open_two}, {"open copy", open_copy},
};

static void bench_row(struct bench *b)
{
    static const size_t lens[] = {64, 104, 1448, 8192, 16384};
    static const uint8_t key[SMT_AEAD_MAX_KEY_LEN] = {1};
    if (b->row->init(b->ctx, key) != 0) {
        fprintf(stderr, "%s of %s does not start\n", b->row->name, b->row->impl);
        exit(1);
    }
    for (unsigned l = 0; l < SMT_ARRAY_LEN(lens); l++) {
        b->len = lens[l];
        printf("%-8s %-11s %6zu", b->row->impl, b->row->name, b->len);
        for (unsigned s = 0; s < SMT_ARRAY_LEN(shapes); s++)
            printf(" %9.1f", median(b, shapes[s].run));
        printf("\n");
    }
    b->row->fini(b->ctx);
}

/* The pieces of a record in slices of slice_len bytes, a header apart in the record's slot. */
enum { SLICES = 12, GAP = 28 };

static size_t slice_len;

static unsigned cut_slices(const struct bench *b, uint8_t *at, struct smt_aead_out out[SLICES + 1])
{
    unsigned n = 0;
    for (size_t done = 0; done < b->len; done += slice_len, at += slice_len + GAP) {
        size_t left = b->len - done;
        out[n++] = (struct smt_aead_out){at, left < slice_len ? left : slice_len};
    }
    return n;
}

static int seal_slices(struct bench *b)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN] = {1, 2, 3, 4};
    uint8_t aad[13] = {0}, head[HEAD_LEN] = {0}, tag[SMT_AEAD_TAG_LEN];
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_in in[] = {{head, HEAD_LEN}, {data, b->len - HEAD_LEN}};
    struct smt_aead_out out[SLICES + 1];
    unsigned n = cut_slices(b, record, out);
    b->nonce++;
    memcpy(nonce + 4, &b->nonce, 8);
    return b->row->seal_to(b->ctx, nonce, aad, sizeof(aad), in, 2, out, n, tag);
}

static int open_slices(struct bench *b)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN] = {1, 2, 3, 4};
    uint8_t aad[13] = {0}, head[HEAD_LEN], tag[SMT_AEAD_TAG_LEN] = {0};
    uint8_t *record, *data = next_slot(b, &record);
    struct smt_aead_out out[] = {{head, HEAD_LEN}, {data, b->len - HEAD_LEN}}, cuts[SLICES + 1];
    struct smt_aead_in in[SLICES + 1];
    unsigned n = cut_slices(b, record, cuts);
    for (unsigned i = 0; i < n; i++)
        in[i] = (struct smt_aead_in){cuts[i].p, cuts[i].len};
    int err = b->row->open_from(b->ctx, nonce, aad, sizeof(aad), in, n, out, 2, tag);
    return err == SMT_EAUTH ? 0 : err;
}

static void bench_slices(struct bench *b)
{
    static const size_t lens[] = {1376, 1424, 1440, 1441, 1447};
    static const uint8_t key[SMT_AEAD_MAX_KEY_LEN] = {1};
    if (b->row->init(b->ctx, key) != 0)
        exit(1);
    b->len = MAX_LEN;
    printf("%-8s %-11s 16 KB: one piece, seal %.0f, open %.0f ns", b->row->impl, b->row->name,
           median(b, seal_one), median(b, open_one));
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        slice_len = lens[i];
        printf("; slices of %zu, %.0f, %.0f", slice_len, median(b, seal_slices),
               median(b, open_slices));
    }
    printf("\n");
    b->row->fini(b->ctx);
}

/* The costs beside the record: keys. */
static int do_rekey(struct bench *b)
{
    static uint8_t key[SMT_AEAD_MAX_KEY_LEN];
    key[0]++;
    return b->row->rekey(b->ctx, key);
}

static int do_init(struct bench *b)
{
    static const uint8_t key[SMT_AEAD_MAX_KEY_LEN] = {1};
    int err = b->row->init(b->ctx, key);
    b->row->fini(b->ctx);
    return err;
}

static int do_schedule(struct bench *b)
{
    static const uint8_t secret[SMT_SECRET_LEN] = {1};
    struct smt_epoch_keys keys;
    return smt_schedule_keys(secret, 16, &keys);
}

static int do_hmac(struct bench *b)
{
    static const uint8_t key[32] = {1}, text[40] = {2};
    uint8_t mac[32];
    struct smt_aead_in in = {text, sizeof(text)};
    return smt_hmac_sha256(key, sizeof(key), &in, 1, mac);
}

static struct smt_keyring ring;

static int do_ring_hit(struct bench *b)
{
    static const uint8_t key[SMT_AEAD_MAX_KEY_LEN] = {1};
    return smt_keyring_get(&ring, &b->handle, key) == NULL ? SMT_ECRYPTO : 0;
}

static void bench_keys(struct bench *b)
{
    static const uint8_t key[SMT_AEAD_MAX_KEY_LEN] = {1};
    double init_ns = median(b, do_init);
    if (b->row->init(b->ctx, key) != 0)
        exit(1);
    double rekey_ns = median(b, do_rekey);
    b->row->fini(b->ctx);
    void *mem = aligned_alloc(64, smt_keyring_size(b->row, 8));
    if (mem == NULL || smt_keyring_init(&ring, b->row, 8, mem) != 0)
        exit(1);
    double hit_ns = median(b, do_ring_hit);
    smt_keyring_fini(&ring);
    free(mem);
    printf("%-8s %-11s init+fini %.0f, rekey %.0f, keyring hit %.1f ns\n", b->row->impl,
           b->row->name, init_ns, rekey_ns, hit_ns);
}

int main(int argc, char **argv)
{
    struct bench b = {.n_slots = argc > 1 ? strtoul(argv[1], NULL, 10) : 1};
    if (b.n_slots == 0 || b.n_slots > MAX_SLOTS) {
        fprintf(stderr, "usage: bench_aead [slots]\n");
        return 2;
    }
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    b.ctx = aligned_alloc(64, 4096);
    b.data = aligned_alloc(64, b.n_slots * SLOT_LEN);
    b.record = aligned_alloc(64, b.n_slots * SLOT_LEN);
    if (b.ctx == NULL || b.data == NULL || b.record == NULL)
        return 1;
    memset(b.data, 1, b.n_slots * SLOT_LEN);
    memset(b.record, 1, b.n_slots * SLOT_LEN);

    printf("ns a record\n%-8s %-11s %6s", "impl", "cipher", "bytes");
    for (unsigned s = 0; s < SMT_ARRAY_LEN(shapes); s++)
        printf(" %9s", shapes[s].name);
    printf("\n");
    for (unsigned i = 0; i < n; i++) {
        b.row = &rows[i];
        bench_row(&b);
    }
    for (unsigned i = 0; i < n; i++) {
        b.row = &rows[i];
        bench_keys(&b);
    }
    for (unsigned i = 0; i < n; i++) {
        b.row = &rows[i];
        bench_slices(&b);
    }
    printf("schedule of an epoch %.0f ns, hmac of 40 B %.0f ns\n", median(&b, do_schedule),
           median(&b, do_hmac));
    free(b.record);
    free(b.data);
    free(b.ctx);
    return 0;
}
