/* Records sealed as RFC 5288 (TLS 1.2) and RFC 8446 (TLS 1.3) say, nonce and associated data made
 * here from their text. A wrong record number or key makes no error: only the receiver can tell. */
#include "tls.h"

#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "objects.h"

enum { MAX_PLAIN = 16384, TAG = 16 };

static struct mm_tis *changed[1024]; /* TISes with something for the next fence to do */
static unsigned n_changed;

/* Every (key, nonce) that was used and the tag it made: another tag means other bytes. */
static struct seen {
    uint64_t name, tag;
} * seen;
static size_t seen_size, n_seen;

static void note_changed(struct mm_tis *t)
{
    for (unsigned i = 0; i < n_changed; i++) {
        if (changed[i] == t)
            return;
    }
    if (n_changed == sizeof(changed) / sizeof(changed[0]))
        mm_die("model", "%u contexts without a fence", n_changed);
    changed[n_changed++] = t;
}

void mm_tls_fence(uint32_t sqn)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < n_changed; i++) {
        struct mm_tis *t = changed[i];
        if (t->sqn != sqn) {
            changed[kept++] = t;
            continue;
        }
        if (t->next_params.is_set) {
            t->params = t->next_params;
            t->next_params.is_set = false;
        }
        if (t->next_parser) {
            t->next_parser = false;
            t->parser = (struct mm_parser){
                .is_set = true, .record_number = t->params.record_number + t->next_offset};
        }
        t->is_used = false;
    }
    n_changed = kept;
}

void mm_tls_forget(struct mm_tis *t)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < n_changed; i++) {
        if (changed[i] != t)
            changed[kept++] = changed[i];
    }
    n_changed = kept;
    t->params.is_set = t->next_params.is_set = t->parser.is_set = false;
    t->next_parser = t->is_used = false;
    t->sqn = 0;
}

/* The TIS that a WQE with parameters names, if this queue may change it now. */
static struct mm_tis *tis_to_change(uint32_t sqn, uint32_t tisn)
{
    struct mm_tis *t = mm_tis_by_number(tisn);
    if (t == NULL) {
        mm_complain("ctrl.tis_tir_num", "0x%x is no TIS", tisn);
        return NULL;
    }
    if (!t->is_tls) {
        mm_complain("ctrl.tis_tir_num", "0x%x has no tls_en", tisn);
        return NULL;
    }
    if (t->is_used && t->sqn == sqn) {
        mm_complain("ctrl.fence", "0: TIS 0x%x is changed while its packets may be on their way",
                    tisn);
        return NULL;
    }
    if (t->sqn != 0 && t->sqn != sqn && (t->is_used || t->next_params.is_set || t->next_parser)) {
        mm_complain("ctrl.tis_tir_num", "0x%x is in use by queue 0x%x", tisn, t->sqn);
        return NULL;
    }
    return t;
}

static bool suite_exists(uint32_t version, uint32_t key_len)
{
    static const struct {
        uint32_t version, key_len, bit;
    } suites[] = {{2, 16, 8}, {3, 16, 4}, {2, 32, 2}, {3, 32, 1}};
    for (unsigned i = 0; i < 4; i++) {
        if (suites[i].version == version && suites[i].key_len == key_len)
            return mm_config()->tls & suites[i].bit;
    }
    return false;
}

static bool dek_fits(const struct mm_params *p, uint32_t pdn, const struct mm_tis *t)
{
    const struct mm_dek *d = mm_dek_by_id(p->dek);
    if (d == NULL)
        return mm_complain("static.dek_index", "0x%x is no key", p->dek);
    if (d->pdn != t->pdn || d->pdn != pdn)
        return mm_complain("static.dek_index",
                           "protection domains differ: key 0x%x, TIS 0x%x, queue pair 0x%x", d->pdn,
                           t->pdn, pdn);
    if (d->needs_sync)
        return mm_complain("static.dek_index", "0x%x was modified and not synchronised", p->dek);
    if (!suite_exists(p->version, d->key_len))
        return mm_complain("static.tls_version", "%u with a key of %u bits is not supported",
                           p->version, d->key_len * 8);
    return true;
}

