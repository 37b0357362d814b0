/* Reads a tap specification. Numbers are read by hand: strtod follows the locale. */
#include "dev/tap.h"

#include <string.h>

#include "dev/dev_impl.h"

struct word {
    const char *key, *value;
    int key_len, value_len;
};

/* A decimal number from 0 to 1 with up to nine places. */
static bool chance_parse(const struct word *w, uint32_t *out)
{
    uint64_t v = 0;
    uint32_t unit = SMT_TAP_CERTAIN;
    bool has_digit = false, is_fraction = false;
    for (int i = 0; i < w->value_len; i++) {
        char c = w->value[i];
        if (c == '.' && !is_fraction) {
            is_fraction = true;
            continue;
        }
        if (c < '0' || c > '9')
            return false;
        has_digit = true;
        if (is_fraction) {
            unit /= 10;
            v += (uint64_t)(c - '0') * unit;
        } else {
            v = v * 10 + (uint64_t)(c - '0') * SMT_TAP_CERTAIN;
        }
        if (v > SMT_TAP_CERTAIN || (is_fraction && unit == 0))
            return false;
    }
    *out = (uint32_t)v;
    return has_digit;
}

static bool number_parse(const struct word *w, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    for (int i = 0; i < w->value_len; i++) {
        char c = w->value[i];
        if (c < '0' || c > '9' || v > (max - (uint64_t)(c - '0')) / 10)
            return false;
        v = v * 10 + (uint64_t)(c - '0');
    }
    *out = v;
    return w->value_len > 0;
}

static bool is_key(const struct word *w, const char *key)
{
    return strlen(key) == (size_t)w->key_len && memcmp(key, w->key, (size_t)w->key_len) == 0;
}

static bool is_value(const struct word *w, const char *value)
{
    return strlen(value) == (size_t)w->value_len &&
           memcmp(value, w->value, (size_t)w->value_len) == 0;
}

static int fail_value(const struct word *w, const char *wanted, char *text, size_t text_len)
{
    return smt_dev_fail(text, text_len, SMT_EINVAL, "tap: %.*s=%.*s: %s", w->key_len, w->key,
                        w->value_len < 40 ? w->value_len : 40, w->value, wanted);
}

static int chance_take(const struct word *w, char *text, size_t text_len, uint32_t *out)
{
    if (chance_parse(w, out))
        return 0;
    return fail_value(w, "give a probability from 0 to 1, such as 0.05", text, text_len);
}

static int dir_take(const struct word *w, char *text, size_t text_len, struct smt_tap_spec *out)
{
    out->tx = is_value(w, "tx") || is_value(w, "both");
    out->rx = is_value(w, "rx") || is_value(w, "both");
    return out->tx || out->rx ? 0 : fail_value(w, "give tx, rx or both", text, text_len);
}

static int pcap_take(const struct word *w, char *text, size_t text_len, struct smt_tap_spec *out)
{
    if (w->value_len == 0 || (size_t)w->value_len >= sizeof(out->pcap))
        return fail_value(w, "give a file name of up to 255 bytes without commas", text, text_len);
    memcpy(out->pcap, w->value, (size_t)w->value_len);
    out->pcap[w->value_len] = '\0';
    return 0;
}

static int word_take(const struct word *w, char *text, size_t text_len, struct smt_tap_spec *out)
{
    if (is_key(w, "drop"))
        return chance_take(w, text, text_len, &out->drop);
    if (is_key(w, "dup"))
        return chance_take(w, text, text_len, &out->dup);
    if (is_key(w, "reorder"))
        return chance_take(w, text, text_len, &out->reorder);
    if (is_key(w, "corrupt"))
        return chance_take(w, text, text_len, &out->corrupt);
    if (is_key(w, "dir"))
        return dir_take(w, text, text_len, out);
    if (is_key(w, "pcap"))
        return pcap_take(w, text, text_len, out);
    if (is_key(w, "seed"))
        return number_parse(w, UINT64_MAX, &out->seed)
                   ? 0
                   : fail_value(w, "give a whole number", text, text_len);
    if (is_key(w, "delay_us")) {
        uint64_t us;
        if (!number_parse(w, 60000000, &us))
            return fail_value(w, "give microseconds, a whole number up to 60000000", text,
                              text_len);
        out->delay_ns = us * SMT_USEC;
        return 0;
    }
    return smt_dev_fail(text, text_len, SMT_EINVAL,
                        "tap: \"%.*s\" is not known; there is drop=, dup=, reorder=, corrupt=, "
                        "delay_us=, seed=, dir=, pcap=",
                        w->key_len < 40 ? w->key_len : 40, w->key);
}

int smt_tap_spec_parse(const char *text, char *error_text, size_t error_text_len,
                       struct smt_tap_spec *out)
{
    *out = (struct smt_tap_spec){.tx = true, .rx = true, .seed = 1};
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        size_t key_len = strcspn(text, "=,");
        if (key_len == len)
            return smt_dev_fail(error_text, error_text_len, SMT_EINVAL,
                                "tap: \"%.*s\" is not of the form word=value",
                                len < 40 ? (int)len : 40, text);
        struct word w = {
            .key = text,
            .key_len = key_len < 1000 ? (int)key_len : 1000,
            .value = text + key_len + 1,
            .value_len = len - key_len - 1 < 1000 ? (int)(len - key_len - 1) : 1000,
        };
        int r = word_take(&w, error_text, error_text_len, out);
        if (r < 0)
            return r;
        text += len;
        if (*text == ',')
            text++;
    }
    return 0;
}
