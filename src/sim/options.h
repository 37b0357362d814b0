/* The command line of smt_sim. */
#ifndef SMT_SIM_OPTIONS_H
#define SMT_SIM_OPTIONS_H

#include "sim/run.h"

struct smt_sim_options {
    struct smt_run_config run;
    const char *preset, *headers, *json, *csv;
    bool quiet;
    struct smt_workload fixed;
    struct smt_workload_point fixed_point;
};

enum smt_sim_options_result { SMT_SIM_GO, SMT_SIM_DONE, SMT_SIM_WRONG };

/* Fills *out, or has said on stdout (DONE) or stderr (WRONG) what there was to say. The struct must
 * stay where it is. */
enum smt_sim_options_result smt_sim_options_parse(int argc, char **argv,
                                                  struct smt_sim_options *out);

#endif
