/* Pins from text, in the notation that curl and HTTP key pinning made common. Matching walks the
 * list: it happens once a handshake, beside two signatures. */
#include "hs/pins.h"

#include <string.h>

#include <openssl/evp.h>

#include "base/mem.h"

static const char prefix[] = "sha256//";

enum { PREFIX_LEN = sizeof(prefix) - 1, BASE64_LEN = 44 };

static bool pin_parse(const char *text, size_t len, uint8_t out[32])
{
    if (len != PREFIX_LEN + BASE64_LEN || memcmp(text, prefix, PREFIX_LEN) != 0)
        return false;
    const uint8_t *digits = (const uint8_t *)text + PREFIX_LEN;
    uint8_t hash[33];
    if (EVP_DecodeBlock(hash, digits, BASE64_LEN) != sizeof(hash))
        return false;
    /* Only what encodes to the same text is taken: the decoder skips spaces and ignores bits. */
    uint8_t again[BASE64_LEN + 1];
    if (EVP_EncodeBlock(again, hash, 32) != BASE64_LEN || memcmp(again, digits, BASE64_LEN) != 0)
        return false;
    memcpy(out, hash, 32);
    return true;
}

static unsigned pins_count(const char *text)
{
    unsigned n = 1;
    for (const char *c = text; *c != '\0' && n <= SMT_PINS_MAX; c++)
        n += *c == ';';
    return n;
}

int smt_pins_parse(const char *text, const struct smt_error_line *line, struct smt_pins *out)
{
    unsigned max = pins_count(text);
    if (max > SMT_PINS_MAX)
        return smt_error_line(line, SMT_ECREDENTIALS, "more than %d pins", SMT_PINS_MAX);
    struct smt_pins pins = {.hashes = smt_mem_alloc(max * sizeof(pins.hashes[0]))};
    if (pins.hashes == NULL)
        return smt_error_line(line, SMT_ENOMEM, "no memory for %u pins", max);

    for (const char *at = text;;) {
        size_t piece = strcspn(at, ";");
        const char *next = at + piece;
        size_t skip = strspn(at, " \t\n");
        const char *start = skip < piece ? at + skip : next;
        const char *end = next;
        while (end > start && strchr(" \t\n", end[-1]) != NULL)
            end--;
        size_t len = (size_t)(end - start);
        if (len > 0 && !pin_parse(start, len, pins.hashes[pins.n++])) {
            smt_pins_free(&pins);
            return smt_error_line(line, SMT_ECREDENTIALS,
                                  "pin \"%.*s\" is not of the form sha256//BASE64 with 44 digits",
                                  len < 80 ? (int)len : 80, start);
        }
        if (*next == '\0')
            break;
        at = next + 1;
    }
    if (pins.n == 0) {
        smt_pins_free(&pins);
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "pins is empty: give sha256//BASE64, or leave it out");
    }
    *out = pins;
    return 0;
}

void smt_pins_free(struct smt_pins *pins)
{
    smt_mem_free(pins->hashes);
    *pins = (struct smt_pins){0};
}

bool smt_pins_match(const struct smt_pins *pins, const uint8_t key_sha256[32])
{
    for (unsigned i = 0; i < pins->n; i++)
        if (memcmp(pins->hashes[i], key_sha256, 32) == 0)
            return true;
    return false;
}
