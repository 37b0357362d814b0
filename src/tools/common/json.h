/* A JSON writer: commas, quotes and indentation; the caller gives the order. */
#ifndef SMT_TOOLS_JSON_H
#define SMT_TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    unsigned depth;
    bool has_item[8]; /* per depth: a comma is due before the next */
};

void json_init(struct json *j, FILE *out);

/* `key` is NULL inside arrays and at the top. At most 7 levels. */
void json_open_object(struct json *j, const char *key);
void json_close_object(struct json *j);
void json_open_array(struct json *j, const char *key);
void json_close_array(struct json *j);
void json_string(struct json *j, const char *key, const char *value);
void json_uint(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
/* Not a number and infinity have no JSON form: 0 is written. */
void json_real(struct json *j, const char *key, double value);

#endif
