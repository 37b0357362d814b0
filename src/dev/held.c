/* A short array, oldest first: there are few, they are looked at together, and most leave
 * together. */
#include "dev/held.h"

#include <string.h>

enum {
    FRESH_MS = 200, /* younger ones are not pushed out by newer ones */
    MAX_MS = 2000,
};

void *smt_held_add(struct smt_held *h, uint32_t max, void *slot, uint64_t now)
{
    void *out = NULL;
    if (h->n == max) {
        if (now - h->at[0].since < FRESH_MS * SMT_MSEC)
            return slot;
        out = h->at[0].slot;
        h->n--;
        memmove(h->at, h->at + 1, h->n * sizeof(*h->at));
    }
    h->at[h->n].slot = slot;
    h->at[h->n++].since = now;
    return out;
}

void smt_held_release(struct smt_held *h, uint64_t now, smt_held_leaves_fn *leaves, void *arg)
{
    for (uint32_t i = h->n; i-- > 0;) {
        if (leaves(arg, h->at[i].slot, now - h->at[i].since > MAX_MS * SMT_MSEC))
            h->at[i].slot = NULL;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        if (h->at[i].slot != NULL)
            h->at[n++] = h->at[i];
    }
    h->n = n;
}
