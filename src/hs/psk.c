/* Pre-shared keys from a file. An identity may hold ':', a hex key cannot: the last one separates.
 * A key shorter than 16 bytes is refused, because a PSK is not a password: whoever records one
 * handshake may try keys as fast as he can hash. */
#include "hs/psk.h"

#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "hs/file.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* What is wrong with the line, or NULL and the entry. */
static const char *entry_parse(const char *text, size_t len, struct smt_psk *out)
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL)
        return "expected identity:key, with the key in hex";
    size_t id_len = (size_t)(colon - text);
    if (id_len == 0 || id_len > SMT_PSK_MAX_IDENTITY)
        return "the identity must have 1 to 128 bytes";
    for (size_t i = 0; i < id_len; i++)
        if ((unsigned char)text[i] <= 0x20 || text[i] == 0x7f)
            return "the identity must have no spaces or control characters";

    const char *hex = colon + 1;
    size_t hex_len = len - id_len - 1;
    for (size_t i = 0; i < hex_len; i++)
        if (smt_hex_digit(hex[i]) < 0)
            return "the key after the last ':' must be hex digits only";
    if (hex_len % 2 != 0)
        return "the key has an odd number of hex digits";
    if (hex_len < 2 * SMT_PSK_MIN_KEY)
        return "the key is shorter than 16 bytes (32 hex digits): make one with "
               "`openssl rand -hex 32`";
    if (hex_len > 2 * SMT_PSK_MAX_KEY)
        return "the key is longer than 64 bytes";

    memcpy(out->identity, text, id_len);
    out->identity[id_len] = '\0';
    out->key_len = (uint8_t)(hex_len / 2);
    for (size_t i = 0; i < out->key_len; i++)
        out->key[i] = (uint8_t)(smt_hex_digit(hex[2 * i]) << 4 | smt_hex_digit(hex[2 * i + 1]));
    return NULL;
}

static unsigned lines_count(const struct smt_file *file)
{
    unsigned n = 1;
    for (size_t i = 0; i < file->len; i++)
        n += file->bytes[i] == '\n';
    return n;
}

static int list_parse(const struct smt_file *file, const char *path,
                      const struct smt_error_line *line, struct smt_psk_list *list)
{
    const char *end = file->bytes + file->len;
    unsigned number = 0;
    for (const char *at = file->bytes; at < end;) {
        number++;
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *next = stop != NULL ? stop + 1 : end;
        if (stop == NULL)
            stop = end;
        while (at < stop && is_space(*at))
            at++;
        while (stop > at && is_space(stop[-1]))
            stop--;
        if (at == stop || *at == '#') {
            at = next;
            continue;
        }
        if (list->n == SMT_PSK_MAX_ENTRIES)
            return smt_error_line(line, SMT_ECREDENTIALS, "%s has more than %d keys", path,
                                  SMT_PSK_MAX_ENTRIES);
        struct smt_psk *entry = &list->entries[list->n];
        const char *wrong = entry_parse(at, (size_t)(stop - at), entry);
        if (wrong == NULL &&
            smt_psk_find(list, (const uint8_t *)entry->identity, strlen(entry->identity)) != NULL)
            wrong = "this identity stands in an earlier line";
        if (wrong != NULL)
            return smt_error_line(line, SMT_ECREDENTIALS, "%s line %u: %s", path, number, wrong);
        list->n++;
        at = next;
    }
    if (list->n == 0)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "%s holds no key: write a line identity:key, with the key in hex",
                              path);
    return 0;
}

int smt_psk_list_read(const char *path, const struct smt_error_line *line, struct smt_psk_list *out)
{
    struct smt_file file;
    int rc = smt_file_read(path, "psk_file", line, &file);
    if (rc < 0)
        return rc;
    unsigned max = lines_count(&file);
    if (max > SMT_PSK_MAX_ENTRIES)
        max = SMT_PSK_MAX_ENTRIES;
    struct smt_psk_list list = {.mem_len = max * sizeof(struct smt_psk)};
    list.entries = smt_mem_secret(list.mem_len);
    if (list.entries == NULL)
        rc = smt_error_line(line, SMT_ENOMEM, "no memory for the keys of %s", path);
    else
        rc = list_parse(&file, path, line, &list);
    smt_file_free(&file);
    if (rc < 0)
        smt_psk_list_free(&list);
    else
        *out = list;
    return rc;
}

void smt_psk_list_free(struct smt_psk_list *list)
{
    if (list->entries != NULL)
        smt_mem_secret_free(list->entries, list->mem_len);
    *list = (struct smt_psk_list){0};
}

const struct smt_psk *smt_psk_find(const struct smt_psk_list *list, const uint8_t *identity,
                                   size_t len)
{
    for (unsigned i = 0; i < list->n; i++) {
        const struct smt_psk *entry = &list->entries[i];
        if (strlen(entry->identity) == len && memcmp(entry->identity, identity, len) == 0)
            return entry;
    }
    return NULL;
}