/* Parameters that tell the engine what it expects anyway: a resync that changes nothing. */
static bool is_needless(const struct mm_tis *t, uint32_t sqn, const struct mm_params *p)
{
    const struct mm_parser *at = &t->parser;
    return t->sqn == sqn && t->params.is_set && !t->next_params.is_set && at->is_set &&
           at->phase == MM_PHASE_HEADER && at->n_header == 0 &&
           at->record_number == p->record_number && t->params.dek == p->dek &&
           t->params.version == p->version && memcmp(t->params.salt, p->salt, 4) == 0;
}

enum ibv_wc_status mm_tls_static(uint32_t sqn, uint32_t pdn, uint32_t tisn, const uint8_t *b)
{
    static const struct {
        enum mm_field field;
        uint64_t value;
    } fixed[] = {{MM_ST_CONST_2, 2}, {MM_ST_CONST_1, 1}, {MM_ST_STANDARD, 1}, {MM_ST_RESYNC_SN, 0}};
    for (unsigned i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (mm_get(b, fixed[i].field) != fixed[i].value) {
            mm_complain(mm_fields[fixed[i].field].name, "0x%llx, must be 0x%llx",
                        (unsigned long long)mm_get(b, fixed[i].field),
                        (unsigned long long)fixed[i].value);
            return IBV_WC_LOC_QP_OP_ERR;
        }
    }
    struct mm_params p = {.is_set = true,
                          .version = (uint32_t)mm_get(b, MM_ST_VERSION),
                          .record_number = mm_get(b, MM_ST_RECORD_NUMBER),
                          .dek = (uint32_t)mm_get(b, MM_ST_DEK)};
    memcpy(p.salt, b + mm_fields[MM_ST_GCM_IV].bit / 8, 4);
    memcpy(p.iv, b + mm_fields[MM_ST_IMPLICIT_IV].bit / 8, 8);
    static const uint8_t zero[8];
    struct mm_tis *t = tis_to_change(sqn, tisn);
    if (t == NULL)
        return IBV_WC_LOC_QP_OP_ERR;
    if (t->is_lost)
        return IBV_WC_LOC_QP_OP_ERR;
    if (p.version == 2 && memcmp(p.iv, zero, 8) != 0) {
        mm_complain("static.implicit_iv", "must be 0 with TLS 1.2");
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (!dek_fits(&p, pdn, t))
        return IBV_WC_LOC_QP_OP_ERR;
    if (mm_dek_by_id(p.dek)->is_lost)
        return IBV_WC_LOC_PROT_ERR;
    if (t->sqn != 0 && t->sqn != sqn)
        mm_tls_forget(t);
    if (is_needless(t, sqn, &p))
        mm_stats.static_needless++;
    t->sqn = sqn;
    t->next_params = p;
    note_changed(t);
    return IBV_WC_SUCCESS;
}

enum ibv_wc_status mm_tls_progress(uint32_t sqn, uint32_t tisn, const uint8_t *b)
{
    static const enum mm_field zero[] = {MM_PR_NEXT_SN, MM_PR_HW_RESYNC_SN, MM_PR_TRACKER,
                                         MM_PR_AUTH, MM_PR_OFFSET};
    for (unsigned i = 0; i < sizeof(zero) / sizeof(zero[0]); i++) {
        if (mm_get(b, zero[i]) != 0) {
            mm_complain(mm_fields[zero[i]].name, "0x%llx, must be 0 when sending",
                        (unsigned long long)mm_get(b, zero[i]));
            return IBV_WC_LOC_QP_OP_ERR;
        }
    }
    struct mm_tis *t = tis_to_change(sqn, tisn);
    if (t == NULL || t->is_lost)
        return IBV_WC_LOC_QP_OP_ERR;
    if (t->sqn != sqn || (!t->params.is_set && !t->next_params.is_set)) {
        mm_complain("progress.tis_tir_num", "0x%x has no static parameters of this queue", tisn);
        return IBV_WC_LOC_QP_OP_ERR;
    }
    t->next_parser = true;
    t->next_offset = (uint32_t)mm_get(b, MM_PR_OFFSET);
    note_changed(t);
    return IBV_WC_SUCCESS;
}

static uint64_t mix(uint64_t h, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    h ^= h >> 29;
    return h * 0xbf58476d1ce4e5b9u;
}

static void seen_grow(void)
{
    size_t old_size = seen_size;
    struct seen *old = seen;
    seen_size = old_size == 0 ? 4096 : 2 * old_size;
    seen = calloc(seen_size, sizeof(*seen));
    if (seen == NULL)
        mm_die("model", "out of memory");
    for (size_t i = 0; i < old_size; i++) {
        size_t at = old[i].name & (seen_size - 1);
        if (old[i].name == 0)
            continue;
        while (seen[at].name != 0)
            at = (at + 1) & (seen_size - 1);
        seen[at] = old[i];
    }
    free(old);
}

/* One (key, nonce) seals one byte string: anything else gives the key away. */
static void nonce_note(const struct mm_dek *d, const uint8_t *nonce, const uint8_t *tag)
{
    if (2 * n_seen >= seen_size)
        seen_grow();
    uint64_t name = mix(mix(0xcbf29ce484222325u, d->key, d->key_len), nonce, 12) | 1, first8;
    memcpy(&first8, tag, 8);
    size_t at = name & (seen_size - 1);
    while (seen[at].name != 0 && seen[at].name != name)
        at = (at + 1) & (seen_size - 1);
    if (seen[at].name == 0) {
        seen[at] = (struct seen){.name = name, .tag = first8};
        n_seen++;
    } else if (seen[at].tag != first8) {
        mm_complain("record number", "two different records sealed with one key and nonce");
    }
}

static uint64_t be64_at(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void be64_put(uint8_t *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

static void nonce_make(const struct mm_tis *t, uint8_t *nonce)
{
    memcpy(nonce, t->params.salt, 4);
    if (t->params.version == 2) {
        memcpy(nonce + 4, t->parser.header + 5, 8);
        return;
    }
    uint8_t number[8];
    be64_put(number, t->parser.record_number);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = t->params.iv[i] ^ number[i];
}

static bool cipher_key(struct mm_tis *t, const struct mm_dek *d)
{
    if (t->cipher == NULL)
        t->cipher = EVP_CIPHER_CTX_new();
    if (t->cipher == NULL)
        mm_die("model", "out of memory");
    if (t->cipher_dek == d->id && t->cipher_turn == d->turn)
        return true;
    t->cipher_dek = d->id;
    t->cipher_turn = d->turn;
    const EVP_CIPHER *c = d->key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    return EVP_EncryptInit_ex(t->cipher, c, NULL, d->key, NULL) == 1;
}

/* The header of a record is complete: how long its body is, or -1 after a complaint. */
static int64_t body_len(const struct mm_tis *t)
{
    const uint8_t *h = t->parser.header;
    uint32_t len = (uint32_t)h[3] << 8 | h[4], head = t->params.version == 2 ? 8 : 0;
    if (h[0] < 20 || h[0] > 24) {
        mm_complain("record.type", "%u at the start of a record", h[0]);
        return -1;
    }
    if (h[1] != 3 || h[2] != 3) {
        mm_complain("record.version", "0x%02x%02x", h[1], h[2]);
        return -1;
    }
    if (len < head + TAG || len > head + MAX_PLAIN + TAG + (head == 0 ? 1 : 0)) {
        mm_complain("record.length", "%u", len);
        return -1;
    }
    return len - head - TAG;
}

static bool record_begin(struct mm_tis *t, const struct mm_dek *d)
{
    struct mm_parser *p = &t->parser;
    int64_t body = body_len(t);
    if (body < 0)
        return false;
    uint8_t nonce[12], aad[13];
    int n, aad_len = 5;
    nonce_make(t, nonce);
    if (t->params.version == 2) {
        be64_put(aad, p->record_number);
        memcpy(aad + 8, p->header, 3);
        aad[11] = (uint8_t)(body >> 8);
        aad[12] = (uint8_t)body;
        aad_len = 13;
        if (be64_at(p->header + 5) != p->record_number)
            mm_stats.tls_number_differs++;
    } else {
        memcpy(aad, p->header, 5);
    }
    if (!cipher_key(t, d) || EVP_EncryptInit_ex(t->cipher, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(t->cipher, NULL, &n, aad, aad_len) != 1)
        mm_die("model", "OpenSSL refuses to seal");
    p->left = (uint32_t)body;
    p->phase = MM_PHASE_BODY;
    return true;
}

static void record_end(struct mm_tis *t, const struct mm_dek *d)
{
    struct mm_parser *p = &t->parser;
    uint8_t rest[16], nonce[12];
    int n;
    if (EVP_EncryptFinal_ex(t->cipher, rest, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(t->cipher, EVP_CTRL_GCM_GET_TAG, TAG, p->tag) != 1)
        mm_die("model", "OpenSSL gives no tag");
    nonce_make(t, nonce);
    nonce_note(d, nonce, p->tag);
    p->phase = MM_PHASE_TAG;
    p->n_tag = 0;
}

static bool stream(struct mm_tis *t, const struct mm_dek *d, uint8_t *b, uint32_t len)
{
    struct mm_parser *p = &t->parser;
    uint32_t head_len = t->params.version == 2 ? 13 : 5;
    while (len > 0) {
        uint32_t take = 0;
        int n;
        switch (p->phase) {
        case MM_PHASE_HEADER:
            take = head_len - p->n_header < len ? head_len - p->n_header : len;
            memcpy(p->header + p->n_header, b, take);
            p->n_header += take;
            if (p->n_header == head_len && !record_begin(t, d))
                return false;
            break;
        case MM_PHASE_BODY:
            take = p->left < len ? p->left : len;
            if (take > 0 && EVP_EncryptUpdate(t->cipher, b, &n, b, (int)take) != 1)
                mm_die("model", "OpenSSL does not seal");
            p->left -= take;
            break;
        case MM_PHASE_TAG:
            take = TAG - p->n_tag < len ? TAG - p->n_tag : len;
            memcpy(b, p->tag + p->n_tag, take);
            p->n_tag += take;
            break;
        }
        if (p->phase == MM_PHASE_BODY && p->left == 0)
            record_end(t, d);
        if (p->phase == MM_PHASE_TAG && p->n_tag == TAG) {
            *p = (struct mm_parser){.is_set = true, .record_number = p->record_number + 1};
            mm_stats.tls_records++;
        }
        b += take;
        len -= take;
        mm_stats.tls_bytes += take;
    }
    return true;
}

enum ibv_wc_status mm_tls_stream(uint32_t sqn, uint32_t tisn, uint8_t *bytes, uint32_t len)
{
    struct mm_tis *t = mm_tis_by_number(tisn);
    if (t == NULL || !t->is_tls) {
        mm_complain("ctrl.tis_tir_num", "0x%x %s", tisn, t == NULL ? "is no TIS" : "has no tls_en");
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (t->is_lost)
        return IBV_WC_LOC_QP_OP_ERR;
    if (t->sqn != sqn) {
        mm_complain("ctrl.tis_tir_num", "0x%x was not programmed by queue 0x%x", tisn, sqn);
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (!t->params.is_set || !t->parser.is_set) {
        mm_complain("ctrl.fence", "TIS 0x%x has no parameters in effect: no fence since", tisn);
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (t->next_params.is_set || t->next_parser)
        mm_stats.tls_stale++;
    const struct mm_dek *d = mm_dek_by_id(t->params.dek);
    if (d == NULL || d->needs_sync) {
        mm_complain("static.dek_index", "0x%x was %s while TIS 0x%x uses it", t->params.dek,
                    d == NULL ? "destroyed" : "modified", tisn);
        return IBV_WC_LOC_PROT_ERR;
    }
    if (d->is_lost)
        return IBV_WC_LOC_PROT_ERR;
    mm_stats.tls_wqes++;
    t->is_used = true;
    note_changed(t);
    return stream(t, d, bytes, len) ? IBV_WC_SUCCESS : IBV_WC_LOC_QP_OP_ERR;
}
