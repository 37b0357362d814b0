/* Walks the packets of a message of every size, notes for those that count how much was left and
 * how long they are on the wire, sorts by what was left and cuts the sum into equal parts. With
 * HomaSimulation's headers this gives its cutoffs for W1 to W3 to the byte (test_sim_control). */
#include "sim/control_cutoffs.h"

#include <stdlib.h>

#include "base/mem.h"

/* Packets of the last window; more would be shorter than 100 bytes. */
enum { MAX_TAIL = 128 };

struct weight {
    uint32_t left;
    double wire;
};

struct weights {
    struct weight *all;
    size_t n, cap;
};

uint32_t smt_control_unsched(const struct smt_net_headers *hdr)
{
    uint32_t room = SMT_CONTROL_WINDOW, data = 0;
    for (;;) {
        uint32_t head = data == 0 ? hdr->first : hdr->unsched;
        uint32_t extra = smt_net_wire_len(hdr->max_payload) - hdr->max_payload + head;
        if (room <= extra)
            return data;
        uint32_t whole = hdr->max_payload - head;
        uint32_t part = room - extra < whole ? room - extra : whole;
        data += part;
        room -= part + extra;
    }
}

static bool add(struct weights *w, uint32_t left, double wire)
{
    if (w->n == w->cap) {
        size_t cap = w->cap * 2;
        struct weight *more = smt_mem_block(cap * sizeof(*more));
        if (more == NULL)
            return false;
        memcpy(more, w->all, w->n * sizeof(*more));
        smt_mem_block_free(w->all, w->cap * sizeof(*more));
        w->all = more;
        w->cap = cap;
    }
    w->all[w->n++] = (struct weight){.left = left, .wire = wire};
    return true;
}

static bool add_message(struct weights *w, const struct smt_net_headers *hdr,
                        const struct smt_size_share *size, uint32_t unsched)
{
    struct weight tail[MAX_TAIL];
    uint32_t offset = 0, n_sched = 0;
    do {
        uint32_t data = smt_net_cut(hdr, size->len, offset, unsched);
        uint32_t wire = smt_net_wire_len(smt_net_payload(hdr, offset, data, unsched));
        struct weight one = {.left = size->len - offset, .wire = wire};
        if (offset >= unsched && offset > 0)
            tail[n_sched++ % MAX_TAIL] = one;
        else if (!add(w, one.left, wire * size->share))
            return false;
        offset += data;
    } while (offset < size->len);
    double in_tail = 0;
    for (uint32_t i = 0; i < n_sched && i < MAX_TAIL; i++) {
        const struct weight *t = &tail[(n_sched - 1 - i) % MAX_TAIL];
        in_tail += t->wire;
        if (in_tail > SMT_CONTROL_WINDOW)
            break;
        if (!add(w, t->left, t->wire * size->share))
            return false;
    }
    double grants = (double)n_sched * smt_net_wire_len(hdr->grant);
    return n_sched == 0 || add(w, 0, grants * size->share);
}

static int by_left(const void *a, const void *b)
{
    const struct weight *x = a, *y = b;
    return (x->left > y->left) - (x->left < y->left);
}

int smt_control_cutoffs_compute(const struct smt_net_headers *hdr,
                                const struct smt_size_share *sizes, unsigned n_sizes,
                                uint32_t unsched, unsigned n_levels, uint32_t *cutoffs)
{
    assert(n_levels >= 1 && n_levels <= SMT_CONTROL_MAX);
    if (n_levels == 1)
        return 0;
    struct weights w = {.cap = 1024};
    w.all = smt_mem_block(w.cap * sizeof(*w.all));
    bool ok = w.all != NULL;
    for (unsigned i = 0; ok && i < n_sizes; i++) {
        if (sizes[i].share > 0)
            ok = add_message(&w, hdr, &sizes[i], unsched);
    }
    if (ok) {
        qsort(w.all, w.n, sizeof(*w.all), by_left);
        double total = 0, sum = 0;
        for (size_t i = 0; i < w.n; i++)
            total += w.all[i].wire;
        unsigned k = 0;
        for (size_t i = 0; i < w.n && k < n_levels - 1; i++) {
            sum += w.all[i].wire;
            while (k < n_levels - 1 && sum >= total * (k + 1) / n_levels)
                cutoffs[k++] = w.all[i].left;
        }
    }
    if (w.all != NULL)
        smt_mem_block_free(w.all, w.cap * sizeof(*w.all));
    return ok ? 0 : SMT_ENOMEM;
}
