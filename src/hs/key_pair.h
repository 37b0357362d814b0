/* The keys that profile smt1 is given instead of a handshake: a file of two lines,
 *
 *   client 32-HEX-DIGITS 8-HEX-DIGITS     key and salt of what the caller sends
 *   server 32-HEX-DIGITS 8-HEX-DIGITS     of what the one who serves sends
 *
 * empty lines and what follows a '#' left out. The form of smt_pcap's --keys. */
#ifndef SMT_HS_KEY_PAIR_H
#define SMT_HS_KEY_PAIR_H

#include "hs/error_line.h"

enum { SMT_KEY_PAIR_KEY_LEN = 16, SMT_KEY_PAIR_SALT_LEN = 4 };

struct smt_key_pair {
    struct smt_key_pair_end {
        uint8_t key[SMT_KEY_PAIR_KEY_LEN], salt[SMT_KEY_PAIR_SALT_LEN];
        bool is_set;
    } client, server;
};

/* SMT_EFILE, or SMT_ECREDENTIALS when the file is not of that form, lacks an end or gives both the
 * same key; with a line that says so. *out is the caller's: memory for secrets, to be wiped. */
SMT_MUST_CHECK int smt_key_pair_read(const char *path, const struct smt_error_line *line,
                                     struct smt_key_pair *out);

#endif
