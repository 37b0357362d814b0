/* Captures of real kernels, one side at a time, into the engine in place of the other side.
 *
 * As server it is given the client's packets at the times they were sent, and echoes the requests:
 * the messages it sends must be the captured responses. As client it calls with the captured
 * requests, its ids made the captured ones, and is given the server's packets: its events must be
 * the captured responses. Whatever the engine sends is held to the rules of its profile.
 *
 * usage: test_replay DATA_DIR */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/engine.h"
#include "core/profile.h"
#include "pcap/inspect.h"

enum { MTU = 1500, IP_LEN = 20, MAX_SENT = 512, MAX_ENDS = 8, AFTER_MS = 50 };

static const char *data_dir;

static const struct row {
    const char *file, *profile;
    const struct smt_homa_format *format;
    unsigned n_calls;
} rows[] = {
    {"homa61_64B", "homa-6.1", &smt_homa_6_1, 2},
    {"homa61_1500B", "homa-6.1", &smt_homa_6_1, 2},
    {"homa61_20KB", "homa-6.1", &smt_homa_6_1, 2},
    {"homa61_loss10_mtu1500", "homa-6.1", &smt_homa_6_1, 6},
    {"homamain_64B", "homa-main", &smt_homa_main, 2},
    {"homamain_1500B", "homa-main", &smt_homa_main, 2},
    {"homamain_20KB", "homa-main", &smt_homa_main, 2},
    {"smt_64B", "smt1", &smt_homa_smt1, 3},
    {"smt_1024B", "smt1", &smt_homa_smt1, 3},
    {"smt_16KB", "smt1", &smt_homa_smt1, 3},
};

static struct smt_record_keys keys = {
    .end = {{.key = {0x8d, 0xd2, 0x30, 0xa7, 0x7a, 0x05, 0xeb, 0x71, 0x15, 0x91, 0x29, 0xbc, 0xbc,
                     0xf6, 0x42, 0x30},
             .salt = {0x87, 0xc6, 0x35, 0xc8}},
            {.key = {0x6c, 0xcf, 0x62, 0xff, 0x4b, 0xe6, 0x14, 0x85, 0xd8, 0xba, 0x29, 0xfe, 0x2e,
                     0x84, 0x7a, 0x7f},
             .salt = {0xb9, 0xfa, 0x55, 0x83}}},
};

/* What the engine reserved in one turn. */
struct sent {
    uint8_t bytes[MTU];
    uint32_t len;
    struct smt_addr to;
};

/* An engine in the place of one end. */
struct end {
    struct smt_engine *engine;
    const struct smt_homa_format *format;
    struct smt_addr self; /* with its port */
    struct smt_tx_sink sink;
    struct sent sent[MAX_SENT];
    unsigned n_sent;
    struct smt_inspect *ours;   /* what we sent */
    struct smt_inspect *theirs; /* the whole capture */
    uint64_t first_number;      /* of our ids, as `random` gives it */
    uint64_t n_drawn;
    unsigned n_requests, n_responses, n_calls;
    uint64_t now, n_out;
};

static struct smt_inspect *inspect_new(const struct row *row)
{
    struct smt_inspect_config config = {.format = row->format, .mtu = MTU};
    memcpy(config.client.key, keys.end[0].key, 16);
    memcpy(config.client.salt, keys.end[0].salt, 4);
    memcpy(config.server.key, keys.end[1].key, 16);
    memcpy(config.server.salt, keys.end[1].salt, 4);
    config.client.is_set = config.server.is_set = true;
    struct smt_inspect *in;
    assert_int_equal(smt_inspect_new(&config, &in), 0);
    return in;
}

static void open_capture(const struct row *row, struct smt_capture *c)
{
    char path[512], text[512] = "";
    snprintf(path, sizeof(path), "%s/%s.pcap", data_dir, row->file);
    if (smt_capture_open(c, path, text, sizeof(text)) != 0)
        fail_msg("%s", text);
}

static const struct smt_inspect_message *message_find(const struct smt_inspect *in,
                                                      const struct smt_inspect_message *like)
{
    const struct smt_inspect_message *m = smt_inspect_messages(in);
    while (m != NULL && (m->id != like->id || !smt_addr_equal(&m->from, &like->from) ||
                         !smt_addr_equal(&m->to, &like->to)))
        m = m->next;
    return m;
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct end *e = arg;
    assert_in_range(len, 1, MTU - IP_LEN);
    assert_in_range(prio, 0, 7);
    if (e->n_sent == MAX_SENT)
        return NULL;
    struct sent *s = &e->sent[e->n_sent++];
    s->len = (uint32_t)len;
    s->to = *to;
    return s->bytes;
}

