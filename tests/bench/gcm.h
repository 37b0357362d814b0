/* AES-128-GCM for the limit programs: intel-ipsec-mb where the build has it, OpenSSL's EVP
 * elsewhere. One fixed key and a counter: enough to cost what a record costs. */
#ifndef SMT_TESTS_BENCH_GCM_H
#define SMT_TESTS_BENCH_GCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GCM_TAG_LEN = 16 };

struct gcm;

/* `plain`: nothing is encrypted, bytes are copied. Ends the program when it cannot be. */
struct gcm *gcm_new(bool plain);
void gcm_free(struct gcm *g);

/* "ipsec-mb", "openssl", "none". */
const char *gcm_name(const struct gcm *g);

/* Seals `len` bytes of `in` to `out` under number `seq`; writes GCM_TAG_LEN bytes of tag. */
void gcm_seal(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
              uint8_t *tag);

/* False: the tag is wrong. */
bool gcm_open(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
              const uint8_t *tag);

#endif
