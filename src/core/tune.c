/* The table of tunables as data: defaults, ranges, setting by name. */
#include "core/tune.h"

#include <string.h>

static const struct smt_tune_row rows[] = {
#define SMT_TUNE_ROW(name, is, least, most, text) {#name, text, is, least, most},
    SMT_TUNE_TABLE(SMT_TUNE_ROW)
#undef SMT_TUNE_ROW
};

static_assert(sizeof(struct smt_tune) == sizeof(uint32_t) * SMT_ARRAY_LEN(rows),
              "one word a row, in order");

void smt_tune_init(struct smt_tune *t)
{
    uint32_t *values = (uint32_t *)t;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++)
        values[i] = rows[i].is;
}

void smt_tune_clamp(struct smt_tune *t)
{
    uint32_t *values = (uint32_t *)t;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        if (values[i] < rows[i].least)
            values[i] = rows[i].least;
        else if (values[i] > rows[i].most)
            values[i] = rows[i].most;
    }
}

int smt_tune_set(struct smt_tune *t, const char *name, size_t name_len, uint64_t value)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        if (strlen(rows[i].name) != name_len || memcmp(rows[i].name, name, name_len) != 0)
            continue;
        if (value < rows[i].least || value > rows[i].most)
            return SMT_EINVAL;
        ((uint32_t *)t)[i] = (uint32_t)value;
        return 0;
    }
    return SMT_EINVAL;
}

bool smt_tune_row(unsigned i, struct smt_tune_row *out)
{
    if (i >= SMT_ARRAY_LEN(rows))
        return false;
    *out = rows[i];
    return true;
}
