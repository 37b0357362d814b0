/* Settings of the engine by name, for experiments: "rx_window=65536,max_bytes=1000000". */
#ifndef SMT_SIM_SMT_TUNE_H
#define SMT_SIM_SMT_TUNE_H

#include "core/engine.h"

/* Applies `tune` (NULL: nothing). SMT_EINVAL: a name or value is not understood. */
SMT_MUST_CHECK int smt_tune_engine(struct smt_engine_config *g, const char *tune);

/* The names, one after the other; NULL after the last. */
const char *smt_tune_name(unsigned i);

#endif
