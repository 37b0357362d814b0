/* The file of pre-shared keys: lines "identity:hex key", blank lines and '#' comments. */
#ifndef SMT_HS_PSK_H
#define SMT_HS_PSK_H

#include "hs/error_line.h"

enum {
    SMT_PSK_MAX_IDENTITY = 128,
    SMT_PSK_MIN_KEY = 16,
    SMT_PSK_MAX_KEY = 64,
    SMT_PSK_MAX_ENTRIES = 4096,
};

struct smt_psk {
    char identity[SMT_PSK_MAX_IDENTITY + 1];
    uint8_t key[SMT_PSK_MAX_KEY];
    uint8_t key_len;
};

struct smt_psk_list {
    struct smt_psk *entries; /* secret memory */
    unsigned n;
    size_t mem_len;
};

/* Reads the file. SMT_EFILE or SMT_ECREDENTIALS with a line that names file and line number (and
 * never shows a key). *out is given. */
SMT_MUST_CHECK int smt_psk_list_read(const char *path, const struct smt_error_line *line,
                                     struct smt_psk_list *out);

/* Wipes; harmless on all zero. */
void smt_psk_list_free(struct smt_psk_list *list);

/* The key of `identity` (any bytes, as a peer sent them), or NULL. */
const struct smt_psk *smt_psk_find(const struct smt_psk_list *list, const uint8_t *identity,
                                   size_t len);

#endif
