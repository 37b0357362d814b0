/* Resumption: tickets given by a responder, kept and used once by an initiator. */
#ifndef SMT_HS_RESUME_H
#define SMT_HS_RESUME_H

#include "hs/hs_impl.h"

/* Gives credentials the means to resume: keys for tickets, a place for them, and for early data the
 * memory against its replay. They come from files; others do not resume. */
SMT_MUST_CHECK int smt_resume_init(struct smt_creds *creds, const struct smt_creds_config *config);
void smt_resume_fini(struct smt_creds *creds);

/* The same for a handshake whose SSL is made: may it give tickets, has it one to use? */
SMT_MUST_CHECK int smt_resume_begin(struct smt_hs *hs, const struct smt_hs_config *config);

/* May early data go with the hello (initiator), or be taken from one (responder)? */
bool smt_resume_may_early(const struct smt_hs *hs);

/* The handshake stands on a ticket. */
bool smt_resume_is(const struct smt_hs *hs);

#endif
