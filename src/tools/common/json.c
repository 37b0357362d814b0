/* JSON out. Strings may hold what a peer's certificate says, so every control character is
 * escaped and so is every byte that is not ASCII (as Latin-1: names stay readable, the output
 * stays valid). */
#include "json.h"

#include <assert.h>
#include <math.h>

void json_init(struct json *j, FILE *out)
{
    *j = (struct json){.out = out};
}

static void write_string(FILE *out, const char *s)
{
    fputc('"', out);
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}

static void begin(struct json *j, const char *key)
{
    if (j->has_item[j->depth]) {
        fputc(',', j->out);
    }
    j->has_item[j->depth] = true;
    if (j->depth > 0) {
        fprintf(j->out, "\n%*s", (int)j->depth * 2, "");
    }
    if (key != NULL) {
        write_string(j->out, key);
        fputs(": ", j->out);
    }
}

static void open_level(struct json *j, const char *key, char bracket)
{
    begin(j, key);
    fputc(bracket, j->out);
    j->depth++;
    assert(j->depth < sizeof(j->has_item) / sizeof(j->has_item[0]));
    j->has_item[j->depth] = false;
}

static void close_level(struct json *j, char bracket)
{
    bool had = j->has_item[j->depth];
    j->depth--;
    if (had) {
        fprintf(j->out, "\n%*s", (int)j->depth * 2, "");
    }
    fputc(bracket, j->out);
    if (j->depth == 0) {
        fputc('\n', j->out);
    }
}

void json_open_object(struct json *j, const char *key)
{
    open_level(j, key, '{');
}

void json_close_object(struct json *j)
{
    close_level(j, '}');
}

void json_open_array(struct json *j, const char *key)
{
    open_level(j, key, '[');
}

void json_close_array(struct json *j)
{
    close_level(j, ']');
}

void json_string(struct json *j, const char *key, const char *value)
{
    begin(j, key);
    write_string(j->out, value);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
    begin(j, key);
    fprintf(j->out, "%llu", (unsigned long long)value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    begin(j, key);
    fputs(value ? "true" : "false", j->out);
}

void json_real(struct json *j, const char *key, double value)
{
    begin(j, key);
    fprintf(j->out, "%.6g", isfinite(value) ? value : 0.0);
}
