/* The memory against replay of early data. TLS takes early data only from a hello whose ticket is,
 * by both sides' count, as old as it should be, give or take ten seconds; so a hello need not be
 * remembered for longer than that. Two maps, this window's and the one before it, are all: what is
 * older goes at once and costs nothing. A full map refuses, and so does a clock that has gone back,
 * by which old hellos would look new: until it has caught up nothing is taken.
 *
 * A hello is known by the first half of its random. Nobody but the ticket's holder can change that,
 * for the binder is over it, and the holder gains nothing by it that he could not have by a second
 * ticket.
 *
 * Lives and dies with the keys of the tickets (creds.h): a hello of an earlier run, or from before
 * the credentials were read again, stands on a ticket that does not open. */
#include "hs/early_seen.h"

#include <pthread.h>

#include <openssl/rand.h>

#include "base/bytes.h"
#include "base/map.h"
#include "base/mem.h"

struct smt_early_seen {
    uint64_t seed[2];
    pthread_mutex_t lock; /* guards the rest */
    struct smt_map now, before;
    int64_t began;  /* the window of `now` */
    int64_t latest; /* the latest time that was told */
};

int smt_early_seen_new(struct smt_early_seen **out)
{
    struct smt_early_seen *seen = smt_mem_alloc(sizeof(*seen));
    if (seen == NULL)
        return SMT_ENOMEM;
    int rc = RAND_bytes((unsigned char *)seen->seed, sizeof(seen->seed)) == 1 ? 0 : SMT_ECRYPTO;
    if (rc == 0)
        rc = smt_map_init(&seen->now, seen->seed, 0);
    if (rc == 0)
        rc = smt_map_init(&seen->before, seen->seed, 0);
    if (rc < 0) {
        smt_mem_free(seen);
        return rc;
    }
    pthread_mutex_init(&seen->lock, NULL);
    *out = seen;
    return 0;
}

void smt_early_seen_free(struct smt_early_seen *seen)
{
    if (seen == NULL)
        return;
    smt_map_fini(&seen->now);
    smt_map_fini(&seen->before);
    pthread_mutex_destroy(&seen->lock);
    smt_mem_free(seen);
}

static bool clear(struct smt_early_seen *seen, struct smt_map *m)
{
    smt_map_fini(m);
    return smt_map_init(m, seen->seed, 0) == 0;
}

/* Moves on to the window of `now_s`. */
static bool age(struct smt_early_seen *seen, int64_t now_s)
{
    if (now_s - seen->began < SMT_EARLY_WINDOW_S)
        return true;
    struct smt_map was = seen->now;
    seen->now = seen->before;
    seen->before = was;
    bool both = now_s - seen->began >= 2 * SMT_EARLY_WINDOW_S;
    seen->began = now_s;
    return clear(seen, &seen->now) && (!both || clear(seen, &seen->before));
}

bool smt_early_seen_add(struct smt_early_seen *seen, int64_t now_s,
                        const uint8_t random[SMT_EARLY_RANDOM_LEN])
{
    const struct smt_map_key key = {smt_get_be64(random), smt_get_be64(random + 8)};
    pthread_mutex_lock(&seen->lock);
    bool is_new = now_s >= seen->latest;
    if (is_new) {
        seen->latest = now_s;
        is_new = age(seen, now_s) && smt_map_get(&seen->now, key) == NULL &&
                 smt_map_get(&seen->before, key) == NULL && seen->now.n < SMT_EARLY_SEEN_MAX &&
                 smt_map_put(&seen->now, key, seen) == 0;
    }
    pthread_mutex_unlock(&seen->lock);
    return is_new;
}