static void sink_unreserve(void *arg)
{
    ((struct end *)arg)->n_sent--;
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    (void)arg;
    (void)to;
    return MTU - IP_LEN;
}

/* No two alike, and all the same in the bits that the kernel's profiles begin their ids with. */
static void numbers(void *arg, void *out, size_t len)
{
    struct end *e = arg;
    uint64_t word = e->first_number | ++e->n_drawn << 47;
    memset(out, 0, len);
    memcpy(out, &word, len < 8 ? len : 8);
}

static void end_open(struct end *e, const struct row *row, const struct smt_addr *self, bool accept,
                     uint64_t first_number, struct smt_inspect *theirs)
{
    *e = (struct end){
        .format = row->format, .self = *self, .theirs = theirs, .first_number = first_number};
    e->sink = (struct smt_tx_sink){e, sink_reserve, sink_unreserve, sink_mtu};
    e->ours = inspect_new(row);
    keys.aead = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    struct smt_engine_config config;
    smt_engine_config_init(&config);
    config.profile = smt_profile_find(row->profile);
    assert_non_null(config.profile);
    config.record_keys = &keys;
    config.port = self->port;
    config.accept = accept;
    config.seed = 1;
    config.peer_timeout = config.idle_timeout = 3600 * SMT_SEC; /* emulated machines are slow */
    /* The kernel's SMT rounds what needs no grant up to whole records, so its capture has none. */
    if (row->format->records)
        config.tune.unsched_first = 2 * 8491;
    config.random = numbers;
    config.random_arg = e;
    e->now = SMT_SEC;
    assert_int_equal(smt_engine_new(&config, e->now, &e->engine), 0);
}

static void end_close(struct end *e)
{
    smt_engine_free(e->engine);
    smt_inspect_free(e->ours);
}

/* What it sent goes to the inspector, which knows the rules. */
static void sent_look(struct end *e)
{
    for (unsigned i = 0; i < e->n_sent; i++) {
        struct smt_inspect_line line;
        struct smt_cap_packet p = {.number = ++e->n_out,
                                   .kind = SMT_CAP_IP,
                                   .from = e->self,
                                   .to = e->sent[i].to,
                                   .protocol = e->format->ip_protocol,
                                   .dont_fragment = true,
                                   .data = e->sent[i].bytes,
                                   .len = e->sent[i].len};
        p.from.port = p.to.port = 0;
        assert_int_equal(smt_inspect_packet(e->ours, &p, &line), 0);
        if (line.fault[0] != '\0')
            fail_msg("we sent %s: %s", line.text, line.fault);
        assert_true(line.is_ours);
    }
    e->n_sent = 0;
}

/* The captured message of this event, which must be its bytes. */
static const struct smt_inspect_message *captured(const struct end *e,
                                                  const struct smt_engine_event *ev, bool request)
{
    const struct smt_addr *peer = smt_conn_addr(ev->conn);
    const struct smt_inspect_message *m = smt_inspect_messages(e->theirs);
    for (; m != NULL; m = m->next) {
        if ((m->id & 1) == !request && smt_addr_equal(&m->from, peer) &&
            smt_addr_equal(&m->to, &e->self) && m->len == ev->len &&
            memcmp(m->data, ev->data, ev->len) == 0)
            return m;
    }
    fail_msg("%zu bytes that nobody sent", ev->len);
    return NULL;
}

static void events_take(struct end *e)
{
    struct smt_engine_event ev;
    while (smt_engine_next_event(e->engine, &ev)) {
        switch (ev.type) {
        case SMT_EE_REQUEST: {
            const struct smt_inspect_message *m = captured(e, &ev, true);
            struct smt_post_iov iov = {m->data, m->len};
            e->n_requests++;
            assert_int_equal(smt_rpc_reply(ev.rpc, &iov, 1, NULL), 0);
            smt_rpc_release(ev.rpc);
            break;
        }
        case SMT_EE_RESPONSE:
            captured(e, &ev, false);
            e->n_responses++;
            smt_rpc_release(ev.rpc);
            break;
        case SMT_EE_FAILED:
            fail_msg("%s failed: %d at %lu ms", ev.id != 0 ? "a call" : "a reply", ev.error,
                     (unsigned long)(e->now / SMT_MSEC));
            break;
        default:
            break;
        }
    }
}

static void turn(struct end *e)
{
    smt_engine_tick(e->engine, e->now);
    do {
        events_take(e);
        smt_engine_tx(e->engine, e->now, &e->sink);
        sent_look(e);
    } while (smt_engine_has_event(e->engine));
}

