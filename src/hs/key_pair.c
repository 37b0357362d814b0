/* Reads a file of keys for profile smt1. Nothing of a line that is wrong is repeated in the error:
 * it may be a key. */
#include "hs/key_pair.h"

#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "hs/file.h"

/* What is wrong with the line (which is cut to pieces), or NULL. */
static const char *line_parse(char *text, struct smt_key_pair *out)
{
    static const char blank[] = " \t\r";
    text[strcspn(text, "#")] = '\0';
    char *rest;
    const char *who = strtok_r(text, blank, &rest);
    if (who == NULL)
        return NULL;
    struct smt_key_pair_end *end = strcmp(who, "client") == 0   ? &out->client
                                   : strcmp(who, "server") == 0 ? &out->server
                                                                : NULL;
    if (end == NULL)
        return "expected \"client KEY SALT\" or \"server KEY SALT\"";
    if (end->is_set)
        return "a second key for the same end";
    if (!smt_hex_read(strtok_r(NULL, blank, &rest), end->key, sizeof(end->key)))
        return "the key must be 32 hex digits";
    if (!smt_hex_read(strtok_r(NULL, blank, &rest), end->salt, sizeof(end->salt)))
        return "the salt must be 8 hex digits";
    if (strtok_r(NULL, blank, &rest) != NULL)
        return "something follows the salt";
    end->is_set = true;
    return NULL;
}

static int lines_parse(struct smt_file *file, const char *path, const struct smt_error_line *line,
                       struct smt_key_pair *out)
{
    unsigned number = 0;
    char *rest = file->bytes;
    while (rest != NULL) {
        char *text = strsep(&rest, "\n");
        number++;
        const char *wrong = line_parse(text, out);
        if (wrong != NULL)
            return smt_error_line(line, SMT_ECREDENTIALS, "%s line %u: %s", path, number, wrong);
    }
    if (!out->client.is_set || !out->server.is_set)
        return smt_error_line(line, SMT_ECREDENTIALS, "%s has no line for the %s", path,
                              out->client.is_set ? "server" : "client");
    if (memcmp(out->client.key, out->server.key, sizeof(out->client.key)) == 0)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "%s gives client and server the same key: a request and its "
                              "response would be sealed with one nonce",
                              path);
    return 0;
}

int smt_key_pair_read(const char *path, const struct smt_error_line *line, struct smt_key_pair *out)
{
    struct smt_file file;
    *out = (struct smt_key_pair){0};
    int rc = smt_file_read(path, "keys_file", line, &file);
    if (rc < 0)
        return rc;
    rc = lines_parse(&file, path, line, out);
    smt_file_free(&file);
    if (rc < 0)
        smt_wipe(out, sizeof(*out));
    return rc;
}
