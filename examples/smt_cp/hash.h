/* SHA-256 by OpenSSL. */
#ifndef SMT_CP_HASH_H
#define SMT_CP_HASH_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

/* The hash of one piece of memory. 0 or -1. */
int hash_of(const void *data, size_t len, uint8_t out[32]);

/* A hash in steps: NULL when out of memory; hash_end frees it and works once; both may take
 * NULL. */
EVP_MD_CTX *hash_begin(void);
int hash_more(EVP_MD_CTX *hash, const void *data, size_t len);
int hash_end(EVP_MD_CTX *hash, uint8_t out[32]);

#endif
