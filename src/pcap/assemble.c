/* Puts messages together: see assemble.h.
 *
 * A message has its bytes and one flag for each. Plain Homa fills them from packets. smt1 gathers
 * records first: the slices of a record lie at number * slice length, so they need no order; the
 * record's length comes with packet 0, and when all its bytes are there it is opened and its
 * segments go where the record says they do.
 *
 * A capture may be anybody's: memory is taken as far as bytes were seen, and never above 1 GiB. */
#include "pcap/assemble.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/sha.h>

#include "base/mem.h"
#include "crypto/aead.h"
#include "wire/smt1.h"
#include "wire/wire.h"

enum { N_BUCKETS = 4096 };
#define MAX_BYTES ((size_t)1 << 30)

struct record {
    struct record *next;          /* by offset */
    struct smt_smt1_record shape; /* n_packets 0: packet 0 was not seen */
    uint32_t offset, cap;         /* bytes of `bytes` and `seen` */
    uint32_t got;
    uint32_t k; /* of its number, once opened */
    bool is_done;
    uint8_t *bytes, *seen;
};

struct message {
    struct smt_inspect_message m;
    struct message *same_bucket, *next;
    uint32_t cap;  /* bytes of m.data and `seen`: as far as any were seen, or some more */
    uint8_t *seen; /* one for each byte of m.data */
    struct record *records;
};

struct smt_assembly {
    struct smt_inspect_config config;
    struct smt_smt1_geom geom;
    struct message *buckets[N_BUCKETS];
    struct message *first, **end;
    size_t n_bytes;
    const struct smt_aead *aead;
    void *ctx[2]; /* client's, server's; NULL without a key */
};

static int key_init(struct smt_assembly *a, unsigned i, const struct smt_inspect_key *key)
{
    if (!key->is_set)
        return 0;
    a->ctx[i] = smt_mem_alloc(a->aead->ctx_len);
    if (a->ctx[i] == NULL)
        return SMT_ENOMEM;
    return a->aead->init(a->ctx[i], key->key);
}

int smt_assembly_new(const struct smt_inspect_config *config, struct smt_assembly **out)
{
    struct smt_assembly *a = smt_mem_alloc(sizeof(*a));
    if (a == NULL)
        return SMT_ENOMEM;
    a->config = *config;
    a->end = &a->first;
    a->aead = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    int r = a->aead == NULL ? SMT_EUNSUPPORTED : 0;
    if (r == 0 && config->format != NULL && config->format->records)
        r = smt_smt1_geom_init(&a->geom, config->mtu, SMT_SMT1_DEFAULT_GSO);
    if (r == 0)
        r = key_init(a, 0, &config->client);
    if (r == 0)
        r = key_init(a, 1, &config->server);
    if (r < 0) {
        smt_assembly_free(a);
        return r;
    }
    *out = a;
    return 0;
}

static void record_free(struct record *r)
{
    smt_mem_free(r->bytes);
    smt_mem_free(r->seen);
    smt_mem_free(r);
}

static void message_free(struct message *m)
{
    while (m->records != NULL) {
        struct record *r = m->records;
        m->records = r->next;
        record_free(r);
    }
    smt_mem_free(m->m.data);
    smt_mem_free(m->seen);
    smt_mem_free(m);
}

void smt_assembly_free(struct smt_assembly *a)
{
    if (a == NULL)
        return;
    while (a->first != NULL) {
        struct message *m = a->first;
        a->first = m->next;
        message_free(m);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (a->ctx[i] != NULL)
            a->aead->fini(a->ctx[i]);
        smt_mem_free(a->ctx[i]);
    }
    smt_wipe(&a->config, sizeof(a->config));
    smt_mem_free(a);
}

static unsigned bucket_of(const struct smt_addr *from, const struct smt_addr *to, uint64_t id)
{
    uint64_t a, b;
    memcpy(&a, from->ip + 8, 8);
    memcpy(&b, to->ip + 8, 8);
    uint64_t h = (a ^ b * 31 ^ id * 131 ^ (uint64_t)from->port << 16 ^ to->port);
    return (unsigned)(h * 0x9e3779b97f4a7c15ull >> 52) % N_BUCKETS;
}

