/* Least round trip and largest delivery rate. The least of the last ten seconds, never a smoothed
 * one: a mean holds the queues that we make ourselves, and a window made from it would keep them.
 * Two halves of the memory are enough: a least one is forgotten after between five and ten
 * seconds, at no cost a sample.
 *
 * The largest rate is never forgotten for want of traffic: an application that sends little
 * measures little. It falls when the path is seen to be full at less. */
#include "core/rtt.h"

enum { STORED_PACKETS = 3 };

void smt_rtt_sample(struct smt_rtt *t, uint64_t now, uint64_t sample, uint64_t memory)
{
    if (SMT_UNLIKELY(now - t->half_at > memory / 2 || t->least[0] == 0)) {
        /* After a pause of a whole memory nothing of before counts. */
        t->least[1] = now - t->half_at > memory ? 0 : t->least[0];
        t->least[0] = sample;
        t->half_at = now;
    } else if (sample < t->least[0]) {
        t->least[0] = sample;
    }
}

void smt_rtt_rate_sample(struct smt_rtt *t, uint64_t bytes, uint64_t span, uint64_t most)
{
    uint64_t rate = bytes * SMT_SEC / (span + 1);
    if (most > 0 && rate > most)
        rate = most;
    if (rate > t->rate)
        t->rate = rate;
}

void smt_rtt_rate_fall(struct smt_rtt *t, uint64_t rate)
{
    if (rate < t->rate)
        t->rate -= (t->rate - rate) / 4;
}

uint64_t smt_rtt_fill(const struct smt_rtt *t, uint32_t packet)
{
    uint64_t least = smt_rtt_least(t);
    if (least == 0 || t->rate == 0)
        return 0;
    /* Neither is larger than what a machine can do: 1 TB/s for 10 s would not overflow. */
    return t->rate / 1000 * (least / 1000 + 1) / 1000 + (uint64_t)STORED_PACKETS * packet;
}
