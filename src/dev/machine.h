/* What several devices ask of the machine they run on. */
#ifndef SMT_DEV_MACHINE_H
#define SMT_DEV_MACHINE_H

#include "base/defs.h"

/* Monotonic ns, as of the last tick of the kernel (1 to 10 ms ago): for what is kept a while. */
uint64_t smt_coarse_now(void);

enum { SMT_CAPABILITY_NET_RAW = 13, SMT_CAPABILITY_IPC_LOCK = 14 };

/* Has this process the capability now? */
bool smt_capability_has(unsigned capability);

#endif
