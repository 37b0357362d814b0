/* SSLKEYLOGFILE: the secrets of every handshake written to a file, so that captures can be opened
 * (format: draft-ietf-tls-keylogfile, as OpenSSL, NSS and Wireshark have it). */
#ifndef SMT_HS_KEYLOG_H
#define SMT_HS_KEYLOG_H

#include <openssl/ssl.h>

#include "hs/error_line.h"

/* Opens the file that the environment names, to append, readable by its owner only. *fd is -1 when
 * the variable is not set, and when the process runs with rights that its user has not (setuid,
 * setgid, file capabilities): then the user's environment does not decide what is written where.
 * SMT_EFILE when it cannot be opened, for silence would be mistaken for success. */
SMT_MUST_CHECK int smt_keylog_open(const struct smt_error_line *line, int *fd);

/* For SSL_CTX_set_keylog_callback: one line, written at once so that processes may share a file. */
void smt_keylog_line(const SSL *ssl, const char *text);

#endif