/* Lets time pass until `then`, with whatever timers do in it. */
static void wait_until(struct end *e, uint64_t then)
{
    uint64_t deadline;
    while ((deadline = smt_engine_deadline(e->engine)) < then) {
        e->now = deadline > e->now ? deadline : e->now + SMT_USEC;
        turn(e);
    }
    e->now = then > e->now ? then : e->now;
    turn(e);
}

/* Gives the end what the others sent to it, at the times of the capture. */
static void replay(struct end *e, const struct row *row)
{
    struct smt_capture c;
    struct smt_cap_packet p;
    uint64_t first = 0, start = e->now;
    open_capture(row, &c);
    turn(e);
    while (smt_capture_next(&c, &p) > 0) {
        if (first == 0)
            first = p.time_ns;
        struct smt_addr self = e->self;
        self.port = 0;
        if (p.kind != SMT_CAP_IP || p.protocol != row->format->ip_protocol ||
            !smt_addr_equal(&p.to, &self) || smt_get_be16(p.data + 2) != e->self.port)
            continue;
        wait_until(e, start + (p.time_ns - first));
        struct smt_addr from = p.from;
        from.port = smt_get_be16(p.data);
        struct smt_pkt pkt = {.data = p.data, .len = p.len, .ip_id = p.ip_id, .from = &from};
        smt_engine_rx(e->engine, e->now, &pkt, 1);
        turn(e);
    }
    wait_until(e, e->now + AFTER_MS * SMT_MSEC);
    smt_capture_close(&c);
}

static struct smt_inspect *inspect_all(const struct row *row)
{
    struct smt_inspect *in = inspect_new(row);
    struct smt_capture c;
    struct smt_cap_packet p;
    struct smt_inspect_line line;
    open_capture(row, &c);
    while (smt_capture_next(&c, &p) > 0)
        assert_int_equal(smt_inspect_packet(in, &p, &line), 0);
    smt_capture_close(&c);
    return in;
}

/* Every message of the capture that `e` stands for was sent by it, byte for byte. */
static void same_messages(const struct end *e, bool requests)
{
    const struct smt_inspect_message *m = smt_inspect_messages(e->theirs);
    for (; m != NULL; m = m->next) {
        if ((m->id & 1) != !requests || !smt_addr_equal(&m->from, &e->self))
            continue;
        const struct smt_inspect_message *own = message_find(e->ours, m);
        if (own == NULL || !own->is_complete)
            fail_msg("message %lu was not sent whole", (unsigned long)m->id);
        assert_memory_equal(own->sha, m->sha, sizeof(m->sha));
    }
}

static void as_server(void **state)
{
    static struct end e;
    for (size_t i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_inspect *all = inspect_all(&rows[i]);
        end_open(&e, &rows[i], &smt_inspect_messages(all)->to, true, 1, all);
        replay(&e, &rows[i]);
        assert_int_equal(e.n_requests, rows[i].n_calls);
        same_messages(&e, false);
        end_close(&e);
        smt_inspect_free(all);
    }
}

/* One engine for each of the client's ports; its calls in order, and their ids with them. */
static unsigned client_run(const struct row *row, struct smt_inspect *all,
                           const struct smt_inspect_message *first)
{
    static struct end e;
    struct smt_conn *conn;
    end_open(&e, row, &first->from, false, first->id / 2 - 1, all);
    assert_int_equal(smt_conn_open(e.engine, e.now, &first->to, &conn), 0);
    for (const struct smt_inspect_message *m = first; m != NULL; m = m->next) {
        if (m->id & 1 || !smt_addr_equal(&m->from, &first->from))
            continue;
        struct smt_post_iov iov = {m->data, m->len};
        assert_int_equal(smt_conn_post(conn, &(struct smt_post){.iov = &iov, .n_iov = 1}, NULL), 0);
        e.n_calls++;
    }
    replay(&e, row);
    assert_int_equal(e.n_responses, e.n_calls);
    same_messages(&e, true);
    unsigned n = e.n_calls;
    end_close(&e);
    return n;
}

static void as_client(void **state)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_inspect *all = inspect_all(&rows[i]);
        unsigned n = 0;
        for (const struct smt_inspect_message *m = smt_inspect_messages(all); m != NULL;
             m = m->next) {
            const struct smt_inspect_message *f = smt_inspect_messages(all);
            while (f->id & 1 || !smt_addr_equal(&f->from, &m->from)) {
                f = f->next;
                if (f == NULL)
                    break;
            }
            if (f == m)
                n += client_run(&rows[i], all, m);
        }
        assert_int_equal(n, rows[i].n_calls);
        smt_inspect_free(all);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_replay DATA_DIR\n");
        return 2;
    }
    data_dir = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_server),
        cmocka_unit_test(as_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
