/* What control frames do, from CTRL packets and DATA records alike. */
#ifndef SMT_CORE_FRAMES_H
#define SMT_CORE_FRAMES_H

#include "core/conn.h"

struct smt_frame;

/* Hears a run of authentic frames that came in a packet of packet_len bytes. The conn may be closed
 * afterwards. */
void smt_frames_hear(struct smt_conn *c, uint64_t now, const uint8_t *in, size_t len,
                     uint32_t packet_len);

/* One that has been decoded, of whatever profile, about `r` (NULL: of no rpc that is known). */
void smt_frames_act(struct smt_conn *c, uint64_t now, const struct smt_frame *f, struct smt_rpc *r);

/* The peer told which of his own rpcs are finished. */
void smt_frames_peer_finished(struct smt_conn *c, uint64_t low_water, uint64_t done);

/* May the peer start an rpc with this id (without role)? docs/wire.md 8. */
static inline bool smt_frames_id_is_new(const struct smt_conn *c, uint64_t id)
{
    return id > 0 && !smt_finished_seen_has(&c->peer_finished, id) &&
           (smt_ranges_is_behind(&c->accepted, id) || !smt_ranges_contains(&c->accepted, id));
}

/* Our cutoffs, to a peer that works with older ones: not more often than he can answer. */
void smt_frames_cutoffs_tell(struct smt_conn *c, uint64_t now);

/* They have changed: tells those who have sent messages of late, as many as is decent; others are
 * told when a message of theirs shows that they work with older ones. */
void smt_frames_cutoffs_tell_all(struct smt_engine *e, uint64_t now);

#endif
