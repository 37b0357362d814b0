/* Bytes of the messages: "SMcp", version, op, then all members in the order of struct
 * cp_request, big-endian, strings behind a 16-bit length; the data is what remains. */
#include "msg.h"

#include <string.h>

static const uint8_t magic[4] = {'S', 'M', 'c', 'p'};

enum { HAVE_HEAD = 1 + 8 + 8 + 1 + 8 };

struct writer {
    uint8_t *at;
};

struct reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static void put(struct writer *w, uint64_t value, unsigned n_bytes)
{
    for (unsigned i = n_bytes; i-- > 0;) {
        *w->at++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_string(struct writer *w, const char *s)
{
    size_t len = strlen(s);
    put(w, len, 2);
    memcpy(w->at, s, len);
    w->at += len;
}

static uint64_t get(struct reader *r, unsigned n_bytes)
{
    if (r->bad || r->left < n_bytes) {
        r->bad = true;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < n_bytes; i++) {
        value = value << 8 | r->at[i];
    }
    r->at += n_bytes;
    r->left -= n_bytes;
    return value;
}

static void get_string(struct reader *r, char *out, size_t max)
{
    size_t len = (size_t)get(r, 2);
    if (r->bad || len > max || len > r->left || memchr(r->at, '\0', len) != NULL) {
        r->bad = true;
        return;
    }
    memcpy(out, r->at, len);
    out[len] = '\0';
    r->at += len;
    r->left -= len;
}

size_t cp_put_request(const struct cp_request *request, uint8_t head[CP_HEAD_MAX])
{
    struct writer w = {.at = head};
    memcpy(w.at, magic, sizeof(magic));
    w.at += sizeof(magic);
    put(&w, CP_VERSION, 1);
    put(&w, request->op, 1);
    put_string(&w, request->path);
    put_string(&w, request->target);
    put(&w, request->meta.mode, 4);
    put(&w, (uint64_t)request->meta.mtime_s, 8);
    put(&w, request->meta.mtime_ns, 4);
    put(&w, request->id, 8);
    put(&w, request->offset, 8);
    put(&w, request->size, 8);
    put(&w, request->fresh, 1);
    memcpy(w.at, request->hash, CP_HASH_LEN);
    w.at += CP_HASH_LEN;
    return (size_t)(w.at - head);
}

int cp_get_request(const void *bytes, size_t len, struct cp_request *request)
{
    struct reader r = {.at = bytes, .left = len};
    if (len < sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0) {
        return -1;
    }
    r.at += sizeof(magic);
    r.left -= sizeof(magic);
    if (get(&r, 1) != CP_VERSION) {
        return -1;
    }
    request->op = (enum cp_op)get(&r, 1);
    get_string(&r, request->path, CP_PATH_MAX);
    get_string(&r, request->target, CP_PATH_MAX);
    request->meta.mode = (uint32_t)get(&r, 4);
    request->meta.mtime_s = (int64_t)get(&r, 8);
    request->meta.mtime_ns = (uint32_t)get(&r, 4);
    request->id = get(&r, 8);
    request->offset = get(&r, 8);
    request->size = get(&r, 8);
    request->fresh = get(&r, 1) != 0;
    if (r.bad || r.left < CP_HASH_LEN || request->meta.mtime_ns >= 1000000000 ||
        request->size > INT64_MAX || request->offset > INT64_MAX) {
        return -1;
    }
    memcpy(request->hash, r.at, CP_HASH_LEN);
    request->data = r.at + CP_HASH_LEN;
    request->data_len = r.left - CP_HASH_LEN;
    return 0;
}

size_t cp_put_error(const char *text, uint8_t *out, size_t cap)
{
    size_t len = strlen(text);
    len = len > cap - 1 ? cap - 1 : len;
    out[0] = 1;
    memcpy(out + 1, text, len);
    return len + 1;
}

size_t cp_have_size(size_t n_hashes)
{
    return HAVE_HEAD + n_hashes * CP_HASH_LEN;
}

void cp_put_have(const struct cp_have *have, uint8_t *out)
{
    struct writer w = {.at = out};
    put(&w, 0, 1);
    put(&w, have->id, 8);
    put(&w, have->len, 8);
    put(&w, have->is_final, 1);
    put(&w, have->n_hashes, 8);
    if (have->n_hashes != 0) {
        memcpy(w.at, have->hashes, have->n_hashes * CP_HASH_LEN);
    }
}

int cp_get_answer(const void *bytes, size_t len, char *text, size_t text_cap, struct cp_have *have)
{
    struct reader r = {.at = bytes, .left = len};
    uint64_t status = get(&r, 1);
    if (r.bad || status > 1) {
        return -1;
    }
    if (status == 1) {
        size_t n = r.left < text_cap - 1 ? r.left : text_cap - 1;
        for (size_t i = 0; i < n; i++) {
            text[i] = r.at[i] < 0x20 || r.at[i] == 0x7f ? '?' : (char)r.at[i];
        }
        text[n] = '\0';
        return 1;
    }
    if (have == NULL) {
        return 0;
    }
    have->id = get(&r, 8);
    have->len = get(&r, 8);
    have->is_final = get(&r, 1) != 0;
    have->n_hashes = (size_t)get(&r, 8);
    have->hashes = r.at;
    return r.bad || have->n_hashes != r.left / CP_HASH_LEN || r.left % CP_HASH_LEN != 0 ? -1 : 0;
}
