/* The engine against a peer that holds valid keys: the input is a run of steps, and what it says of
 * a packet is there *before* the packet is sealed, so that it comes in behind the tag. The first
 * byte chooses the roles and limits, then each step has a byte:
 *   0  CTRL: u8 length, plaintext
 *   1  DATA with any plaintext: header fields, u8 length, plaintext
 *   2  DATA as an honest peer makes it, fields from the input
 *   3  a packet as it lies there, no key: u8 length, bytes (ports and session id made to fit)
 *   4  time: u8 exponent
 *   5  the engine's user: what to do with what came
 *   6  the engine's user: a call or message, u16 length
 *   7  the last packet again, one byte changed
 * where slices are taken, 1 and 2 from 0x20 on in slices: u8 slice length, u8 which one is left out
 * or given twice, u8 one of their bytes to change, u8 how many come at once
 * and with early data, at a responder that has not heard the last word of the handshake,
 *   from 0x80  EARLY with any plaintext, as 1; some of them come before the keys are there
 *   from 0x40  the last word comes
 * Whatever comes: no crash, no assertion, no leak, no more memory than the limits allow. */
#include "fuzz.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/state.h"
#include "hand.h"

enum { MAX_STEPS = 64, MAX_HELD = 8, MAX_BYTES = 100u << 20 };

struct input {
    const uint8_t *p;
    size_t len;
};

struct run {
    struct hand *h;
    struct input in;
    struct smt_rpc *requests[MAX_HELD];
    unsigned n_requests;
    uint32_t next_seal;
    uint8_t last[HAND_MTU];
    size_t last_len;
};

static uint8_t lent[65536];

static uint64_t take(struct run *x, unsigned n)
{
    uint64_t v = 0;
    for (; n > 0; n--) {
        v = v << 8 | (x->in.len > 0 ? *x->in.p : 0);
        x->in.p += x->in.len > 0;
        x->in.len -= x->in.len > 0;
    }
    return v;
}

static size_t take_bytes(struct run *x, uint8_t *out, size_t cap)
{
    size_t len = take(x, 1) * 4;
    if (len > cap)
        len = cap;
    if (len > x->in.len)
        len = x->in.len;
    memcpy(out, x->in.p, len);
    x->in.p += len;
    x->in.len -= len;
    return len;
}

/* Small numbers mostly, all of them sometimes. */
static uint32_t take_number(struct run *x)
{
    uint8_t how = (uint8_t)take(x, 1);
    if (how < 128)
        return how;
    return (uint32_t)(how < 192 ? take(x, 2) : take(x, 4));
}

static uint64_t take_id(struct run *x)
{
    uint8_t how = (uint8_t)take(x, 1);
    uint64_t id = how & 0x1f;
    if (how & 0x20)
        id |= take(x, 8) & SMT_ID_MASK;
    return id | (how & 0x80 ? SMT_ID_ROLE : 0);
}

static void give(struct run *x, const uint8_t *pkt, size_t len)
{
    memcpy(x->last, pkt, len);
    x->last_len = len;
    hand_rx(x->h, pkt, len);
}

static size_t seal(void *ctx, const uint8_t salt[SMT_SALT_LEN], uint64_t no, const uint8_t *plain,
                   size_t len, uint8_t *out)
{
    uint8_t nonce[12], aad[SMT_AAD_LEN];
    smt_record_head_encode(out, no, len);
    smt_record_nonce(nonce, salt, no);
    smt_record_aad(aad, no, len);
    const struct smt_aead_in in = {plain, len};
    uint8_t *text = out + SMT_RECORD_HEAD_LEN;
    FUZZ_CHECK(fast_aead()->seal(ctx, nonce, aad, sizeof(aad), &in, 1, text, text + len) == 0);
    return len + SMT_RECORD_OVERHEAD;
}

/* A packet of one whole record as slices. */
static void give_slices(struct run *x, const uint8_t *pkt)
{
    struct hand_bytes all[SMT_MAX_SLICES + 1];
    uint32_t record_len = smt_get_be16(pkt + 40);
    uint32_t len = 1 + (uint32_t)take(x, 1) * 8;
    if (len * SMT_MAX_SLICES < record_len)
        len = record_len / SMT_MAX_SLICES + 1;
    unsigned n = hand_slices(pkt, len, all, SMT_MAX_SLICES);
    unsigned which = (unsigned)take(x, 1), change = (unsigned)take(x, 1);
    unsigned at_once = 1 + (unsigned)take(x, 1) % 32;
    if (which % 4 == 1) {
        all[n] = all[which / 4 % n];
        n++;
    } else if (which % 4 == 2) {
        all[which / 4 % n] = all[n - 1];
        n--;
    } else if (which % 4 == 3) {
        struct hand_bytes *b = &all[which / 4 % n];
        b->bytes[change % b->len] ^= 1 + change % 7;
    }
    for (unsigned i = 0; i < n; i += at_once)
        hand_rx_many(x->h, all + i, n - i < at_once ? n - i : at_once);
}

