/* The option parser of the tools. getopt_long knows neither ranges nor an option whose argument may
 * stand apart or be missing, and its messages do not say what would be right. */
#include "opt.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

struct parser {
    const struct opt *table;
    size_t n;
    char *into;
    struct opt_args *args;
    int argc;
    char **argv;
    int at;
    int output_arg;                   /* index in args of what may be an output's file, or -1 */
    struct opt_output *output;
};

static const struct opt *find_letter(const struct parser *p, char letter)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->table[i].letter == letter) {
            return &p->table[i];
        }
    }
    return NULL;
}

static const struct opt *find_name(const struct parser *p, const char *name, size_t len)
{
    for (size_t i = 0; i < p->n; i++) {
        const char *have = p->table[i].name;
        if (have != NULL && strlen(have) == len && memcmp(have, name, len) == 0) {
            return &p->table[i];
        }
    }
    return NULL;
}

static const char *shown_name(const struct opt *o, char *buf, size_t cap)
{
    if (o->name != NULL) {
        snprintf(buf, cap, "--%s", o->name);
    } else {
        snprintf(buf, cap, "-%c", o->letter);
    }
    return buf;
}

static int parse_number(const struct opt *o, const char *text, double *out)
{
    char name[48];
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    bool bad = end == text || errno != 0 || !isfinite(value);
    if (!bad && o->type == OPT_SIZE && *end != '\0') {
        static const char suffixes[] = "kmg";
        const char *s = strchr(suffixes, *end | 0x20);
        bad = s == NULL;
        if (!bad) {
            value *= (double)(UINT64_C(1) << (10 * (s - suffixes + 1)));
            end++;
        }
    }
    if (bad || *end != '\0' || (o->type != OPT_REAL && value != floor(value))) {
        say_error("%s %s: not a %s", shown_name(o, name, sizeof(name)), text,
                  o->type == OPT_REAL ? "number" : "whole number");
        return -1;
    }
    if (value < o->min || value > o->max) {
        say_error("%s %s: must be %.15g to %.15g", shown_name(o, name, sizeof(name)), text, o->min,
                  o->max);
        return -1;
    }
    *out = value;
    return 0;
}

static int store(struct parser *p, const struct opt *o, const char *value)
{
    void *place = p->into + o->offset;
    double number = 0;
    switch (o->type) {
    case OPT_FLAG:
        *(bool *)place = true;
        return 0;
    case OPT_STRING:
        *(const char **)place = value;
        return 0;
    case OPT_SIZE:
    case OPT_NUMBER:
        if (parse_number(o, value, &number) != 0) {
            return -1;
        }
        *(uint64_t *)place = (uint64_t)number;
        return 0;
    case OPT_REAL:
        return parse_number(o, value, place);
    case OPT_OUTPUT:
        *(struct opt_output *)place = (struct opt_output){.wanted = true, .path = value};
        return 0;
    }
    return -1;
}

/* An option that wants a value: `value` is what was attached to it, or NULL. */
static int take(struct parser *p, const struct opt *o, const char *value)
{
    char name[48];
    if (o->type == OPT_FLAG) {
        if (value != NULL) {
            say_error("%s takes no argument", shown_name(o, name, sizeof(name)));
            return -1;
        }
        return store(p, o, NULL);
    }
    if (o->type == OPT_OUTPUT) {
        if (value == NULL) {
            p->output_arg = (int)p->args->n;
            p->output = (struct opt_output *)(void *)(p->into + o->offset);
            if (p->at + 1 >= p->argc ||
                (p->argv[p->at + 1][0] == '-' && p->argv[p->at + 1][1] != '\0')) {
                p->output_arg = -1;
            }
        }
        return store(p, o, value);
    }
    if (value == NULL) {
        if (p->at + 1 >= p->argc) {
            say_error("%s needs an argument: %s", shown_name(o, name, sizeof(name)), o->arg);
            return -1;
        }
        value = p->argv[++p->at];
    }
    return store(p, o, value);
}

