/* The low-water mark and done bitmap of one side. Ids finish in any order but mostly near the mark,
 * so the 64 ids behind it are bits and only stragglers' successors beyond that go to a range
 * set. */
#include "core/finished.h"

#include "base/mem.h"

enum { MAX_LATER = 1 << 20 };

void smt_finished_init(struct smt_finished *f, struct smt_ranges_pool *pool)
{
    f->low_water = 1;
    f->done = 0;
    f->untold = false;
    f->later = NULL;
    f->pool = pool;
}

static void later_drop(struct smt_finished *f)
{
    if (f->later == NULL)
        return;
    smt_ranges_fini(f->later);
    smt_mem_free(f->later);
    f->later = NULL;
}

static int later_add(struct smt_finished *f, uint64_t id)
{
    if (f->later == NULL) {
        f->later = smt_mem_alloc(sizeof(*f->later));
        if (f->later == NULL)
            return SMT_ENOMEM;
        smt_ranges_init(f->later, f->pool, MAX_LATER);
    }
    return smt_ranges_add(f->later, id, id + 1);
}

void smt_finished_fini(struct smt_finished *f)
{
    later_drop(f);
}

/* The mark's own id is finished: the mark moves by one. True if the new mark's id is finished
 * too. */
static bool mark_step(struct smt_finished *f)
{
    bool next = f->done & 1;
    f->low_water++;
    f->done >>= 1;
    uint64_t reached = f->low_water + 64;
    if (SMT_UNLIKELY(f->later != NULL) && smt_ranges_contains(f->later, reached)) {
        f->done |= 1ull << 63;
        smt_ranges_remove_below(f->later, reached + 1);
        if (smt_ranges_count(f->later) == 0)
            later_drop(f);
    }
    return next;
}

int smt_finished_add_any(struct smt_finished *f, uint64_t id)
{
    assert(id >= f->low_water);
    uint64_t d = id - f->low_water;
    if (d > 64) {
        int rc = later_add(f, id);
        if (rc < 0)
            return rc;
    } else if (d > 0) {
        f->done |= 1ull << (d - 1);
    } else {
        while (mark_step(f))
            ;
    }
    f->untold = true;
    return 0;
}
