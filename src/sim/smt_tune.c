/* One table: what of an engine's configuration an experiment may set. */
#include "sim/smt_tune.h"

#include <stdlib.h>
#include <string.h>

#define FIELD(name)                                                                                \
    {                                                                                              \
        #name, offsetof(struct smt_engine_config, name),                                           \
            sizeof(((struct smt_engine_config *)0)->name)                                          \
    }

static const struct field {
    const char *name;
    size_t at, len;
} fields[] = {
    FIELD(mtu),           FIELD(rx_window),    FIELD(max_open_rpcs), FIELD(max_conn_bytes),
    FIELD(max_bytes),     FIELD(accept_len),   FIELD(peer_timeout),  FIELD(idle_timeout),
    FIELD(rekey_records), FIELD(cached_keys),
};

const char *smt_tune_name(unsigned i)
{
    struct smt_tune_row row;
    if (i < SMT_ARRAY_LEN(fields))
        return fields[i].name;
    return smt_tune_row(i - SMT_ARRAY_LEN(fields), &row) ? row.name : NULL;
}

static int set(struct smt_engine_config *g, const char *name, size_t name_len, uint64_t value)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(fields); i++) {
        const struct field *f = &fields[i];
        if (strlen(f->name) != name_len || memcmp(f->name, name, name_len) != 0)
            continue;
        /* Little-endian machines only, as everywhere in the tools. */
        memcpy((char *)g + f->at, &value, f->len);
        return 0;
    }
    return smt_tune_set(&g->tune, name, name_len, value);
}

int smt_tune_engine(struct smt_engine_config *g, const char *tune)
{
    while (tune != NULL && *tune != '\0') {
        const char *eq = strchr(tune, '=');
        if (eq == NULL)
            return SMT_EINVAL;
        char *end;
        uint64_t value = strtoull(eq + 1, &end, 0);
        if (end == eq + 1 || (*end != '\0' && *end != ','))
            return SMT_EINVAL;
        int rc = set(g, tune, (size_t)(eq - tune), value);
        if (rc < 0)
            return rc;
        tune = *end == ',' ? end + 1 : end;
    }
    return 0;
}
