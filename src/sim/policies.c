/* The one list of transports. */
#include "sim/policies.h"

#include <string.h>

const struct smt_policy *const smt_policies[] = {
    &smt_policy_smt,
    &smt_policy_control,
    &smt_policy_ideal,
    &smt_policy_dctcp,
    &smt_policy_mixed,
};
const unsigned smt_n_policies = SMT_ARRAY_LEN(smt_policies);

const struct smt_policy *smt_policy_find(const char *name)
{
    for (unsigned i = 0; i < smt_n_policies; i++) {
        if (strcmp(smt_policies[i]->name, name) == 0)
            return smt_policies[i];
    }
    return NULL;
}
