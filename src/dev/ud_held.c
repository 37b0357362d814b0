/* Packets to peers whose queue pair is not known yet: they keep their slots and are held, for a
 * while and up to a number.
 *
 * When the answer comes they go in front of whatever waits, so the order within a destination
 * stays. That is why nobody but smt_ud_tx_ask may hear answers: a route that became known without
 * the held packets being put in front would let later ones overtake them. */
#include "dev/ud_slot.h"

enum {
    FRESH_MS = 200, /* younger ones are not pushed out by newer ones */
    MAX_MS = 2000,
};

void smt_ud_tx_hold(struct smt_ud *d, struct smt_ud_slot *s)
{
    struct smt_ud_tx *tx = &d->tx;
    if (tx->n_held == d->sizes.max_held) {
        if (d->now - tx->held_since[0] < FRESH_MS * SMT_MSEC) {
            smt_ud_slot_drop(d, s);
            return;
        }
        smt_ud_slot_drop(d, tx->held[0]);
        tx->n_held--;
        memmove(tx->held, tx->held + 1, tx->n_held * sizeof(*tx->held));
        memmove(tx->held_since, tx->held_since + 1, tx->n_held * sizeof(*tx->held_since));
    }
    tx->held[tx->n_held] = s;
    tx->held_since[tx->n_held++] = d->now;
}

void smt_ud_tx_release(struct smt_ud *d)
{
    struct smt_ud_tx *tx = &d->tx;
    for (uint32_t i = tx->n_held; i-- > 0;) {
        struct smt_ud_slot *s = tx->held[i];
        enum smt_ud_found found = smt_ud_slot_find(d, s);
        if (found == SMT_UD_FOUND)
            smt_ud_batch_push_front(tx, smt_ud_qp_of(d, &s->to), s);
        else if (found == SMT_UD_NOROUTE || d->now - tx->held_since[i] > MAX_MS * SMT_MSEC)
            smt_ud_slot_drop(d, s);
        else
            continue;
        tx->held[i] = NULL;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < tx->n_held; i++) {
        if (tx->held[i] != NULL) {
            tx->held[n] = tx->held[i];
            tx->held_since[n++] = tx->held_since[i];
        }
    }
    tx->n_held = n;
}

bool smt_ud_tx_ask(struct smt_ud *d)
{
    if (smt_ud_peers_poll(d->peers, d->now) == 0)
        return false;
    d->tx.run.route.mtu = 0;
    smt_ud_tx_release(d);
    return true;
}