/* DATA, or EARLY: the same under another key, for the hand's own id. Before there are keys any
 * record will do. */
static void step_data(struct run *x, bool is_early, bool in_slices)
{
    struct hand *h = x->h;
    uint8_t pkt[HAND_MTU], plain[1024];
    struct smt_hdr hdr = {.sport = h->addr.port,
                          .dport = h->config.port,
                          .kind = is_early ? SMT_KIND_EARLY : SMT_KIND_DATA,
                          .epoch = is_early ? 0 : 1,
                          .session_id = is_early ? h->id : smt_conn_id(h->conn),
                          .rpc_id = take_id(x)};
    hdr.offset = take_number(x);
    hdr.message_len = take_number(x);
    hdr.seal = x->next_seal++;
    size_t len = take_bytes(x, plain, sizeof(plain));
    hdr.record_len = hdr.slice_len = (uint16_t)(len + SMT_RECORD_OVERHEAD);
    size_t at = smt_hdr_encode(&hdr, pkt);
    uint64_t no = smt_data_record_no(hdr.rpc_id, hdr.seal);
    if (is_early && h->early_ctx == NULL)
        smt_record_head_encode(pkt + at, no, len);
    else
        seal(is_early ? h->early_ctx : h->ctx[0], is_early ? h->early_salt : h->salt[0], no, plain,
             len, pkt + at);
    if (in_slices)
        give_slices(x, pkt);
    else
        give(x, pkt, at + hdr.record_len);
}

static void step_honest(struct run *x, bool in_slices)
{
    uint8_t pkt[HAND_MTU];
    struct hand_data d = {.what = (enum smt_what)take(x, 1), .id = take_id(x)};
    d.offset = take_number(x);
    d.message_len = take_number(x);
    d.unsched = take_number(x);
    d.len = (uint32_t)take(x, 1) * 4;
    d.flags = (uint8_t)take(x, 1);
    d.low_water = take(x, 1);
    d.done = take(x, 1);
    d.seal = 1000 + x->next_seal++;
    if (d.offset > d.message_len)
        d.offset %= d.message_len + 1;
    if (d.len > d.message_len - d.offset)
        d.len = d.message_len - d.offset;
    size_t len = hand_data_encode(x->h, d, pkt);
    if (in_slices)
        give_slices(x, pkt);
    else
        give(x, pkt, len);
}

static void step_raw(struct run *x)
{
    struct hand *h = x->h;
    uint8_t pkt[1024] = {0};
    size_t len = take_bytes(x, pkt, sizeof(pkt));
    if (len >= SMT_MIN_HDR_LEN) {
        smt_put_be16(pkt, h->addr.port);
        smt_put_be16(pkt + 2, h->config.port);
        if (pkt[20] == 0)
            smt_put_be64(pkt + 20, smt_conn_id(h->conn));
    }
    give(x, pkt, len);
}

static void step_again(struct run *x)
{
    uint8_t pkt[HAND_MTU];
    size_t at = take(x, 2);
    uint8_t change = (uint8_t)take(x, 1);
    memcpy(pkt, x->last, x->last_len);
    if (x->last_len > 0)
        pkt[at % x->last_len] ^= change;
    give(x, pkt, x->last_len);
}

/* Everything but requests is dealt with at once. */
static void events(struct run *x)
{
    struct hand *h = x->h;
    for (unsigned i = 0; i < h->n_events; i++) {
        const struct smt_engine_event *ev = &h->events[i];
        if (ev->type == SMT_EE_INCOMING) {
            bool small = ev->len <= 1 << 16;
            int rc = small ? smt_rpc_accept(ev->rpc, NULL, 0) : smt_rpc_reject(ev->rpc);
            if (rc == SMT_ENOMEM)
                rc = smt_rpc_reject(ev->rpc);
            FUZZ_CHECK(rc == 0 || rc == SMT_ECLOSED || rc == SMT_ESTATE);
        }
        if (ev->rpc == NULL || (ev->type != SMT_EE_REQUEST && ev->type != SMT_EE_MESSAGE &&
                                ev->type != SMT_EE_RESPONSE))
            continue;
        volatile uint8_t sum = 0;
        for (size_t k = 0; k < ev->len; k += 61)
            sum += ((const uint8_t *)ev->data)[k];
        (void)sum;
        smt_rpc_release(ev->rpc);
        if (ev->type != SMT_EE_REQUEST)
            continue;
        if (x->n_requests == MAX_HELD)
            FUZZ_CHECK(smt_rpc_reject(x->requests[--x->n_requests]) == 0);
        x->requests[x->n_requests++] = ev->rpc;
    }
    hand_clear(h);
}

