/* Packets to peers whose queue pair is not known yet: they keep their slots and are held (held.h).
 *
 * When the answer comes they go in front of whatever waits, so the order within a destination
 * stays. That is why nobody but smt_ud_tx_ask may hear answers: a route that became known without
 * the held packets being put in front would let later ones overtake them. */
#include "dev/ud_slot.h"

void smt_ud_tx_hold(struct smt_ud *d, struct smt_ud_slot *s)
{
    struct smt_ud_slot *out = smt_held_add(&d->tx.held, d->sizes.max_held, s, d->now);
    if (out != NULL)
        smt_ud_slot_drop(d, out);
}

static bool leaves(void *arg, void *slot, bool is_late)
{
    struct smt_ud *d = arg;
    struct smt_ud_slot *s = slot;
    enum smt_ud_found found = smt_ud_slot_find(d, s, true);
    if (found == SMT_UD_FOUND)
        smt_ud_batch_push_front(&d->tx, smt_ud_qp_of(d, &s->to), s);
    else if (found == SMT_UD_NOROUTE || is_late)
        smt_ud_slot_drop(d, s);
    else
        return false;
    return true;
}

void smt_ud_tx_release(struct smt_ud *d)
{
    smt_held_release(&d->tx.held, d->now, leaves, d);
}

bool smt_ud_tx_ask(struct smt_ud *d)
{
    if (smt_ud_peers_poll(d->peers, d->now) == 0)
        return false;
    smt_ud_run_end(&d->tx);
    smt_ud_tx_release(d);
    return true;
}
