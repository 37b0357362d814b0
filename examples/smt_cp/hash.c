/* Three calls around EVP, so that the rest of smt_cp need not know it. */
#include "hash.h"

int hash_of(const void *data, size_t len, uint8_t out[32])
{
    return EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

EVP_MD_CTX *hash_begin(void)
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(hash);
        return NULL;
    }
    return hash;
}

int hash_more(EVP_MD_CTX *hash, const void *data, size_t len)
{
    return hash != NULL && EVP_DigestUpdate(hash, data, len) == 1 ? 0 : -1;
}

int hash_end(EVP_MD_CTX *hash, uint8_t out[32])
{
    int rc = hash != NULL && EVP_DigestFinal_ex(hash, out, NULL) == 1 ? 0 : -1;
    EVP_MD_CTX_free(hash);
    return rc;
}
