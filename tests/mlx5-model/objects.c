/* Tables of objects. Numbers are random and far apart, so that a wrong one is seldom another's. */
#include "objects.h"

#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { BUCKETS = 1024, MAX_TDS = 256 };

static struct mm_dek *deks[BUCKETS];
static struct mm_tis *tises[BUCKETS];
static uint32_t tds[MAX_TDS], td_users[MAX_TDS];
static unsigned n_deks, n_tises;

static int td_place(uint32_t td)
{
    for (int i = 0; i < MAX_TDS; i++) {
        if (tds[i] == td)
            return i;
    }
    return -1;
}

enum mm_status mm_td_new(uint32_t *td)
{
    int place = td_place(0);
    if (place < 0 || (uint64_t)place >= 1u << mm_config()->log_max_td)
        return MM_LIMIT;
    do
        *td = 1 + (uint32_t)mm_random() % 0xffffff;
    while (td_place(*td) >= 0);
    tds[place] = *td;
    td_users[place] = 0;
    return MM_OK;
}

enum mm_status mm_td_free(uint32_t td)
{
    int place = td == 0 ? -1 : td_place(td);
    if (place < 0) {
        mm_complain("transport_domain", "0x%x does not exist", td);
        return MM_BAD_RESOURCE;
    }
    if (td_users[place] > 0) {
        mm_complain("transport_domain", "0x%x freed with %u TISes in it", td, td_users[place]);
        return MM_BUSY;
    }
    tds[place] = 0;
    return MM_OK;
}

struct mm_dek *mm_dek_by_id(uint32_t id)
{
    struct mm_dek *d = deks[id % BUCKETS];
    while (d != NULL && d->id != id)
        d = d->next;
    return d;
}

struct mm_tis *mm_tis_by_number(uint32_t tisn)
{
    struct mm_tis *t = tises[tisn % BUCKETS];
    while (t != NULL && t->tisn != tisn)
        t = t->next;
    return t;
}

enum mm_status mm_tis_new(uint32_t td, uint32_t pdn, bool is_tls, uint32_t *tisn)
{
    if (n_tises >= 1u << mm_config()->log_max_tis)
        return MM_LIMIT;
    int place = td == 0 ? -1 : td_place(td);
    if (place < 0) {
        mm_complain("tisc.transport_domain", "0x%x does not exist", td);
        return MM_BAD_RESOURCE;
    }
    /* Without TLS a TIS needs no protection domain. */
    if (mm_pd_by_number(pdn) == NULL && (is_tls || pdn != 0)) {
        mm_complain("tisc.pd", "0x%x does not exist", pdn);
        return MM_BAD_RESOURCE;
    }
    struct mm_tis *t = calloc(1, sizeof(*t));
    if (t == NULL)
        mm_die("model", "out of memory");
    do
        *tisn = 1 + (uint32_t)mm_random() % 0x7ffffe;
    while (mm_tis_by_number(*tisn) != NULL);
    t->tisn = *tisn;
    t->td = td;
    t->pdn = pdn;
    t->is_tls = is_tls;
    t->next = tises[t->tisn % BUCKETS];
    tises[t->tisn % BUCKETS] = t;
    td_users[place]++;
    n_tises++;
    mm_stats.tises++;
    mm_stats.tises_live = n_tises;
    return MM_OK;
}

enum mm_status mm_tis_free(uint32_t tisn)
{
    struct mm_tis **at = &tises[tisn % BUCKETS];
    while (*at != NULL && (*at)->tisn != tisn)
        at = &(*at)->next;
    struct mm_tis *t = *at;
    if (t == NULL)
        return MM_BAD_RESOURCE;
    for (unsigned i = 0; i < MM_MAX_QPS; i++) {
        struct mm_qp *qp = mm_qps[i];
        for (unsigned k = 0; qp != NULL && k < qp->n_posted; k++) {
            if (mm_get(qp->posted[(qp->first_posted + k) % qp->max_post].bytes, MM_CTRL_TIS) ==
                tisn)
                mm_complain("tisn", "0x%x destroyed while a posted WQE names it", tisn);
        }
    }
    *at = t->next;
    mm_tls_forget(t);
    EVP_CIPHER_CTX_free(t->cipher);
    td_users[td_place(t->td)]--;
    free(t);
    mm_stats.tises_live = --n_tises;
    return MM_OK;
}

enum mm_status mm_dek_new(uint32_t pdn, const uint8_t *key, uint32_t key_len, uint32_t *id)
{
    if (mm_config()->log_max_dek == 0 || n_deks >= 1u << mm_config()->log_max_dek)
        return MM_LIMIT;
    if (mm_pd_by_number(pdn) == NULL) {
        mm_complain("dek.pd", "0x%x does not exist", pdn);
        return MM_BAD_RESOURCE;
    }
    struct mm_dek *d = calloc(1, sizeof(*d));
    if (d == NULL)
        mm_die("model", "out of memory");
    do
        *id = 1 + (uint32_t)mm_random() % 0xfffffe;
    while (mm_dek_by_id(*id) != NULL);
    d->id = *id;
    d->pdn = pdn;
    static uint32_t turn;
    d->turn = ++turn;
    d->key_len = key_len;
    memcpy(d->key, key, key_len);
    d->next = deks[d->id % BUCKETS];
    deks[d->id % BUCKETS] = d;
    n_deks++;
    mm_stats.deks++;
    mm_stats.deks_live = n_deks;
    return MM_OK;
}

enum mm_status mm_dek_free(uint32_t id)
{
    struct mm_dek **at = &deks[id % BUCKETS];
    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    struct mm_dek *d = *at;
    if (d == NULL)
        return MM_BAD_RESOURCE;
    *at = d->next;
    memset(d, 0, sizeof(*d));
    free(d);
    mm_stats.deks_live = --n_deks;
    return MM_OK;
}

void mm_deks_sync(void)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct mm_dek *d = deks[i]; d != NULL; d = d->next)
            d->needs_sync = false;
    }
}

void mm_tls_forget_queue(uint32_t sqn)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct mm_tis *t = tises[i]; t != NULL; t = t->next) {
            if (t->sqn == sqn)
                mm_tls_forget(t);
        }
    }
}

/* The one that is hit: of those that are programmed, any. */
static struct mm_tis *tis_any(uint32_t sqn)
{
    struct mm_tis *found = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        for (struct mm_tis *t = tises[i]; t != NULL; t = t->next) {
            if (t->is_tls && !t->is_lost && t->params.is_set && (sqn == 0 || t->sqn == sqn) &&
                mm_random() % ++n == 0)
                found = t;
        }
    }
    return found;
}

bool mm_tls_damage(uint32_t sqn, bool key, bool in_silence)
{
    struct mm_tis *t = tis_any(sqn);
    struct mm_dek *d = t != NULL ? mm_dek_by_id(t->params.dek) : NULL;
    if (d == NULL)
        return false;
    mm_stats.tls_garbage += in_silence;
    if (key && in_silence) {
        d->key[mm_random() % d->key_len] ^= 0x40;
        d->turn += 0x1000000;
    } else if (key) {
        d->is_lost = true;
    } else if (in_silence) {
        t->parser.record_number += 1 + mm_random() % 1000;
    } else {
        t->is_lost = true;
    }
    return true;
}
