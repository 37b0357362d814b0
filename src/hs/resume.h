/* Resumption: tickets given by a responder, kept and used once by an initiator. */
#ifndef SMT_HS_RESUME_H
#define SMT_HS_RESUME_H

#include "hs/hs_impl.h"

/* Gives credentials the means to resume: keys for tickets and a place for them. They come from
 * files; others do not resume. lifetime_s 0: the usual. */
SMT_MUST_CHECK int smt_resume_init(struct smt_creds *creds, uint32_t lifetime_s);
void smt_resume_fini(struct smt_creds *creds);

/* The same for a handshake whose SSL is made: may it give tickets, has it one to use? */
SMT_MUST_CHECK int smt_resume_begin(struct smt_hs *hs, const struct smt_hs_config *config);

/* The handshake stands on a ticket. */
bool smt_resume_is(const struct smt_hs *hs);

#endif
