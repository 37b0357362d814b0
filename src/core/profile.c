/* The list of wire formats. */
#include "core/profile.h"

#include <string.h>

static const struct smt_profile *const rows[] = {
    &smt_profile_smt2,
    &smt_profile_homa_main,
    &smt_profile_homa_6_1,
    &smt_profile_smt1,
};

const struct smt_profile *smt_profile_at(unsigned i)
{
    return i < SMT_ARRAY_LEN(rows) ? rows[i] : NULL;
}

const struct smt_profile *smt_profile_find(const char *name)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i]->name, name) == 0)
            return rows[i];
    }
    return NULL;
}
