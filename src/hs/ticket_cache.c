/* Tickets that wait for their use. A session is kept as its bytes in memory for secrets: what it
 * holds would let somebody speak as either side, once, and OpenSSL's own form lies in ordinary
 * memory, which a child or a core dump has too. An array looked through from the newest: there are
 * few, and a handshake costs a thousand times as much. */
#include "hs/ticket_cache.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "hs/wall_clock.h"

struct ticket {
    uint8_t key[SMT_TICKET_KEY_LEN];
    struct smt_ticket_note note;
    uint8_t *bytes; /* memory for secrets */
    size_t len;
};

/* Oldest first. */
struct smt_ticket_cache {
    pthread_mutex_t lock; /* guards the rest */
    unsigned n;
    struct ticket tickets[SMT_TICKETS_MAX];
};

int smt_ticket_cache_new(struct smt_ticket_cache **out)
{
    struct smt_ticket_cache *cache = smt_mem_alloc(sizeof(*cache));
    if (cache == NULL)
        return SMT_ENOMEM;
    pthread_mutex_init(&cache->lock, NULL);
    *out = cache;
    return 0;
}

static void remove_at(struct smt_ticket_cache *cache, unsigned i)
{
    smt_mem_secret_free(cache->tickets[i].bytes, cache->tickets[i].len);
    cache->n--;
    memmove(&cache->tickets[i], &cache->tickets[i + 1],
            (cache->n - i) * sizeof(cache->tickets[0]));
}

void smt_ticket_cache_free(struct smt_ticket_cache *cache)
{
    if (cache == NULL)
        return;
    while (cache->n > 0)
        remove_at(cache, cache->n - 1);
    pthread_mutex_destroy(&cache->lock);
    smt_mem_free(cache);
}

/* What is too old goes; of one peer the oldest beyond its share; of all the oldest. */
static void room_make(struct smt_ticket_cache *cache, const uint8_t key[SMT_TICKET_KEY_LEN])
{
    int64_t now = smt_wall_clock();
    unsigned n_of_peer = 0;
    for (unsigned i = cache->n; i-- > 0;) {
        const struct ticket *t = &cache->tickets[i];
        bool same = memcmp(t->key, key, SMT_TICKET_KEY_LEN) == 0;
        if (t->note.good_until <= now || (same && ++n_of_peer >= SMT_TICKETS_A_PEER))
            remove_at(cache, i);
    }
    if (cache->n == SMT_TICKETS_MAX)
        remove_at(cache, 0);
}

void smt_ticket_cache_put(struct smt_ticket_cache *cache, const uint8_t key[SMT_TICKET_KEY_LEN],
                          SSL_SESSION *session, const struct smt_ticket_note *note)
{
    int len = i2d_SSL_SESSION(session, NULL);
    if (len <= 0 || len > SMT_TICKET_MAX_LEN || note->good_until <= smt_wall_clock())
        return;
    struct ticket ticket = {
        .note = *note,
        .bytes = smt_mem_secret((size_t)len),
        .len = (size_t)len,
    };
    if (ticket.bytes == NULL)
        return;
    memcpy(ticket.key, key, sizeof(ticket.key));
    unsigned char *p = ticket.bytes;
    i2d_SSL_SESSION(session, &p);
    pthread_mutex_lock(&cache->lock);
    room_make(cache, key);
    cache->tickets[cache->n++] = ticket;
    pthread_mutex_unlock(&cache->lock);
}

SSL_SESSION *smt_ticket_cache_take(struct smt_ticket_cache *cache,
                                   const uint8_t key[SMT_TICKET_KEY_LEN],
                                   struct smt_ticket_note *note)
{
    SSL_SESSION *session = NULL;
    int64_t now = smt_wall_clock();
    pthread_mutex_lock(&cache->lock);
    for (unsigned i = cache->n; i-- > 0 && session == NULL;) {
        const struct ticket *t = &cache->tickets[i];
        if (memcmp(t->key, key, SMT_TICKET_KEY_LEN) != 0)
            continue;
        if (now < t->note.good_until) {
            const unsigned char *p = t->bytes;
            session = d2i_SSL_SESSION(NULL, &p, (long)t->len);
            *note = t->note;
        }
        remove_at(cache, i);
    }
    pthread_mutex_unlock(&cache->lock);
    return session;
}
