/* What a run gave, for eyes and for programs. */
#ifndef SMT_SIM_REPORT_H
#define SMT_SIM_REPORT_H

#include <stdio.h>

#include "sim/run.h"

struct smt_report {
    const struct smt_run_config *config;
    const struct smt_run_result *result;
    const char *preset;
    const char *headers;
};

void smt_report_text(const struct smt_report *r, FILE *out);
/* One object; docs/man/smt_sim.1 names its members. */
void smt_report_json(const struct smt_report *r, FILE *out);
/* One line for each decile and one for all, with a head. */
void smt_report_csv(const struct smt_report *r, FILE *out);

#endif
