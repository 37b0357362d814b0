/* A walk over a record that is cut into pieces on both sides: the stretches between two cuts, in
 * order, each of one input and one output. For the back ends only. */
#ifndef SMT_CRYPTO_AEAD_WALK_H
#define SMT_CRYPTO_AEAD_WALK_H

#include "crypto/aead.h"

/* The pieces still to do, and how much of the first of each side is done. */
struct smt_aead_walk {
    const struct smt_aead_in *in;
    const struct smt_aead_out *out;
    unsigned n_in, n_out;
    size_t in_at, out_at;
};

/* The next stretch, never empty; 0 at the end. */
static inline size_t smt_aead_walk_next(struct smt_aead_walk *w, const uint8_t **from, uint8_t **to)
{
    while (w->n_in > 0 && w->in_at == w->in->len) {
        w->in++;
        w->n_in--;
        w->in_at = 0;
    }
    while (w->n_out > 0 && w->out_at == w->out->len) {
        w->out++;
        w->n_out--;
        w->out_at = 0;
    }
    assert((w->n_in == 0) == (w->n_out == 0)); /* else the two sides differ in length */
    if (w->n_in == 0)
        return 0;
    size_t len = w->in->len - w->in_at;
    if (len > w->out->len - w->out_at)
        len = w->out->len - w->out_at;
    *from = w->in->p + w->in_at;
    *to = w->out->p + w->out_at;
    w->in_at += len;
    w->out_at += len;
    return len;
}

#endif
