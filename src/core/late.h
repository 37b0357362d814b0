/* What of a round trip passed at its ends: a packet that waits for a processor has met no queue of
 * the network. Each end knows since when it has always had something to do; the peer's is told with
 * SEEN by LATE (docs/wire.md 4). */
#ifndef SMT_CORE_LATE_H
#define SMT_CORE_LATE_H

#include "base/defs.h"

struct smt_conn;

/* Says, in front of the SEEN that answers mark `seq`, how late it may be. */
void smt_late_tell(struct smt_conn *c, uint64_t now, uint32_t seq);

/* The peer says so of the SEEN that comes next. */
void smt_late_told(struct smt_conn *c, uint32_t seq, uint32_t ns);

/* Of the round trip that the SEEN for mark `seq` ends, at most so much passed at its ends. */
uint64_t smt_late_of(const struct smt_conn *c, uint64_t now, uint32_t seq);

#endif
