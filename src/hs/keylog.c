/* Writing secrets to a file on the user's demand.
 *
 * What goes there is OpenSSL's own lines, of which EXPORTER_SECRET opens a session's records and
 * the handshake secrets open the parameters that its context is made of (docs/security.md). The
 * file belongs to the credentials: it is opened once, before the first handshake, and every line is
 * one write to a descriptor in append mode, so neither threads nor processes tear lines. An
 * application's own SSL_CTX is left alone: it has a callback of its own, or wants none. */
#include "hs/keylog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "hs/hs_impl.h"
#include "hs/tls_ctx.h"

int smt_keylog_open(const struct smt_error_line *line, int *fd)
{
    *fd = -1;
    const char *path = secure_getenv("SSLKEYLOGFILE");
    if (path == NULL || path[0] == '\0')
        return 0;
    int f = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (f < 0)
        return smt_error_line(line, SMT_EFILE,
                              "SSLKEYLOGFILE is set but %s cannot be opened: %s; unset it or name "
                              "a file that can be written",
                              path, strerror(errno));
    *fd = f;
    return 0;
}

void smt_keylog_line(const SSL *ssl, const char *text)
{
    const struct smt_hs *hs = smt_tls_hs(ssl);
    if (hs == NULL || hs->creds->keylog_fd < 0)
        return;
    struct iovec parts[] = {{(void *)(uintptr_t)text, strlen(text)}, {"\n", 1}};
    ssize_t n;
    do
        n = writev(hs->creds->keylog_fd, parts, SMT_ARRAY_LEN(parts));
    while (n < 0 && errno == EINTR);
    /* A full disk costs the log its line, not the session its life. */
}
