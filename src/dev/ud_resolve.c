/* The resolve exchange without its socket: bytes, proofs, limits.
 *
 * The answering side proves an asker's address with a cookie that it can compute again instead of
 * one that it remembers: a table of askers could be filled by forged queries just when thousands of
 * honest ones start together. The hash is SipHash-2-4 because who sees the cookies for his own
 * addresses must not learn those of others. */
#include "dev/ud_resolve.h"

#include "base/bytes.h"

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_LINK = 6,
    AT_PORT = 8,
    AT_LID = 10,
    AT_MTU = 12,
    AT_QPN = 16,
    AT_QKEY = 20,
    AT_GID = 24,
    AT_NONCE = 40,
    AT_NUMBER = 56,
    AT_SHARE = 57,
    AT_SPARE = 58,
};

enum { MAGIC = 0x534d5555, VERSION = 1 }; /* "SMUU" */

enum {
    LID_LAST_UNICAST = 0xbfff,
    QPN_FIRST = 2, /* 0 and 1 are the fabric's own */
    QPN_LAST = 0xfffffe,
    GID_MULTICAST = 0xff,
    MTU_LEAST = 256,
    MTU_MOST = 4096,
};
#define QKEY_PRIVILEGED 0x80000000u

/* A cookie is good for one to two of these. */
#define COOKIE_SLOT (8 * SMT_SEC)

void smt_ud_msg_build(const struct smt_ud_msg *msg, uint8_t out[SMT_UD_MSG_LEN])
{
    memset(out, 0, SMT_UD_MSG_LEN);
    smt_put_be32(out + AT_MAGIC, MAGIC);
    out[AT_VERSION] = VERSION;
    out[SMT_UD_KIND_AT] = msg->kind;
    out[AT_LINK] = msg->link;
    out[SMT_UD_WANTED_AT] = msg->wanted;
    smt_put_be16(out + AT_PORT, msg->port);
    smt_put_be16(out + AT_LID, msg->lid);
    smt_put_be32(out + AT_MTU, msg->mtu);
    smt_put_be32(out + AT_QPN, msg->qpn);
    smt_put_be32(out + AT_QKEY, msg->qkey);
    memcpy(out + AT_GID, msg->gid, sizeof(msg->gid));
    smt_put_be64(out + AT_NONCE, msg->nonce);
    smt_put_be64(out + SMT_UD_ECHO_AT, msg->echo);
    out[AT_NUMBER] = msg->number;
    out[AT_SHARE] = msg->share;
    static_assert(AT_SPARE + 6 == SMT_UD_MSG_LEN, "docs/wire.md, UD");
}

static bool gid_is_sound(const uint8_t gid[16])
{
    uint8_t any = 0;
    for (unsigned i = 0; i < 16; i++)
        any |= gid[i];
    return any != 0 && gid[0] != GID_MULTICAST;
}

static bool place_is_sound(const struct smt_ud_msg *m)
{
    if (m->link == SMT_UD_LINK_ROCE)
        return m->lid == 0;
    return m->link == SMT_UD_LINK_IB && m->lid != 0 && m->lid <= LID_LAST_UNICAST;
}

static bool echo_is_sound(const struct smt_ud_msg *m)
{
    if (m->kind == SMT_UD_QUERY)
        return m->echo == 0;
    return (m->kind == SMT_UD_ANSWER || m->kind == SMT_UD_ACK) && m->echo != 0;
}

static bool mtu_is_sound(uint32_t mtu)
{
    return mtu >= MTU_LEAST && mtu <= MTU_MOST && (mtu & (mtu - 1)) == 0;
}

static bool share_is_sound(const struct smt_ud_msg *m)
{
    return m->share == 0 ? m->number == 0 : m->share > 1 && m->number < m->share;
}