static struct message *find(const struct smt_assembly *a, const struct smt_addr *from,
                            const struct smt_addr *to, uint64_t id)
{
    struct message *m = a->buckets[bucket_of(from, to, id)];
    while (m != NULL &&
           (m->m.id != id || !smt_addr_equal(&m->m.from, from) || !smt_addr_equal(&m->m.to, to)))
        m = m->same_bucket;
    return m;
}

const struct smt_inspect_message *smt_assembly_find(const struct smt_assembly *a,
                                                    const struct smt_addr *from,
                                                    const struct smt_addr *to, uint64_t id)
{
    const struct message *m = find(a, from, to, id);
    return m != NULL ? &m->m : NULL;
}

const struct smt_inspect_message *smt_assembly_first(const struct smt_assembly *a)
{
    return a->first != NULL ? &a->first->m : NULL;
}

/* Makes room for `end` bytes and their flags, which hold what they held. */
static int room_make(struct smt_assembly *a, uint8_t **bytes, uint8_t **seen, uint32_t *cap,
                     uint32_t end)
{
    if (end <= *cap)
        return 0;
    if (2 * (size_t)end > MAX_BYTES - a->n_bytes)
        return SMT_ENOMEM;
    uint8_t *more_bytes = smt_mem_alloc(end), *more_seen = smt_mem_alloc(end);
    if (more_bytes == NULL || more_seen == NULL) {
        smt_mem_free(more_bytes);
        smt_mem_free(more_seen);
        return SMT_ENOMEM;
    }
    if (*cap > 0) {
        memcpy(more_bytes, *bytes, *cap);
        memcpy(more_seen, *seen, *cap);
    }
    smt_mem_free(*bytes);
    smt_mem_free(*seen);
    a->n_bytes += 2 * ((size_t)end - *cap);
    *bytes = more_bytes;
    *seen = more_seen;
    *cap = end;
    return 0;
}

/* Doubles what a message has, so that one of many packets is not copied for each. */
static int message_room(struct smt_assembly *a, struct message *m, uint32_t end)
{
    if (end <= m->cap)
        return 0;
    uint32_t twice = m->cap < m->m.len / 2 ? 2 * m->cap : m->m.len;
    return room_make(a, &m->m.data, &m->seen, &m->cap, end > twice ? end : twice);
}

/* An entry, without bytes yet; NULL without memory. */
static struct message *message_new(struct smt_assembly *a, const struct smt_cap_packet *packet,
                                   const struct smt_homa_pkt *p, const struct smt_addr *from,
                                   const struct smt_addr *to)
{
    struct message *m = smt_mem_alloc(sizeof(*m));
    if (m == NULL)
        return NULL;
    m->m = (struct smt_inspect_message){
        .from = *from,
        .to = *to,
        .id = p->sender_id,
        .len = p->message_len,
        .first_packet = packet->number,
        .is_opaque = a->config.format->records && a->ctx[p->sender_id & 1] == NULL,
    };
    struct message **bucket = &a->buckets[bucket_of(from, to, p->sender_id)];
    m->same_bucket = *bucket;
    *bucket = m;
    if (a->first != NULL)
        SMT_CONTAINER_OF(a->end, struct message, next)->m.next = &m->m;
    *a->end = m;
    a->end = &m->next;
    return m;
}

/* Puts bytes beside those seen. The number of new ones, or -1 when an old one differs; *cut tells
 * that some are new and some are not: the sender has cut them elsewhere before. */
static int64_t bytes_put(uint8_t *to, uint8_t *seen, const uint8_t *from, uint32_t len, bool *cut)
{
    int64_t n_new = 0;
    bool differs = false;
    for (uint32_t i = 0; i < len; i++) {
        if (!seen[i]) {
            to[i] = from[i];
            seen[i] = 1;
            n_new++;
        } else if (to[i] != from[i]) {
            differs = true;
        }
    }
    *cut = n_new > 0 && n_new < len;
    return differs ? -1 : n_new;
}

