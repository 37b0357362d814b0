/* Which first flights with early data have been accepted lately: none is accepted twice. */
#ifndef SMT_HS_EARLY_SEEN_H
#define SMT_HS_EARLY_SEEN_H

#include "base/defs.h"

enum {
    SMT_EARLY_WINDOW_S = 15, /* how long one is remembered at least */
    SMT_EARLY_SEEN_MAX = 32768, /* in one window; then no early data are taken */
    SMT_EARLY_RANDOM_LEN = 32,
};

struct smt_early_seen;

SMT_MUST_CHECK int smt_early_seen_new(struct smt_early_seen **out);

/* NULL allowed. */
void smt_early_seen_free(struct smt_early_seen *seen);

/* Is this hello, known by its random, the first of its kind? Then it is remembered. False: it was
 * there before, or nobody can tell. now_s of the clock by which tickets age. From any thread. */
bool smt_early_seen_add(struct smt_early_seen *seen, int64_t now_s,
                        const uint8_t random[SMT_EARLY_RANDOM_LEN]);

#endif