int smt_ud_msg_parse(const uint8_t *data, size_t len, struct smt_ud_msg *out)
{
    if (len != SMT_UD_MSG_LEN || smt_get_be32(data + AT_MAGIC) != MAGIC)
        return SMT_EMALFORMED;
    if (data[AT_VERSION] != VERSION)
        return SMT_EVERSION;
    struct smt_ud_msg m = {
        .kind = data[SMT_UD_KIND_AT],
        .link = data[AT_LINK],
        .port = smt_get_be16(data + AT_PORT),
        .lid = smt_get_be16(data + AT_LID),
        .mtu = smt_get_be32(data + AT_MTU),
        .qpn = smt_get_be32(data + AT_QPN),
        .qkey = smt_get_be32(data + AT_QKEY),
        .nonce = smt_get_be64(data + AT_NONCE),
        .echo = smt_get_be64(data + SMT_UD_ECHO_AT),
        .number = data[AT_NUMBER],
        .share = data[AT_SHARE],
    };
    if (m.kind == SMT_UD_QUERY)
        m.wanted = data[SMT_UD_WANTED_AT];
    memcpy(m.gid, data + AT_GID, sizeof(m.gid));
    if (!place_is_sound(&m) || !echo_is_sound(&m) || !share_is_sound(&m) || !mtu_is_sound(m.mtu) ||
        !gid_is_sound(m.gid) || m.port == 0 || m.nonce == 0 || m.qpn < QPN_FIRST ||
        m.qpn > QPN_LAST || (m.qkey & QKEY_PRIVILEGED) != 0)
        return SMT_EMALFORMED;
    *out = m;
    return 0;
}

static inline uint64_t rotl(uint64_t x, unsigned k)
{
    return x << k | x >> (64 - k);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static void sip_absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

uint64_t smt_ud_siphash(const uint64_t key[2], const uint64_t *words, unsigned n_words)
{
    uint64_t v[4] = {
        key[0] ^ 0x736f6d6570736575ull,
        key[1] ^ 0x646f72616e646f6dull,
        key[0] ^ 0x6c7967656e657261ull,
        key[1] ^ 0x7465646279746573ull,
    };
    for (unsigned i = 0; i < n_words; i++)
        sip_absorb(v, words[i]);
    sip_absorb(v, (uint64_t)n_words * 8 << 56);
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t cookie_of_slot(const struct smt_ud_cookie *c, const struct smt_addr *addr,
                               uint64_t slot)
{
    const uint64_t words[4] = {
        smt_get_be64(addr->ip),
        smt_get_be64(addr->ip + 8),
        (uint64_t)addr->scope << 16 | addr->port,
        slot,
    };
    return smt_ud_nonce_for(smt_ud_siphash(c->key, words, SMT_ARRAY_LEN(words)), c->number,
                            c->share);
}

uint64_t smt_ud_cookie_make(const struct smt_ud_cookie *c, const struct smt_addr *addr,
                            uint64_t now)
{
    return cookie_of_slot(c, addr, now / COOKIE_SLOT);
}

bool smt_ud_cookie_check(const struct smt_ud_cookie *c, const struct smt_addr *addr, uint64_t now,
                         uint64_t nonce)
{
    uint64_t slot = now / COOKIE_SLOT;
    uint64_t mine[2] = {cookie_of_slot(c, addr, slot), cookie_of_slot(c, addr, slot - 1)};
    return smt_ct_equal(&mine[0], &nonce, 8) || smt_ct_equal(&mine[1], &nonce, 8);
}

void smt_ud_bucket_init(struct smt_ud_bucket *b, uint32_t rate, uint32_t burst, uint64_t now)
{
    assert(rate > 0 && burst > 0);
    *b = (struct smt_ud_bucket){.rate = rate, .burst = burst, .last = now};
    b->tokens_ns = SMT_SEC / rate * burst;
}

/* Saved time is the currency: one token costs 1 / rate of a second. */
bool smt_ud_bucket_take(struct smt_ud_bucket *b, uint64_t now)
{
    uint64_t cost = SMT_SEC / b->rate;
    uint64_t most = cost * b->burst;
    uint64_t passed = now > b->last ? now - b->last : 0;
    b->last = now > b->last ? now : b->last;
    b->tokens_ns = passed < most - b->tokens_ns ? b->tokens_ns + passed : most;
    if (b->tokens_ns < cost)
        return false;
    b->tokens_ns -= cost;
    return true;
}
