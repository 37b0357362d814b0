/* Packets to machines whose hardware address the kernel is still asking for: they keep their slots
 * and are held (held.h). The kernel's word that a neighbour is known wakes who sleeps.
 *
 * When it is known they go in front of whatever waits, so the order within a destination stays; so
 * they are looked at before every flush. Bursts are not held: they are of sessions that are up. */
#include "dev/mlx5.h"

static void drop(struct smt_mlx5 *d, struct smt_mlx5_slot *s)
{
    d->stats.tx_errors++;
    smt_mlx5_slot_free(&d->tx, s);
}

void smt_mlx5_tx_hold(struct smt_mlx5 *d, struct smt_mlx5_slot *s)
{
    struct smt_mlx5_slot *out = smt_held_add(&d->tx.held, SMT_MLX5_MAX_HELD, s, d->now);
    if (out != NULL)
        drop(d, out);
}

static bool leaves(void *arg, void *slot, bool is_late)
{
    struct smt_mlx5 *d = arg;
    struct smt_mlx5_slot *s = slot;
    s->peer = smt_mlx5_peers_get(d->peers, &s->to, d->now);
    if (s->peer != NULL && s->peer->mtu > 0)
        smt_mlx5_batch_push_front(&d->tx, s);
    else if (s->peer == NULL || !s->peer->is_asked_for || is_late)
        drop(d, s);
    else
        return false;
    return true;
}

void smt_mlx5_tx_release(struct smt_mlx5 *d)
{
    smt_held_release(&d->tx.held, d->now, leaves, d);
}
