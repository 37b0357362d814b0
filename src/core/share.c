/* Multiplicative decrease once a round trip; growth by a constant an answer (there are two to four
 * a round trip), about a packet a round trip, and by an eighth once there have been none but good
 * answers for some five round trips: what was a burst is forgotten soon, what is a narrow path is
 * probed gently. */
#include "core/share.h"

enum { CALM = 16, STEP = SMT_SHARE_ALL / 256 };

bool smt_share_fall(struct smt_share *s, uint64_t now, uint64_t rtt, uint32_t pct)
{
    s->n_calm = 0;
    if (s->fell_at != 0 && now < s->fell_at + rtt)
        return false;
    s->fell_at = now;
    s->is = (uint32_t)((uint64_t)s->is * pct / 100);
    if (s->is < SMT_SHARE_LEAST)
        s->is = SMT_SHARE_LEAST;
    return true;
}

void smt_share_rise(struct smt_share *s)
{
    if (s->is == SMT_SHARE_ALL)
        return;
    s->n_calm++;
    uint32_t more = s->n_calm > CALM ? s->is / 8 : s->is / 64;
    s->is += more > STEP ? more : STEP;
    if (s->is > SMT_SHARE_ALL)
        s->is = SMT_SHARE_ALL;
}
