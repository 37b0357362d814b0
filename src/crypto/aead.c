/* The table of ciphers, and how one is chosen.
 *
 * Owns the order (fastest first) and the rule that with a FIPS provider active only rows that may
 * run under it are picked, also by name. How a cipher works is left to
 * aead_openssl.c and aead_ipsec_mb.c. What this build lacks is not in the array; what this CPU
 * lacks stands at its front (speed asks for more of a CPU) and is stepped over, so that the list
 * needs no memory and no lock. */
#include "crypto/aead.h"

#include <string.h>

#include <openssl/evp.h>

#include "crypto/aead_rows.h"

static const struct smt_aead rows[] = {
#ifdef SMT_HAVE_IPSEC_MB
    {
        .name = "aes-128-gcm",
        .impl = "ipsec-mb",
        .alg = SMT_AEAD_AES128_GCM,
        .key_len = 16,
        .ctx_len = SMT_AEAD_IMB_CTX_LEN,
        .fips = false,
        .usable = smt_aead_imb_usable,
        .init = smt_aead_imb_init128,
        .rekey = smt_aead_imb_rekey,
        .fini = smt_aead_imb_fini,
        .seal = smt_aead_imb_seal,
        .open = smt_aead_imb_open,
        .seal_to = smt_aead_imb_seal_to,
        .open_from = smt_aead_imb_open_from,
    },
    {
        .name = "aes-256-gcm",
        .impl = "ipsec-mb",
        .alg = SMT_AEAD_AES256_GCM,
        .key_len = 32,
        .ctx_len = SMT_AEAD_IMB_CTX_LEN,
        .fips = false,
        .usable = smt_aead_imb_usable,
        .init = smt_aead_imb_init256,
        .rekey = smt_aead_imb_rekey,
        .fini = smt_aead_imb_fini,
        .seal = smt_aead_imb_seal,
        .open = smt_aead_imb_open,
        .seal_to = smt_aead_imb_seal_to,
        .open_from = smt_aead_imb_open_from,
    },
#endif
    {
        .name = "aes-128-gcm",
        .impl = "openssl",
        .alg = SMT_AEAD_AES128_GCM,
        .key_len = 16,
        .ctx_len = SMT_AEAD_OPENSSL_CTX_LEN,
        .fips = true,
        .usable = smt_aead_openssl_usable,
        .init = smt_aead_openssl_init128,
        .rekey = smt_aead_openssl_rekey,
        .fini = smt_aead_openssl_fini,
        .seal = smt_aead_openssl_seal,
        .open = smt_aead_openssl_open,
        .seal_to = smt_aead_openssl_seal_to,
        .open_from = smt_aead_openssl_open_from,
    },
    {
        .name = "aes-256-gcm",
        .impl = "openssl",
        .alg = SMT_AEAD_AES256_GCM,
        .key_len = 32,
        .ctx_len = SMT_AEAD_OPENSSL_CTX_LEN,
        .fips = true,
        .usable = smt_aead_openssl_usable,
        .init = smt_aead_openssl_init256,
        .rekey = smt_aead_openssl_rekey,
        .fini = smt_aead_openssl_fini,
        .seal = smt_aead_openssl_seal,
        .open = smt_aead_openssl_open,
        .seal_to = smt_aead_openssl_seal_to,
        .open_from = smt_aead_openssl_open_from,
    },
};

const struct smt_aead *smt_aead_list(unsigned *n)
{
    unsigned first = 0;
    while (first < SMT_ARRAY_LEN(rows) && !rows[first].usable())
        first++;
    *n = (unsigned)SMT_ARRAY_LEN(rows) - first;
    return rows + first;
}

/* Asked anew each time, not kept: a program may switch FIPS on after its first endpoint. */
bool smt_aead_is_fips(void)
{
    return EVP_default_properties_is_fips_enabled(NULL) != 0;
}

static bool may_pick(const struct smt_aead *row, const char *impl)
{
    if (!row->fips && smt_aead_is_fips())
        return false;
    return impl == NULL || strcmp(impl, "auto") == 0 || strcmp(impl, row->impl) == 0;
}

const struct smt_aead *smt_aead_find(enum smt_aead_alg alg, const char *impl)
{
    if (alg == SMT_AEAD_NONE)
        return &smt_aead_none;
    unsigned n;
    const struct smt_aead *list = smt_aead_list(&n);
    for (unsigned i = 0; i < n; i++) {
        if (list[i].alg == alg && may_pick(&list[i], impl))
            return &list[i];
    }
    return NULL;
}

const struct smt_aead *smt_aead_by_name(const char *name, const char *impl)
{
    unsigned n;
    const struct smt_aead *list = smt_aead_list(&n);
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(list[i].name, name) == 0)
            return smt_aead_find(list[i].alg, impl);
    }
    return NULL;
}
