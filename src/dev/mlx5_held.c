/* Packets to machines whose hardware address the kernel is still asking for: they keep their slots
 * and are held, for a while and up to a number. The kernel's word that a neighbour is known wakes
 * who sleeps.
 *
 * When it is known they go in front of whatever waits, so the order within a destination stays; so
 * they are looked at before every flush. Bursts are not held: they are of sessions that are up. */
#include "dev/mlx5.h"

#include <string.h>

enum {
    FRESH_MS = 200, /* younger ones are not pushed out by newer ones */
    MAX_MS = 2000,
};

static void drop(struct smt_mlx5 *d, struct smt_mlx5_slot *s)
{
    d->stats.tx_errors++;
    smt_mlx5_slot_free(&d->tx, s);
}

void smt_mlx5_tx_hold(struct smt_mlx5 *d, struct smt_mlx5_slot *s)
{
    struct smt_mlx5_tx *tx = &d->tx;
    if (tx->n_held == SMT_MLX5_MAX_HELD) {
        if (d->now - tx->held_since[0] < FRESH_MS * SMT_MSEC) {
            drop(d, s);
            return;
        }
        drop(d, tx->held[0]);
        tx->n_held--;
        memmove(tx->held, tx->held + 1, tx->n_held * sizeof(*tx->held));
        memmove(tx->held_since, tx->held_since + 1, tx->n_held * sizeof(*tx->held_since));
    }
    tx->held[tx->n_held] = s;
    tx->held_since[tx->n_held++] = d->now;
}

void smt_mlx5_tx_release(struct smt_mlx5 *d)
{
    struct smt_mlx5_tx *tx = &d->tx;
    for (uint32_t i = tx->n_held; i-- > 0;) {
        struct smt_mlx5_slot *s = tx->held[i];
        s->peer = smt_mlx5_peers_get(d->peers, &s->to, d->now);
        if (s->peer != NULL && s->peer->mtu > 0)
            smt_mlx5_batch_push_front(tx, s);
        else if (s->peer == NULL || !s->peer->is_asked_for ||
                 d->now - tx->held_since[i] > MAX_MS * SMT_MSEC)
            drop(d, s);
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
