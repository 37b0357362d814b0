/* Reads keys of smt1 from a file: see keys.h. */
#include "pcap/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"

enum { MAX_LINE = 256 };

/* NULL, or what is wrong with it. */
static const char *line_read(char *line, struct smt_inspect_config *config)
{
    static const char blank[] = " \t\r\n";
    line[strcspn(line, "#")] = '\0';
    char *rest;
    char *word = strtok_r(line, blank, &rest);
    if (word == NULL)
        return NULL;
    struct smt_inspect_key *key = strcmp(word, "client") == 0   ? &config->client
                                  : strcmp(word, "server") == 0 ? &config->server
                                                                : NULL;
    if (key == NULL)
        return "begins with neither \"client\" nor \"server\"";
    if (key->is_set)
        return "gives a second key for one side";
    const char *hex = strtok_r(NULL, blank, &rest), *salt = strtok_r(NULL, blank, &rest);
    if (hex == NULL || salt == NULL || strtok_r(NULL, blank, &rest) != NULL)
        return "is not a key and a salt";
    if (!smt_hex_read(hex, key->key, sizeof(key->key)))
        return "has a key that is not 32 hex digits";
    if (!smt_hex_read(salt, key->salt, sizeof(key->salt)))
        return "has a salt that is not 8 hex digits";
    key->is_set = true;
    return NULL;
}

int smt_inspect_keys_read(const char *file, struct smt_inspect_config *config, char *error_text,
                          size_t error_text_len)
{
    FILE *f = fopen(file, "r");
    if (f == NULL) {
        snprintf(error_text, error_text_len, "%s: %s", file, strerror(errno));
        return SMT_EFILE;
    }
    char line[MAX_LINE];
    const char *fault = NULL;
    unsigned number = 0;
    while (fault == NULL && fgets(line, sizeof(line), f) != NULL) {
        number++;
        fault = line_read(line, config);
    }
    if (fault == NULL && ferror(f))
        fault = "cannot be read";
    fclose(f);
    smt_wipe(line, sizeof(line));
    if (fault == NULL && !config->client.is_set && !config->server.is_set)
        fault = "is the last and there was no key";
    if (fault == NULL)
        return 0;
    snprintf(error_text, error_text_len, "%s: line %u %s", file, number, fault);
    return SMT_EFILE;
}
