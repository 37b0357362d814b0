/* Transports by name. */
#ifndef SMT_SIM_POLICIES_H
#define SMT_SIM_POLICIES_H

#include "sim/net.h"

extern const struct smt_policy *const smt_policies[];
extern const unsigned smt_n_policies;

/* NULL when unknown. */
const struct smt_policy *smt_policy_find(const char *name);

#endif