static int parse_long(struct parser *p, const char *text)
{
    const char *eq = strchr(text, '=');
    const struct opt *o = find_name(p, text, eq != NULL ? (size_t)(eq - text) : strlen(text));
    if (o == NULL) {
        say_error("unknown option --%s (try -h)", text);
        return -1;
    }
    return take(p, o, eq != NULL ? eq + 1 : NULL);
}

static int parse_letters(struct parser *p, const char *text)
{
    for (; *text != '\0'; text++) {
        const struct opt *o = find_letter(p, *text);
        if (o == NULL) {
            say_error("unknown option -%c (try -h)", *text);
            return -1;
        }
        bool rest_is_value = o->type != OPT_FLAG && text[1] != '\0';
        if (take(p, o, rest_is_value ? text + 1 : NULL) != 0) {
            return -1;
        }
        if (o->type != OPT_FLAG) {
            return 0;
        }
    }
    return 0;
}

static bool looks_like_file(const char *text)
{
    size_t len = strlen(text);
    return strchr(text, '/') != NULL || strcmp(text, "-") == 0 ||
           (len > 5 && strcmp(text + len - 5, ".json") == 0);
}

/* Decides whether the word after an output option was its file. */
static void settle_output(struct parser *p)
{
    struct opt_args *args = p->args;
    if (p->output_arg < 0 || p->output_arg >= (int)args->n) {
        return;
    }
    const char *word = args->v[p->output_arg];
    if (!looks_like_file(word) && args->n <= args->max) {
        return;
    }
    p->output->path = word;
    args->n--;
    memmove(&args->v[p->output_arg], &args->v[p->output_arg + 1],
            (args->n - (unsigned)p->output_arg) * sizeof(args->v[0]));
}

int opt_parse(const struct opt *table, size_t n, int argc, char **argv, void *into,
              struct opt_args *args)
{
    struct parser p = {.table = table,
                       .n = n,
                       .into = into,
                       .args = args,
                       .argc = argc,
                       .argv = argv,
                       .output_arg = -1};
    bool options_over = false;
    args->n = 0;
    for (p.at = 1; p.at < argc; p.at++) {
        const char *word = argv[p.at];
        int rc = 0;
        if (options_over || word[0] != '-' || word[1] == '\0') {
            if (args->n == sizeof(args->v) / sizeof(args->v[0])) {
                say_error("too many arguments");
                return -1;
            }
            args->v[args->n++] = word;
        } else if (strcmp(word, "--") == 0) {
            options_over = true;
        } else if (word[1] == '-') {
            rc = parse_long(&p, word + 2);
        } else {
            rc = parse_letters(&p, word + 1);
        }
        if (rc != 0) {
            return -1;
        }
    }
    settle_output(&p);
    if (p.output != NULL && p.output->path != NULL && strcmp(p.output->path, "-") == 0) {
        p.output->path = NULL;
    }
    if (args->n > args->max) {
        say_error("'%s' is one argument too many (try -h)", args->v[args->max]);
        return -1;
    }
    return 0;
}

void opt_print_help(FILE *out, const struct opt *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct opt *o = &table[i];
        if (o->help == NULL) {
            continue;
        }
        char left[64];
        int len = snprintf(left, sizeof(left), "  ");
        if (o->letter != 0) {
            len += snprintf(left + len, sizeof(left) - (size_t)len, "-%c%s", o->letter,
                            o->name != NULL ? ", " : "");
        }
        if (o->name != NULL) {
            len += snprintf(left + len, sizeof(left) - (size_t)len, "--%s", o->name);
        }
        if (o->arg != NULL) {
            snprintf(left + len, sizeof(left) - (size_t)len, " %s", o->arg);
        }
        fprintf(out, "%-28s %s\n", left, o->help);
    }
}