static void step_user(struct run *x)
{
    uint8_t what = (uint8_t)take(x, 1);
    if (what < 16 && x->h->conn != NULL) {
        int rc = smt_conn_cancel(x->h->conn, what);
        FUZZ_CHECK(rc == 0 || rc == SMT_EINVAL);
    } else if (x->n_requests > 0) {
        struct smt_rpc *r = x->requests[--x->n_requests];
        struct smt_post_iov iov = {lent, (size_t)what * 64};
        int rc = what % 4 == 0 ? smt_rpc_reject(r) : smt_rpc_reply(r, &iov, 1, x);
        FUZZ_CHECK(rc == 0 || rc == SMT_EMSGSIZE);
        if (rc == SMT_EMSGSIZE)
            FUZZ_CHECK(smt_rpc_reject(r) == 0);
    }
    hand_run(x->h);
}

static void step_post(struct run *x)
{
    uint32_t len = (uint32_t)take(x, 2);
    struct smt_post_iov iov = {lent, len};
    const struct smt_post post = {.iov = &iov, .n_iov = 1, .one_way = len % 3 == 0};
    int rc = smt_conn_post(x->h->conn, &post, NULL);
    FUZZ_CHECK(rc == 0 || rc == SMT_EAGAIN || rc == SMT_EMSGSIZE);
    hand_run(x->h);
}

static void steps_before_keys(void *arg)
{
    struct run *x = arg;
    for (unsigned n = (unsigned)take(x, 1) % 16; n > 0; n--)
        step_data(x, true, false);
}

static void step(struct run *x)
{
    uint8_t plain[1020], what = (uint8_t)take(x, 1);
    size_t len;
    if (x->h->config.early && (what & 0x80) != 0) {
        step_data(x, true, false);
        return;
    }
    if (x->h->config.early && (what & 0x40) != 0) {
        smt_conn_confirm(x->h->conn, x->h->now);
        hand_run(x->h);
        return;
    }
    bool in_slices = x->h->config.slices && (what & 0x20) != 0;
    switch (what % 8) {
    case 0:
        len = take_bytes(x, plain, sizeof(plain));
        hand_ctrl(x->h, plain, len);
        break;
    case 1:
        step_data(x, false, in_slices);
        break;
    case 2:
        step_honest(x, in_slices);
        break;
    case 3:
        step_raw(x);
        break;
    case 4:
        hand_sleep(x->h, 1ull << (take(x, 1) % 32));
        break;
    case 5:
        step_user(x);
        break;
    case 6:
        step_post(x);
        break;
    default:
        step_again(x);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run x;
    memset(&x, 0, sizeof(x));
    x.in = (struct input){data, size};
    uint8_t kind = (uint8_t)take(&x, 1);
    x.h = hand_new(kind & 1);
    struct hand *h = x.h;
    h->config.max_conn_bytes = 1 << 20;
    h->config.max_bytes = 1 << 21;
    h->config.accept_len = kind & 2 ? 1000 : 100000;
    h->config.max_open_rpcs = 20;
    h->config.cached_keys = 1;
    h->config.bursts = (kind & 8) != 0;
    h->config.slices = (kind & 32) != 0;
    h->config.early = (kind & 16) != 0 && (kind & 1) != 0;
    h->before_keys = steps_before_keys;
    h->arg = &x;
    hand_connect(h);
    h->polite = (kind & 4) != 0;
    for (unsigned i = 0; i < MAX_STEPS && x.in.len > 0 && h->conn != NULL; i++) {
        step(&x);
        events(&x);
        FUZZ_CHECK(smt_engine_memory(h->e) < MAX_BYTES);
        FUZZ_CHECK(h->e->memory.held <= (1 << 21) + (1 << 20));
    }
    hand_free(h);
    return 0;
}
