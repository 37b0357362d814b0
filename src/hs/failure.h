/* From OpenSSL's error queue to one of our codes and one clear line. */
#ifndef SMT_HS_FAILURE_H
#define SMT_HS_FAILURE_H

#include "hs/hs_impl.h"

/* Notes the reason of the failure that the error queue tells of, unless a callback of ours knew a
 * better one. Call right after the failing SSL call. */
void smt_failure_note(struct smt_hs *hs);

#endif
