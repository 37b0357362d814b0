/* Command lines by table: one row per option gives its letters, its place in a struct, its range
 * and its line of help. */
#ifndef SMT_TOOLS_OPT_H
#define SMT_TOOLS_OPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum opt_type {
    OPT_FLAG,   /* bool */
    OPT_STRING, /* const char * into argv */
    OPT_SIZE,   /* uint64_t; K, M, G mean 2^10, 2^20, 2^30 */
    OPT_NUMBER, /* uint64_t */
    OPT_REAL,   /* double */
    OPT_OUTPUT, /* struct opt_output; its file name may be left out */
};

struct opt_output {
    bool wanted;
    const char *path; /* NULL: standard output */
};

struct opt {
    char letter;      /* 0: none */
    const char *name; /* without the dashes; NULL: none */
    const char *arg;  /* name of the argument in the help */
    enum opt_type type;
    size_t offset;
    double min, max;  /* of numbers */
    const char *help; /* NULL: not shown */
};

struct opt_args {
    const char *v[64]; /* what is not an option */
    unsigned n;
    unsigned max;      /* set by the caller, at most 64 */
};

/* Fills `into` and `args`. 0, or -1 after one line on standard error. An OPT_OUTPUT takes "--
 * json=FILE"; of "--json FILE", FILE is the file when it has a slash or ends in .json or when
 * there would be too many arguments otherwise ("--json out host"). */
int opt_parse(const struct opt *table, size_t n, int argc, char **argv, void *into,
              struct opt_args *args);

/* The option lines of a help text. */
void opt_print_help(FILE *out, const struct opt *table, size_t n);

#endif