static void message_gained(struct message *m, uint32_t n)
{
    m->m.got += n;
    if (m->m.got < m->m.len || m->m.is_complete)
        return;
    m->m.is_complete = !m->m.is_opaque;
    if (m->m.is_complete)
        SHA256(m->m.data, m->m.len, m->m.sha);
}

static int plain_put(struct smt_assembly *a, struct message *m, const struct smt_homa_pkt *p,
                     char *fault, size_t fault_len)
{
    if (p->payload_len == 0)
        return 0;
    if (message_room(a, m, p->offset + p->payload_len) < 0)
        return SMT_ENOMEM;
    bool cut;
    int64_t n =
        bytes_put(m->m.data + p->offset, m->seen + p->offset, p->payload, p->payload_len, &cut);
    if (n < 0)
        snprintf(fault, fault_len, "its bytes differ from those of an earlier packet");
    else if (cut)
        snprintf(fault, fault_len, "cut at other places than an earlier packet of the message");
    if (n > 0)
        message_gained(m, (uint32_t)n);
    return 0;
}

/* Segments of an opened record: true when each stands where its header says. */
static bool segments_put(struct smt_assembly *a, struct message *m, struct record *r,
                         const uint8_t *plain)
{
    for (uint32_t i = 0; i < r->shape.n_segments; i++) {
        struct smt_smt1_segment s;
        uint32_t at, len, plain_at;
        smt_smt1_segment_at(&a->geom, &r->shape, i, &at, &len, &plain_at);
        smt_smt1_segment_decode(plain + plain_at, &s);
        if (s.offset != r->offset + at || s.len != len)
            return false;
        bool cut;
        if (bytes_put(m->m.data + s.offset, m->seen + s.offset,
                      plain + plain_at + SMT_SMT1_SEGMENT_LEN, len, &cut) != len)
            return false;
    }
    return true;
}

/* A record whose bytes are all there. */
static int record_open(struct smt_assembly *a, struct message *m, struct record *r, char *fault,
                       size_t fault_len)
{
    r->is_done = true;
    m->m.n_records++;
    uint64_t no = smt_get_be64(r->bytes + 5);
    r->k = (uint32_t)(no & 0xffff);
    if (no != smt_smt1_record_no(m->m.id, r->k)) {
        snprintf(fault, fault_len, "record number 0x%016" PRIx64 " is not of this RPC", no);
        return 0;
    }
    for (const struct record *o = m->records; o != NULL; o = o->next) {
        if (o != r && o->is_done && (o->offset < r->offset) != (o->k < r->k)) {
            snprintf(fault, fault_len, "record %u at offset %u: records are not in order", r->k,
                     r->offset);
            return 0;
        }
    }
    if (m->m.is_opaque) {
        message_gained(m, r->shape.data_len);
        return 0;
    }
    if (message_room(a, m, r->offset + r->shape.data_len) < 0)
        return SMT_ENOMEM;
    unsigned side = m->m.id & 1;
    const struct smt_inspect_key *key = side ? &a->config.server : &a->config.client;
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, key->salt, no);
    smt_record_aad(aad, no, r->shape.plain_len);
    uint8_t *body = r->bytes + SMT_RECORD_HEAD_LEN;
    struct smt_aead_out to = {body, r->shape.plain_len};
    if (a->aead->open(a->ctx[side], nonce, aad, sizeof(aad), body, r->shape.plain_len, &to, 1,
                      body + r->shape.plain_len) < 0)
        snprintf(fault, fault_len, "record %u at offset %u does not open with this key", r->k,
                 r->offset);
    else if (!segments_put(a, m, r, body))
        snprintf(fault, fault_len, "record %u at offset %u: sealed segment headers do not fit",
                 r->k, r->offset);
    else
        message_gained(m, r->shape.data_len);
    r->got = r->shape.record_len;
    return 0;
}

