/* Strangers whose handshake is under way. They have proven their address by the cookie, so hosts
 * can be told apart and each be given its turn: a host may begin so many handshakes a second, each
 * of which costs us a key exchange and a signature, and when the table is full, one that has waited
 * for a second gives way to another host that has no more. So who lets handshakes hang, from
 * whatever number of addresses, delays others by no more than two seconds.
 *
 * Refused ones are told nothing: an initiator repeats its hello. */
#include "core/half_open.h"

#include "core/state.h"

enum { BURST = SMT_HALF_OPEN_MAX, PER_MS = 1, LOOK_AT = 16 };

static const uint64_t turn = 1 * SMT_SEC;

void smt_half_open_init(struct smt_half_open *h)
{
    smt_list_init(&h->conns);
    h->n = 0;
    for (unsigned i = 0; i < SMT_HALF_OPEN_HOSTS; i++)
        h->hosts[i] = (struct smt_half_open_host){.tokens = BURST};
}

static struct smt_half_open_host *host_of(struct smt_engine *e, const struct smt_addr *a)
{
    uint64_t word;
    memcpy(&word, a->ip + (smt_addr_is_ipv4(a) ? 8 : 0), sizeof(word));
    uint64_t hash = smt_map_hash(&e->peer_map, (struct smt_map_key){word, 0});
    return &e->half_open.hosts[hash % SMT_HALF_OPEN_HOSTS];
}

void smt_half_open_enter(struct smt_conn *c)
{
    struct smt_half_open *h = &c->e->half_open;
    h->n++;
    host_of(c->e, &c->addr)->n++;
    smt_list_push_tail(&h->conns, &c->half_link);
}

void smt_half_open_leave(struct smt_conn *c)
{
    struct smt_half_open *h = &c->e->half_open;
    h->n--;
    host_of(c->e, &c->addr)->n--;
    smt_list_remove(&c->half_link);
}

static bool token_take(struct smt_half_open_host *host, uint64_t now)
{
    uint64_t ms = (now - host->filled_at) / SMT_MSEC;
    if (ms > 0) {
        uint64_t more = ms < BURST ? host->tokens + ms * PER_MS : BURST;
        host->tokens = more < BURST ? (uint32_t)more : BURST;
        host->filled_at += ms * SMT_MSEC;
    }
    if (host->tokens == 0)
        return false;
    host->tokens--;
    return true;
}

/* Of the oldest that have had their turn, the one of the host with most of them, and at least as
 * many as the one that wants in; without such, one that has had twice as long. Never one of its
 * own. */
static struct smt_conn *who_gives_way(struct smt_engine *e, uint64_t now,
                                      const struct smt_half_open_host *newcomer)
{
    uint32_t most = newcomer->n;
    struct smt_conn *found = NULL;
    unsigned looked = 0;
    SMT_LIST_FOREACH_SAFE(l, tmp, &e->half_open.conns) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, half_link);
        if (now < c->opened_at + turn || looked++ == LOOK_AT)
            break;
        const struct smt_half_open_host *host = host_of(e, &c->addr);
        if (host == newcomer)
            continue;
        if (host->n >= most) {
            most = host->n;
            found = c;
        } else if (found == NULL && now >= c->opened_at + 2 * turn) {
            found = c;
        }
    }
    return found;
}

bool smt_half_open_admit(struct smt_engine *e, uint64_t now, const struct smt_addr *from)
{
    struct smt_half_open_host *host = host_of(e, from);
    if (e->half_open.n >= SMT_HALF_OPEN_MAX) {
        struct smt_conn *c = who_gives_way(e, now, host);
        if (c == NULL) {
            e->stats.drop_half_open++;
            return false;
        }
        smt_conn_close(c, now, SMT_EUNREACHABLE, false);
    }
    if (token_take(host, now))
        return true;
    e->stats.drop_half_open++;
    return false;
}
