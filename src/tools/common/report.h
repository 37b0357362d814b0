/* What a client prints: perftest's banner and table, the histogram, JSON. */
#ifndef SMT_TOOLS_REPORT_H
#define SMT_TOOLS_REPORT_H

#include <stdio.h>

#include "bench.h"

struct report {
    const struct options *options;
    FILE *table;           /* standard output, or standard error when JSON goes there */
    FILE *json;            /* NULL: not wanted */
    FILE *hdr;             /* NULL: not wanted */
    struct smt_session_info peer;
    /* By whom records were sealed, all threads together; why not by a NIC. */
    uint64_t sealed, sealed_nic;
    char sealing[160];
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
