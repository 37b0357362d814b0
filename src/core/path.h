/* What is known of the way to a peer, and of all ways together for peers never measured. */
#ifndef SMT_CORE_PATH_H
#define SMT_CORE_PATH_H

#include "core/rtt.h"
#include "core/share.h"
#include "core/tune.h"

struct smt_conn;
struct smt_engine;

/* A round trip was measured. */
void smt_path_rtt(struct smt_conn *c, uint64_t now, uint64_t rtt);

/* `bytes` passed in `span` ns; `full`: more did not, for packets were lost. */
void smt_path_rate(struct smt_conn *c, uint64_t bytes, uint64_t span, bool full);

/* Bytes that fill the way, from the endpoint's own figures where the peer's are missing; 0 = none
 * is known. */
uint64_t smt_path_fill(const struct smt_conn *c);

/* Bytes that go or come at one go lately, but for one packet, when now `bytes` in n packets did. */
uint32_t smt_path_batch(uint32_t batch, uint32_t n, uint64_t bytes);

/* Bytes of a message that go without a grant: at least 1, no more than the receiver takes. */
uint32_t smt_path_unsched(const struct smt_conn *c);

/* How near the end of a message its granted bytes go at the priority of unscheduled ones: a window,
 * for what is granted whole is in nobody's book any more and could not rise. */
uint32_t smt_path_tail(const struct smt_conn *c);

/* The same for a way that `fill` bytes fill, whatever the peer takes. */
uint64_t smt_path_unsched_of(const struct smt_tune *t, uint64_t fill);
uint64_t smt_path_tail_of(const struct smt_tune *t, uint64_t fill);

/* The engine's total_bytes came in from all peers together: call when it is a step or more. */
enum { SMT_PATH_TOTAL_STEP = 64 * 1024 };
void smt_path_total(struct smt_engine *e, uint64_t now);

/* Was the way to us so empty since `at`, when the engine had received `bytes`, that data could have
 * come? */
bool smt_path_was_free(const struct smt_engine *e, uint64_t at, uint64_t bytes);

#endif
