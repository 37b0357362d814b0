/* The text after "ud": ":NAME,option=value,…", or options alone.
 *
 * Options may stand in any order, a later one of the same name counts: the tools append ",gid=N".
 * Whether the named things exist is for ud_port.c to find out. */
#include "dev/ud_spec.h"

#include <string.h>

#include "dev/dev_impl.h"

enum { MAX_OPTION = 32 };

/* Digits only, `low` … `high`. */
static bool number_parse(const char *text, uint32_t low, uint32_t high, uint32_t *out)
{
    uint32_t v = 0;
    size_t n = 0;
    for (; text[n] >= '0' && text[n] <= '9' && n < 6; n++)
        v = v * 10 + (uint32_t)(text[n] - '0');
    *out = v;
    return n > 0 && text[n] == '\0' && v >= low && v <= high;
}

static int option_set(const char *option, struct smt_ud_spec *s, char *text, size_t text_len)
{
    static const struct {
        const char *name;
        uint32_t low, high;
    } table[] = {{"port", 1, 255}, {"gid", 0, 255}, {"qps", 1, SMT_UD_MAX_QPS}};
    const char *equals = strchr(option, '=');
    size_t name_len = equals != NULL ? (size_t)(equals - option) : strlen(option);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(table); i++) {
        if (strlen(table[i].name) != name_len || memcmp(table[i].name, option, name_len) != 0)
            continue;
        uint32_t v;
        if (equals == NULL || !number_parse(equals + 1, table[i].low, table[i].high, &v))
            return smt_dev_fail(text, text_len, SMT_EINVAL,
                                "option \"%s\" of the device ud: give %s=N with N from %u to %u",
                                option, table[i].name, table[i].low, table[i].high);
        if (i == 0)
            s->port = (uint8_t)v;
        else if (i == 1)
            s->gid = (int32_t)v;
        else
            s->n_qps = (uint8_t)v;
        return 0;
    }
    return smt_dev_fail(text, text_len, SMT_EINVAL,
                        "the device ud has no option \"%s\"; there is: port=N, gid=N, qps=N",
                        option);
}

int smt_ud_spec_parse(const char *spec, struct smt_ud_spec *out, char *text, size_t text_len)
{
    *out = (struct smt_ud_spec){.gid = -1, .n_qps = 1};
    const char *at = spec + strcspn(spec, ":,");
    bool has_colon = *at == ':';
    at += has_colon;
    size_t len = strcspn(at, ",");
    if (has_colon && at[0] == '\0')
        return smt_dev_fail(text, text_len, SMT_EINVAL,
                            "\"%.60s\" names nothing: write \"ud\" to let it choose, or the name "
                            "of an RDMA device or network interface after the colon",
                            spec);
    if (len >= sizeof(out->name))
        return smt_dev_fail(text, text_len, SMT_EINVAL, "the name in \"%.60s…\" is too long", spec);
    memcpy(out->name, at, len);
    for (at += len; *at == ',';) {
        at++;
        len = strcspn(at, ",");
        char option[MAX_OPTION];
        if (len >= sizeof(option))
            return smt_dev_fail(text, text_len, SMT_EINVAL, "\"%.60s\": an option is too long",
                                spec);
        memcpy(option, at, len);
        option[len] = '\0';
        int r = option_set(option, out, text, text_len);
        if (r < 0)
            return r;
        at += len;
    }
    return 0;
}
