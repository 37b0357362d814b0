/* What a client prints: perftest's banner and table, the histogram, JSON. */
#ifndef SMT_TOOLS_REPORT_H
#define SMT_TOOLS_REPORT_H

#include <stdio.h>

#include "bench.h"

/* Who sealed records, all of them and by the NIC; why the CPU did where a NIC could have. */
enum sealed {
    SEALED,
    SEALED_NIC,
    NIC_TESTS,
    NIC_NOT_READY,
    NIC_NOT_AGAIN,
    NIC_NOT_WORTH,
    N_SEALED
};

/* The counters' names, here and in JSON. */
extern const char *const sealed_names[N_SEALED];

struct report {
    const struct options *options;
    FILE *table;           /* standard output, or standard error when JSON goes there */
    FILE *json;            /* NULL: not wanted */
    FILE *hdr;             /* NULL: not wanted */
    struct smt_session_info peer;
    uint64_t sealed[N_SEALED]; /* all threads together */
    char sealing[160];         /* why not by a NIC */
    struct result *results; /* grown by report_add */
    unsigned n_results;
};

/* Opens the output files. TOOL_OK or an exit code after one line. */
int report_open(struct report *r, const struct options *o);

/* Before the first size: the session is up. */
void report_banner(struct report *r, const struct smt_session_info *peer);

/* One row; takes a copy for the JSON. */
int report_add(struct report *r, const struct result *result);

/* The rule below the table, the JSON, the files. TOOL_OK or an exit code. */
int report_close(struct report *r);

#endif
