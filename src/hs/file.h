/* A small file read whole, for PEM and key files. */
#ifndef SMT_HS_FILE_H
#define SMT_HS_FILE_H

#include "hs/error_line.h"

enum { SMT_FILE_MAX_LEN = 1 << 20 };

struct smt_file {
    char *bytes; /* followed by a NUL that does not count */
    size_t len;
};

/* Reads `path` (a pipe will do) of at most SMT_FILE_MAX_LEN bytes. SMT_EFILE with a line that names
 * `what` and the path and says why. The bytes are given: smt_file_free. */
SMT_MUST_CHECK int smt_file_read(const char *path, const char *what,
                                 const struct smt_error_line *line, struct smt_file *out);

/* Wipes and frees; harmless on all zero. */
void smt_file_free(struct smt_file *file);

#endif
