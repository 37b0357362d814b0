/* Transport parameters (docs/wire.md 6.2): a table of ids, and an encoder and a decoder that walk
 * it.
 *
 * Values are carried, not judged: whether versions or ciphers meet, or a limit makes sense, is
 * the handshake's business. A value longer than its row is accepted and its tail ignored, so
 * that a parameter can grow. */
#include "wire/params.h"

#include <string.h>

#include "base/bytes.h"
#include "wire/wire.h"

enum {
    ID_SESSION = 1,
    ID_VERSIONS,
    ID_CARRIAGES,
    ID_RECORD_FORMS,
    ID_CIPHERS,
    ID_MTU,
    ID_LIMITS,
    ID_RX_WINDOW,
    ID_UNSCHED,
    ID_IDLE_TIMEOUT,
    ID_END,
    HEAD_LEN = 4,
    REQUIRED = 1 << ID_SESSION | 1 << ID_VERSIONS | 1 << ID_CIPHERS,
};

/* Shortest value of each id; versions and ciphers are lists of at least one. */
static const uint8_t min_len[ID_END] = {
    [ID_SESSION] = 8, [ID_VERSIONS] = 1,     [ID_CARRIAGES] = 1,      [ID_RECORD_FORMS] = 1,
    [ID_CIPHERS] = 1, [ID_MTU] = 2,          [ID_LIMITS] = 4 + 8 + 4, [ID_RX_WINDOW] = 4,
    [ID_UNSCHED] = 4, [ID_IDLE_TIMEOUT] = 4,
};

static_assert(SMT_PARAMS_MAX_LEN >= (ID_END - 1) * HEAD_LEN + 8 + SMT_PARAMS_MAX_VERSIONS + 1 + 1 +
                                        SMT_PARAMS_MAX_CIPHERS + 2 + 16 + 4 + 4 + 4,
              "the longest block that encode writes");

void smt_params_init(struct smt_params *p)
{
    *p = (struct smt_params){
        .carriages = 1,
        .record_forms = 1,
        .mtu = SMT_BASE_PACKET,
        .open_rpcs = 4096,
        .unfinished_bytes = 64ull << 20,
        .max_message = 1u << 30,
        .rx_window = 131072,
        .unsched = 10000,
        .idle_timeout_ms = 0,
    };
}

static size_t value_len(const struct smt_params *p, unsigned id)
{
    if (id == ID_VERSIONS)
        return p->n_versions;
    return id == ID_CIPHERS ? p->n_ciphers : min_len[id];
}

static void value_put(const struct smt_params *p, unsigned id, uint8_t *out)
{
    switch (id) {
    case ID_SESSION:
        smt_put_be64(out, p->session_id);
        break;
    case ID_VERSIONS:
        memcpy(out, p->versions, p->n_versions);
        break;
    case ID_CARRIAGES:
        *out = p->carriages;
        break;
    case ID_RECORD_FORMS:
        *out = p->record_forms;
        break;
    case ID_CIPHERS:
        memcpy(out, p->ciphers, p->n_ciphers);
        break;
    case ID_MTU:
        smt_put_be16(out, p->mtu);
        break;
    case ID_LIMITS:
        smt_put_be32(out, p->open_rpcs);
        smt_put_be64(out + 4, p->unfinished_bytes);
        smt_put_be32(out + 12, p->max_message);
        break;
    case ID_RX_WINDOW:
        smt_put_be32(out, p->rx_window);
        break;
    case ID_UNSCHED:
        smt_put_be32(out, p->unsched);
        break;
    case ID_IDLE_TIMEOUT:
        smt_put_be32(out, p->idle_timeout_ms);
        break;
    }
}

int smt_params_encode(const struct smt_params *p, uint8_t *out, size_t cap)
{
    if (p->n_versions == 0 || p->n_versions > SMT_PARAMS_MAX_VERSIONS || p->n_ciphers == 0 ||
        p->n_ciphers > SMT_PARAMS_MAX_CIPHERS)
        return SMT_EINVAL;
    size_t at = 0;
    for (unsigned id = ID_SESSION; id < ID_END; id++) {
        size_t len = value_len(p, id);
        if (HEAD_LEN + len > cap - at)
            return SMT_EINVAL;
        smt_put_be16(out + at, (uint16_t)id);
        smt_put_be16(out + at + 2, (uint16_t)len);
        value_put(p, id, out + at + HEAD_LEN);
        at += HEAD_LEN + len;
    }
    return (int)at;
}

/* A list's first entries; more than the struct holds are of no use to it. */
static uint8_t list_get(const uint8_t *in, size_t len, uint8_t *list, size_t max)
{
    size_t n = len < max ? len : max;
    memcpy(list, in, n);
    return (uint8_t)n;
}

static void value_get(const uint8_t *in, size_t len, unsigned id, struct smt_params *p)
{
    switch (id) {
    case ID_SESSION:
        p->session_id = smt_get_be64(in);
        break;
    case ID_VERSIONS:
        p->n_versions = list_get(in, len, p->versions, SMT_PARAMS_MAX_VERSIONS);
        break;
    case ID_CARRIAGES:
        p->carriages = *in;
        break;
    case ID_RECORD_FORMS:
        p->record_forms = *in;
        break;
    case ID_CIPHERS:
        p->n_ciphers = list_get(in, len, p->ciphers, SMT_PARAMS_MAX_CIPHERS);
        break;
    case ID_MTU:
        p->mtu = smt_get_be16(in);
        break;
    case ID_LIMITS:
        p->open_rpcs = smt_get_be32(in);
        p->unfinished_bytes = smt_get_be64(in + 4);
        p->max_message = smt_get_be32(in + 12);
        break;
    case ID_RX_WINDOW:
        p->rx_window = smt_get_be32(in);
        break;
    case ID_UNSCHED:
        p->unsched = smt_get_be32(in);
        break;
    case ID_IDLE_TIMEOUT:
        p->idle_timeout_ms = smt_get_be32(in);
        break;
    }
}

int smt_params_decode(const uint8_t *in, size_t len, struct smt_params *out)
{
    struct smt_params p;
    smt_params_init(&p);
    unsigned seen = 0;
    size_t at = 0;
    while (at < len) {
        if (len - at < HEAD_LEN)
            return SMT_EMALFORMED;
        unsigned id = smt_get_be16(in + at);
        size_t value = smt_get_be16(in + at + 2);
        at += HEAD_LEN;
        if (value > len - at)
            return SMT_EMALFORMED;
        if (id >= ID_SESSION && id < ID_END) {
            if ((seen & 1u << id) || value < min_len[id])
                return SMT_EMALFORMED;
            seen |= 1u << id;
            value_get(in + at, value, id, &p);
        }
        at += value;
    }
    if ((seen & REQUIRED) != REQUIRED)
        return SMT_EMALFORMED;
    *out = p;
    return 0;
}
