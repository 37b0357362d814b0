#include "hs_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct smt_params hs_pair_params(uint64_t id, const char *ciphers)
{
    struct smt_params p;
    smt_params_init(&p);
    p.session_id = id;
    p.versions[p.n_versions++] = 2;
    for (const char *c = ciphers; *c != '\0'; c++)
        p.ciphers[p.n_ciphers++] = (uint8_t)(*c - '0');
    return p;
}

static struct smt_hs *must_new(const struct smt_hs_config *config)
{
    struct smt_hs *hs = NULL;
    int rc = smt_hs_new(config, &hs);
    if (rc < 0) {
        fprintf(stderr, "smt_hs_new: %s\n", smt_error_name(rc));
        abort();
    }
    return hs;
}

void hs_pair_open(struct hs_pair *pair, const struct smt_hs_config *i,
                  const struct smt_hs_config *r)
{
    *pair = (struct hs_pair){.i = must_new(i), .r = must_new(r)};
}

void hs_pair_open_simple(struct hs_pair *pair, struct smt_creds *i, struct smt_creds *r)
{
    const struct smt_hs_config i_config = {
        .creds = i,
        .initiator = true,
        .verify_name = "localhost",
        .params = hs_pair_params(HS_PAIR_I_ID, "12"),
    };
    const struct smt_hs_config r_config = {
        .creds = r,
        .params = hs_pair_params(HS_PAIR_R_ID, "12"),
        .initiator_id = HS_PAIR_I_ID,
    };
    hs_pair_open(pair, &i_config, &r_config);
}

void hs_pair_input(struct hs_pair *pair, bool to_initiator, const uint8_t *bytes, size_t len)
{
    int *rc = to_initiator ? &pair->i_rc : &pair->r_rc;
    int now = smt_hs_input(to_initiator ? pair->i : pair->r, bytes, len);
    if (*rc >= 0)
        *rc = now;
}

static size_t carry(struct hs_pair *pair, bool to_initiator)
{
    uint8_t bytes[65536];
    size_t n = smt_hs_output(to_initiator ? pair->r : pair->i, bytes, sizeof(bytes));
    size_t chunk = pair->chunk > 0 ? pair->chunk : n;
    for (size_t at = 0; at < n; at += chunk)
        hs_pair_input(pair, to_initiator, bytes + at, n - at < chunk ? n - at : chunk);
    return n;
}

void hs_pair_run(struct hs_pair *pair)
{
    hs_pair_input(pair, true, NULL, 0);
    for (;;) {
        size_t from_i = carry(pair, false), from_r = carry(pair, true);
        pair->i_bytes += from_i;
        pair->r_bytes += from_r;
        if (from_i == 0 && from_r == 0)
            break;
    }
}

void hs_pair_close(struct hs_pair *pair)
{
    smt_hs_free(pair->i);
    smt_hs_free(pair->r);
    *pair = (struct hs_pair){0};
}
