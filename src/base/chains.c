/* Chains, not open addressing, because their entries come and go with every call: nothing moves
 * when one is taken out. The hash is a sum of products with odd secret words of which the top bits
 * count (multiply-shift), and is kept in the link, so that growing asks the owners nothing. */
#include "base/chains.h"

#include "base/mem.h"

enum { MAX_BITS = 30 };

static size_t heads_len(unsigned bits)
{
    return sizeof(struct smt_chain *) << bits;
}

int smt_chains_init(struct smt_chains *t, const uint64_t seed[2], unsigned bits)
{
    assert(bits >= 1 && bits <= MAX_BITS);
    struct smt_chain **heads = smt_mem_block(heads_len(bits));
    if (heads == NULL)
        return SMT_ENOMEM;
    *t = (struct smt_chains){.heads = heads,
                             .k = {seed[0] | 1, seed[1] | 1},
                             .bits = bits,
                             .shift = 64 - bits};
    return 0;
}

void smt_chains_fini(struct smt_chains *t)
{
    if (t->heads != NULL)
        smt_mem_block_free(t->heads, heads_len(t->bits));
    smt_wipe(t, sizeof(*t));
}

void smt_chains_grow(struct smt_chains *t)
{
    struct smt_chain **heads = t->bits < MAX_BITS ? smt_mem_block(heads_len(t->bits + 1)) : NULL;
    if (heads == NULL)
        return;
    const struct smt_chains old = *t;
    t->heads = heads;
    t->bits++;
    t->shift--;
    for (size_t i = 0; i < (size_t)1 << old.bits; i++) {
        for (struct smt_chain *l = old.heads[i], *next; l != NULL; l = next) {
            next = l->next;
            smt_chains_link(t, l);
        }
    }
    smt_mem_block_free(old.heads, heads_len(old.bits));
}
