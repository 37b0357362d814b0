/* The time that packets wait for one of the ends. An end that has found nothing to receive at some
 * moment has handled all that came before it, so what it handles now came after: that is the most
 * it may have waited there. Of a round trip that much says nothing of the network, and the window
 * does not fall for it (pacer.c).
 *
 * It is a bound, not a measurement: of an end that never rests it says all. So no more than a
 * millisecond counts, what comes beyond that is a queue wherever it stands. Without it 100 calls of
 * 8 KB in flight, a quarter of a millisecond's work for each end, halved the window again and
 * again, and both ends waited for a quarter of their time. Time stamps of the kernel would measure
 * it, at the price of a control message a packet. */
#include "core/late.h"

#include "core/ctl.h"
#include "core/state.h"

static const uint64_t least_told = 20 * SMT_USEC;
static const uint64_t most = 1 * SMT_MSEC;

static uint64_t late_here(const struct smt_engine *e, uint64_t now)
{
    return e->idle_at == 0 || now <= e->idle_at ? 0 : now - e->idle_at;
}

void smt_late_tell(struct smt_conn *c, uint64_t now, uint32_t seq)
{
    uint64_t late = late_here(c->e, now);
    if (SMT_LIKELY(late < least_told))
        return;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_LATE,
                                       .seq = seq,
                                       .length = (uint32_t)(late < most ? late : most)});
}

void smt_late_told(struct smt_conn *c, uint32_t seq, uint32_t ns)
{
    struct smt_pacer_flight *f = c->pacer.flight;
    if (f == NULL)
        return;
    f->late_seq = seq;
    f->late = ns;
}

uint64_t smt_late_of(const struct smt_conn *c, uint64_t now, uint32_t seq)
{
    const struct smt_pacer_flight *f = c->pacer.flight;
    uint64_t late = late_here(c->e, now);
    if (f != NULL && f->late_seq == seq)
        late += f->late;
    return late < most ? late : most;
}
