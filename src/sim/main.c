/* smt_sim: a datacenter on one core. docs/man/smt_sim.1. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim/options.h"
#include "sim/report.h"

static void show_progress(void *arg, double part, uint64_t n_events)
{
    fprintf(stderr, "\r%5.1f %%  %.1f M events ", part * 100, (double)n_events / 1e6);
    fflush(stderr);
}

static bool write_file(const char *name, const struct smt_report *r,
                       void (*write)(const struct smt_report *, FILE *))
{
    FILE *f = strcmp(name, "-") == 0 ? stdout : fopen(name, "w");
    if (f == NULL) {
        perror(name);
        return false;
    }
    write(r, f);
    bool ok = fflush(f) == 0 && !ferror(f);
    if (f != stdout)
        ok = fclose(f) == 0 && ok;
    if (!ok)
        perror(name);
    return ok;
}

int main(int argc, char **argv)
{
    static struct smt_sim_options options;
    static struct smt_run_result result;
    switch (smt_sim_options_parse(argc, argv, &options)) {
    case SMT_SIM_GO:
        break;
    case SMT_SIM_DONE:
        return 0;
    default:
        return 2;
    }
    bool tty = isatty(STDERR_FILENO) && !options.quiet;
    if (tty)
        options.run.progress = show_progress;
    int rc = smt_run(&options.run, &result);
    if (tty)
        fprintf(stderr, "\r%40s\r", "");
    if (rc < 0) {
        fprintf(stderr, "smt_sim: the run cannot begin: error %d\n", rc);
        return 1;
    }
    const struct smt_report report = {.config = &options.run,
                                      .result = &result,
                                      .preset = options.preset,
                                      .headers = options.headers};
    bool ok = true;
    if (!options.quiet)
        smt_report_text(&report, stdout);
    if (options.json != NULL)
        ok = write_file(options.json, &report, smt_report_json) && ok;
    if (options.csv != NULL)
        ok = write_file(options.csv, &report, smt_report_csv) && ok;
    smt_run_result_fini(&result);
    return ok ? 0 : 1;
}