static struct record *record_get(struct message *m, uint32_t offset)
{
    struct record **at = &m->records;
    while (*at != NULL && (*at)->offset < offset)
        at = &(*at)->next;
    if (*at != NULL && (*at)->offset == offset)
        return *at;
    struct record *r = smt_mem_alloc(sizeof(*r));
    if (r == NULL)
        return NULL;
    r->offset = offset;
    r->next = *at;
    *at = r;
    return r;
}

/* Bytes seen below `end`. */
static uint32_t bytes_within(const struct record *r, uint32_t end)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->cap && i < end; i++)
        n += r->seen[i];
    return n;
}

static int slice_put(struct smt_assembly *a, struct message *m, const struct smt_homa_pkt *p,
                     uint32_t number, char *fault, size_t fault_len)
{
    const struct smt_smt1_geom *g = &a->geom;
    uint64_t start = (uint64_t)number * g->slice_len, end = start + p->payload_len;
    if (p->payload_len > g->slice_len || end > SMT_SMT1_MAX_RECORD) {
        snprintf(fault, fault_len, "a slice of %u bytes, number %u: not of MTU %u", p->payload_len,
                 number, a->config.mtu);
        return 0;
    }
    struct record *r = record_get(m, p->offset);
    if (r == NULL || room_make(a, &r->bytes, &r->seen, &r->cap, (uint32_t)end) < 0)
        return SMT_ENOMEM;
    if (r->is_done)
        return 0;
    if (number == 0 && r->shape.n_packets == 0 &&
        (p->payload_len < SMT_RECORD_HEAD_LEN ||
         smt_smt1_record_decode(g, m->m.len, p->offset, p->payload, &r->shape) < 0)) {
        r->shape.n_packets = 0;
        snprintf(fault, fault_len, "no record of a message of %u bytes begins so at MTU %u",
                 m->m.len, a->config.mtu);
        return 0;
    }
    if (r->shape.n_packets != 0 && (number >= r->shape.n_packets ||
                                    p->payload_len != smt_smt1_slice_len(g, &r->shape, number))) {
        snprintf(fault, fault_len, "a slice of %u bytes, number %u, of a record of %u bytes",
                 p->payload_len, number, r->shape.record_len);
        return 0;
    }
    if (r->shape.n_packets != 0 && r->got > bytes_within(r, r->shape.record_len)) {
        snprintf(fault, fault_len, "the record has %u bytes, earlier packets reach beyond them",
                 r->shape.record_len);
        return 0;
    }
    bool cut;
    int64_t n = bytes_put(r->bytes + start, r->seen + start, p->payload, p->payload_len, &cut);
    if (n < 0)
        snprintf(fault, fault_len, "its bytes differ from those of an earlier packet");
    else
        r->got += (uint32_t)n;
    if (n > 0 && r->shape.n_packets != 0 && r->got >= r->shape.record_len)
        return record_open(a, m, r, fault, fault_len);
    return 0;
}

int smt_assembly_data(struct smt_assembly *a, const struct smt_cap_packet *packet,
                      const struct smt_homa_pkt *p, char *fault, size_t fault_len)
{
    struct smt_addr from = packet->from, to = packet->to;
    from.port = p->sport;
    to.port = p->dport;
    struct message *m = find(a, &from, &to, p->sender_id);
    if (m == NULL)
        m = message_new(a, packet, p, &from, &to);
    if (m == NULL)
        return SMT_ENOMEM;
    m->m.n_packets++;
    m->m.n_again += p->retransmit;
    if (p->message_len != m->m.len) {
        snprintf(fault, fault_len, "a message of %u bytes; packet %" PRIu64 " said %u",
                 p->message_len, m->m.first_packet, m->m.len);
        return 0;
    }
    if (!a->config.format->records)
        return plain_put(a, m, p, fault, fault_len);
    return slice_put(a, m, p, (uint16_t)(packet->ip_id + p->index), fault, fault_len);
}
