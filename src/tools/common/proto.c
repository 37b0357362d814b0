/* Layout: magic (8), version, then fields in the order of the structs, big-endian, 4 or 8 bytes
 * each; text zero-padded; zeros to the full length. Test messages are pattern_fill()ed, never
 * the magic. */
#include "proto.h"

#include <assert.h>
#include <string.h>

#include <smt/smt.h>

const uint64_t proto_resp_seed = UINT64_C(0x5245535053454544);

static const uint8_t magic[8] = {'S', 'M', 'T', 't', 'o', 'o', 'l', 0xc5};

struct cursor {
    uint8_t *at;
    size_t left;
};

static void put_u64(struct cursor *c, uint64_t value, size_t len)
{
    assert(c->left >= len);
    for (size_t i = 0; i < len; i++) {
        c->at[i] = (uint8_t)(value >> (8 * (len - 1 - i)));
    }
    c->at += len;
    c->left -= len;
}

static void put_text(struct cursor *c, const char *text, size_t len)
{
    assert(c->left >= len);
    size_t n = strnlen(text, len - 1);
    memcpy(c->at, text, n);
    memset(c->at + n, 0, len - n);
    c->at += len;
    c->left -= len;
}

static uint64_t get_u64(struct cursor *c, size_t len)
{
    assert(c->left >= len);
    uint64_t value = 0;
    for (size_t i = 0; i < len; i++) {
        value = value << 8 | c->at[i];
    }
    c->at += len;
    c->left -= len;
    return value;
}

static void get_text(struct cursor *c, char *text, size_t len)
{
    assert(c->left >= len);
    memcpy(text, c->at, len);
    text[len - 1] = '\0';
    for (char *p = text; *p != '\0'; p++) {
        *p = *p < 0x20 || *p > 0x7e ? '?' : *p;
    }
    c->at += len;
    c->left -= len;
}

static void put_magic(struct cursor *c, uint32_t version)
{
    memcpy(c->at, magic, sizeof(magic));
    c->at += sizeof(magic);
    c->left -= sizeof(magic);
    put_u64(c, version, 4);
}

void proto_put_req(const struct proto_req *req, uint8_t out[PROTO_REQ_LEN])
{
    struct cursor c = {.at = out, .left = PROTO_REQ_LEN};
    put_magic(&c, req->version);
    put_u64(&c, req->op, 4);
    put_u64(&c, req->flags, 4);
    put_text(&c, req->tool, sizeof(req->tool));
    put_u64(&c, req->size, 8);
    put_u64(&c, req->resp_size, 8);
    put_u64(&c, req->depth, 4);
    put_u64(&c, req->threads, 4);
    put_u64(&c, req->sessions, 4);
    put_u64(&c, req->iterations, 8);
    put_u64(&c, req->duration_ns, 8);
    put_u64(&c, req->seed, 8);
    memset(c.at, 0, c.left);
}

bool proto_is_req(const void *data, size_t len)
{
    return len == PROTO_REQ_LEN && memcmp(data, magic, sizeof(magic)) == 0;
}

int proto_get_req(const void *data, size_t len, struct proto_req *req)
{
    if (!proto_is_req(data, len)) {
        return -1;
    }
    uint8_t copy[PROTO_REQ_LEN];
    memcpy(copy, data, sizeof(copy));
    struct cursor c = {.at = copy + sizeof(magic), .left = sizeof(copy) - sizeof(magic)};
    *req = (struct proto_req){.version = (uint32_t)get_u64(&c, 4)};
    if (req->version != PROTO_VERSION) {
        return 0;
    }
    req->op = (enum proto_op)get_u64(&c, 4);
    req->flags = (uint32_t)get_u64(&c, 4);
    get_text(&c, req->tool, sizeof(req->tool));
    req->size = get_u64(&c, 8);
    req->resp_size = get_u64(&c, 8);
    req->depth = (uint32_t)get_u64(&c, 4);
    req->threads = (uint32_t)get_u64(&c, 4);
    req->sessions = (uint32_t)get_u64(&c, 4);
    req->iterations = get_u64(&c, 8);
    req->duration_ns = get_u64(&c, 8);
    req->seed = get_u64(&c, 8);
    bool known = req->op >= PROTO_HELLO && req->op <= PROTO_BYE;
    return known && req->size <= SMT_MAX_MSG_LEN && req->resp_size <= SMT_MAX_MSG_LEN ? 0 : -1;
}

void proto_put_resp(const struct proto_resp *resp, uint8_t out[PROTO_RESP_LEN])
{
    struct cursor c = {.at = out, .left = PROTO_RESP_LEN};
    put_magic(&c, resp->version);
    put_u64(&c, resp->status, 4);
    put_u64(&c, resp->received, 8);
    put_u64(&c, resp->bytes, 8);
    put_u64(&c, resp->wrong, 8);
    put_u64(&c, resp->n_ports, 4);
    for (unsigned i = 0; i < PROTO_MAX_PORTS; i++) {
        put_u64(&c, resp->ports[i], 2);
    }
    put_text(&c, resp->tool_version, sizeof(resp->tool_version));
    put_text(&c, resp->text, sizeof(resp->text));
    put_u64(&c, resp->cpu_ns, 8);
    memset(c.at, 0, c.left);
}

int proto_get_resp(const void *data, size_t len, struct proto_resp *resp)
{
    if (len != PROTO_RESP_LEN || memcmp(data, magic, sizeof(magic)) != 0) {
        return -1;
    }
    uint8_t copy[PROTO_RESP_LEN];
    memcpy(copy, data, sizeof(copy));
    struct cursor c = {.at = copy + sizeof(magic), .left = sizeof(copy) - sizeof(magic)};
    resp->version = (uint32_t)get_u64(&c, 4);
    resp->status = (enum proto_status)get_u64(&c, 4);
    resp->received = get_u64(&c, 8);
    resp->bytes = get_u64(&c, 8);
    resp->wrong = get_u64(&c, 8);
    resp->n_ports = (unsigned)get_u64(&c, 4);
    for (unsigned i = 0; i < PROTO_MAX_PORTS; i++) {
        resp->ports[i] = (uint16_t)get_u64(&c, 2);
    }
    get_text(&c, resp->tool_version, sizeof(resp->tool_version));
    get_text(&c, resp->text, sizeof(resp->text));
    resp->cpu_ns = get_u64(&c, 8);
    return resp->n_ports <= PROTO_MAX_PORTS ? 0 : -1;
}
