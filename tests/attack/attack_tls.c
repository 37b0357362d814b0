/* Attacks on real handshakes, by somebody who stands in the middle of two endpoints of the library:
 * damage, forged flights, alerts in clear, a hello that comes back to its sender, a recorded
 * handshake. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "checking_aead.h"
#include "hs/hs_impl.h"
#include "hs_pair.h"
#include "hs_sides.h"
#include "wire/wire.h"

static bool is_handshake(const struct rig_packet *p)
{
    return p->len >= SMT_HS_HDR_LEN && p->data[13] == SMT_KIND_HANDSHAKE;
}

static bool is_of(const struct rig *rig, const struct rig_packet *p, unsigned end)
{
    return smt_addr_equal(&p->from, &rig->ends[end].addr);
}

static void works(struct rig *rig, struct smt_session *s)
{
    rig_call(rig, 0, s, 100);
    rig_call(rig, 0, s, 100000);
}

/* ---- damage ---- */

struct damage {
    unsigned nth; /* of the handshake packets; UINT32_MAX: one in `one_in` */
    unsigned one_in, seen, n_damaged;
    bool header; /* anywhere; else behind the header */
};

static bool damage_one(struct rig *rig, struct rig_packet *p)
{
    struct damage *d = rig->arg;
    if (!is_handshake(p))
        return true;
    bool strike =
        d->nth == UINT32_MAX ? smt_prng_below(&rig->rng, d->one_in) == 0 : d->seen == d->nth;
    d->seen++;
    uint32_t first = d->header ? 0 : SMT_HS_HDR_LEN + p->data[38];
    if (!strike || p->len <= first)
        return true;
    uint32_t tls_end = SMT_HS_HDR_LEN + p->data[38] + smt_get_be16(p->data + 36);
    uint32_t end = tls_end > first && tls_end <= p->len ? tls_end : p->len;
    p->data[first + smt_prng_below(&rig->rng, end - first)] ^=
        (uint8_t)(1 + smt_prng_below(&rig->rng, 255));
    d->n_damaged++;
    return true;
}

/* Each packet of a handshake in turn comes damaged, in its TLS bytes and anywhere: the session
 * comes up all the same, and soon. */
static void a_damaged_handshake_ends_nothing(void **state)
{
    bool psk = *state != NULL;
    unsigned n_repeated = 0;
    for (unsigned nth = 0; nth < 10; nth++) {
        for (unsigned turn = 0; turn < 3; turn++) {
            struct rig rig;
            struct damage d = {.nth = nth, .header = turn == 2};
            struct smt_session *s;
            rig_open(&rig, psk, 5 * SMT_SEC);
            smt_prng_seed(&rig.rng, 100 * nth + turn + 1);
            rig.hook = damage_one;
            rig.arg = &d;
            if (!rig_connect(&rig, 0, 1, 10 * SMT_SEC, &s))
                fail_msg("packet %u: error %d", nth, rig.ends[0].error);
            works(&rig, s);
            n_repeated += (unsigned)rig_counter(&rig, 0, "handshakes_repeated");
            rig_close(&rig);
        }
    }
    assert_true(n_repeated >= 4);
}

/* One packet in five, all the time. */
static void handshakes_on_a_bad_line(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 10; seed++) {
        struct rig rig;
        struct damage d = {.nth = UINT32_MAX, .one_in = 8};
        struct smt_session *s;
        rig_open(&rig, false, 5 * SMT_SEC);
        smt_prng_seed(&rig.rng, seed);
        rig.hook = damage_one;
        rig.arg = &d;
        if (!rig_connect(&rig, 0, 1, 10 * SMT_SEC, &s))
            fail_msg("seed %u: error %d after %u damaged", seed, rig.ends[0].error, d.n_damaged);
        rig.hook = NULL;
        works(&rig, s);
        rig_close(&rig);
    }
}

/* ---- forgery ---- */

struct forger {
    unsigned left;    /* attempts to spoil */
    uint64_t last_id; /* the initiator's in the last attempt seen */
    bool alert;       /* an alert in clear, else noise */
    bool to_server;   /* forges the initiator's second flight */
    unsigned n_forged;
};

/* Comes before the genuine packet, with the right ids and offset. */
static bool forge(struct rig *rig, struct rig_packet *p)
{
    struct forger *f = rig->arg;
    unsigned speaker = f->to_server ? 0 : 1;
    if (!is_handshake(p) || !is_of(rig, p, speaker) || smt_get_be16(p->data + 36) == 0)
        return true;
    if (f->to_server && smt_get_be32(p->data + 4) == 0)
        return true;
    uint64_t id = smt_get_be64(p->data + (f->to_server ? 28 : 20));
    if (id == f->last_id || f->left == 0)
        return true;
    f->last_id = id;
    f->left--;
    f->n_forged++;
    struct rig_packet fake = *p;
    uint8_t *tls = fake.data + SMT_HS_HDR_LEN + fake.data[38];
    static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 40};
    if (f->alert) {
        memcpy(tls, alert, sizeof(alert));
        smt_put_be16(fake.data + 36, sizeof(alert));
        fake.len = (uint32_t)(tls - fake.data) + sizeof(alert);
    } else {
        smt_prng_bytes(&rig->rng, tls, smt_get_be16(p->data + 36));
        tls[0] = 0x16;
    }
    rig_inject(rig, &fake.from, &fake.to, fake.data, fake.len);
    return true;
}

static void forged_flights(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct rig rig;
        struct forger f = {.left = 2, .alert = i == 1, .to_server = i == 2};
        struct smt_session *s;
        rig_open(&rig, false, 5 * SMT_SEC);
        rig.hook = forge;
        rig.arg = &f;
        if (!rig_connect(&rig, 0, 1, 10 * SMT_SEC, &s))
            fail_msg("case %u: error %d", i, rig.ends[0].error);
        assert_int_equal(f.n_forged, 2);
        assert_int_equal(rig_counter(&rig, 0, "handshakes_repeated"), 2);
        works(&rig, s);
        rig_close(&rig);
    }
}

/* Calls posted before the session is up go over with the attempt that succeeds, once each. */
static void calls_survive_a_spoilt_handshake(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct rig rig;
        struct forger f = {.left = 2, .alert = i == 1, .to_server = i == 2};
        rig_open(&rig, false, 5 * SMT_SEC);
        rig.hook = forge;
        rig.arg = &f;
        struct smt_session *s;
        assert_int_equal(smt_connect(rig.ends[0].ep, rig.ends[1].name, NULL, 0, &s), 0);
        static const uint8_t text[64];
        struct smt_iov iov = {text, sizeof(text)};
        struct smt_call_args args = {.size = sizeof(args)};
        args.iov = &iov;
        args.n_iov = 1;
        for (unsigned n = 0; n < 5; n++)
            assert_int_equal(smt_call(s, &args, NULL), 0);
        uint64_t until = rig_now + 10 * SMT_SEC;
        while (rig.ends[0].n_responses + rig.ends[0].n_failed < 5) {
            rig_pump(&rig);
            assert_true(rig_now < until);
        }
        assert_int_equal(rig.ends[0].n_failed, 0);
        assert_int_equal(rig.ends[1].n_requests, 5);
        rig_close(&rig);
    }
}

/* Somebody who spoils every attempt keeps the two from meeting; it ends in its time, and nobody
 * is taken for the peer. */
static void every_attempt_spoilt(void **state)
{
    (void)state;
    struct rig rig;
    struct forger f = {.left = UINT32_MAX};
    struct smt_session *s;
    rig_open(&rig, false, 2 * SMT_SEC);
    rig.hook = forge;
    rig.arg = &f;
    assert_false(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
    assert_true(rig.ends[0].error < 0);
    assert_in_range(f.n_forged, 2, 20);
    assert_int_equal(rig.ends[0].n_up, 0);
    rig_close(&rig);
}

/* What the peer shows under the keys of the handshake is final. */
static void a_wrong_name_is_asked_once(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s;
    rig_open(&rig, false, 5 * SMT_SEC);
    assert_int_equal(
        smt_connect(rig.ends[0].ep, rig.ends[1].name, "other.example", SMT_NEW_SESSION, &s), 0);
    uint64_t until = rig_now + 10 * SMT_SEC;
    while (rig.ends[0].n_down == 0) {
        rig_pump(&rig);
        assert_true(rig_now < until);
    }
    assert_int_equal(rig.ends[0].error, SMT_ENAMEMISMATCH);
    assert_int_equal(rig_counter(&rig, 0, "handshakes_repeated"), 0);
    rig_close(&rig);
}

/* ---- reflection and replay ---- */

static bool reflect(struct rig *rig, struct rig_packet *p)
{
    (void)rig;
    struct smt_addr was = p->from;
    p->from = p->to;
    p->to = was;
    return true;
}

/* One pre-shared key, an endpoint that dials and accepts: what it sends to the peer comes back to
 * it as if the peer had sent it. It must not take itself for the peer. */
static void reflected_hello(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s;
    rig_open(&rig, true, 300 * SMT_MSEC);
    rig.hook = reflect;
    assert_false(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
    assert_int_equal(rig.ends[0].n_up, 0);
    assert_true(rig_counter(&rig, 0, "conns_accepted") > 0); /* the hello did come back */
    rig_close(&rig);
}

struct tape {
    struct rig_packet *all;
    size_t n;
};

static bool tape_record(struct rig *rig, struct rig_packet *p)
{
    struct tape *t = rig->arg;
    if (!is_of(rig, p, 0) || t->n == 256)
        return true;
    t->all[t->n++] = *p;
    return true;
}

/* A whole session's packets of the client, sent to the server again while the session lives and
 * after its end, also with the server's new ids: nobody gets in, nothing runs. */
static void replayed_handshake(void **state)
{
    (void)state;
    for (unsigned alive = 0; alive < 2; alive++) {
        struct rig rig;
        struct tape t = {.all = calloc(256, sizeof(struct rig_packet))};
        struct smt_session *s;
        assert_non_null(t.all);
        rig_open(&rig, false, 300 * SMT_MSEC);
        rig.hook = tape_record;
        rig.arg = &t;
        assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
        works(&rig, s);
        rig.hook = NULL;
        uint64_t until = rig_now + 200 * SMT_MSEC;
        if (!alive) {
            assert_int_equal(smt_session_close(s), 0);
            while (rig.ends[1].n_down == 0 && rig_now < until)
                rig_pump(&rig);
        }
        unsigned ups = rig.ends[1].n_up, requests = rig.ends[1].n_requests;
        for (unsigned turn = 0; turn < 3; turn++) {
            for (size_t i = 0; i < t.n; i++)
                rig_inject(&rig, &t.all[i].from, &t.all[i].to, t.all[i].data, t.all[i].len);
            for (unsigned k = 0; k < 50; k++)
                rig_pump(&rig);
        }
        until = rig_now + 600 * SMT_MSEC;
        while (rig_now < until)
            rig_pump(&rig);
        assert_int_equal(rig.ends[1].n_up, ups);
        assert_int_equal(rig.ends[1].n_requests, requests);
        if (alive)
            works(&rig, s);
        rig_close(&rig);
        free(t.all);
    }
}

/* Copies the first packets of a handshake to the server. */
struct copier {
    struct rig_packet kept[8];
    unsigned n;
    bool keep;
};

static bool hello_copy(struct rig *rig, struct rig_packet *p)
{
    struct copier *c = rig->arg;
    if (c->keep && c->n < SMT_ARRAY_LEN(c->kept) && is_handshake(p) && is_of(rig, p, 0))
        c->kept[c->n++] = *p;
    return true;
}

static bool is_resumed(const struct smt_session *s)
{
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(s, &info), 0);
    return info.is_resumed != 0;
}

/* The flight with which a client came back by its ticket is sent again, by itself and from another
 * address, while its session lives and after: no session arises and none is disturbed. The ticket
 * is of no further use to its owner either; it has another one. With keys there are no tickets. */
static void ticket_replay(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s[3];
    struct copier copier = {0};
    rig_open(&rig, false, 5 * SMT_SEC);
    rig.hook = hello_copy;
    rig.arg = &copier;
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s[0]));
    works(&rig, s[0]);
    assert_false(is_resumed(s[0]));
    copier.keep = true;
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s[1]));
    copier.keep = false;
    works(&rig, s[1]);
    assert_true(is_resumed(s[1]));
    assert_true(copier.n >= 3);
    uint64_t ok = rig_counter(&rig, 1, "handshakes_ok");
    unsigned n_up = rig.ends[1].n_up;
    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < copier.n; i++) {
            const struct rig_packet *p = &copier.kept[i];
            rig_inject(&rig, &rig.ends[0].addr, &p->to, p->data, p->len);
            rig_inject(&rig, &rig.ends[2].addr, &p->to, p->data, p->len);
            rig_pump(&rig);
        }
        works(&rig, s[0]);
        if (turn == 0) {
            works(&rig, s[1]);
            assert_int_equal(smt_session_close(s[1]), 0);
        }
    }
    assert_int_equal(rig_counter(&rig, 1, "handshakes_ok"), ok);
    assert_int_equal(rig.ends[1].n_up, n_up);
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s[2]));
    assert_true(is_resumed(s[2]));
    works(&rig, s[2]);
    rig_close(&rig);

    rig_open(&rig, true, 5 * SMT_SEC);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s[i]));
        assert_false(is_resumed(s[i]));
    }
    rig_close(&rig);
}

static bool some_lost(struct rig *rig, struct rig_packet *p)
{
    (void)p;
    return smt_prng_below(&rig->rng, 12) != 0;
}

/* Sessions that stand on tickets, on a handshake beside and on the next epoch, at once, with loss:
 * no number is sealed twice under one key. The cipher watches. */
static void no_number_twice_over_resumptions(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s[6];
    unsigned n_resumed = 0;
    checking_aead_reset();
    rig_open(&rig, false, 5 * SMT_SEC);
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct smt_ctx *ctx = rig.ends[i].ctx;
        ctx->aeads[SMT_AEAD_AES128_GCM] = checking_aead(CHECKING_AES128_GCM);
        ctx->aeads[SMT_AEAD_AES256_GCM] = checking_aead(CHECKING_AES256_GCM);
    }
    rig.hook = some_lost;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(s); i++) {
        assert_true(rig_connect(&rig, 0, 1, 10 * SMT_SEC, &s[i]));
        n_resumed += is_resumed(s[i]);
        rig_call(&rig, 0, s[i], 20000);
        assert_int_equal(smt_session_rekey(s[i], i % 2 == 0 ? SMT_REKEY_HANDSHAKE : 0), 0);
        for (unsigned k = 0; k <= i; k++)
            rig_call(&rig, 0, s[k], 20000);
    }
    assert_true(n_resumed >= 3);
    struct checking_aead_stats stats = checking_aead_stats();
    assert_true(stats.nonces > 500);
    assert_int_equal(stats.violations, 0);
    assert_int_equal(rig.ends[0].n_failed, 0);
    rig_close(&rig);
}

/* Somebody spoils every TLS byte that comes after the handshake: the ticket is lost, the session is
 * not. */
static bool ticket_spoil(struct rig *rig, struct rig_packet *p)
{
    unsigned *from = rig->arg;
    if (is_handshake(p) && is_of(rig, p, 1) && smt_get_be32(p->data + 4) >= *from)
        memset(p->data + SMT_HS_HDR_LEN, 0x5a, p->len - SMT_HS_HDR_LEN);
    return true;
}

static bool flight_measure(struct rig *rig, struct rig_packet *p)
{
    unsigned *from = rig->arg;
    if (is_handshake(p) && is_of(rig, p, 0) && smt_get_be32(p->data + 8) > *from)
        *from = smt_get_be32(p->data + 8); /* what the client had when it sent its Finished */
    return rig->ends[0].n_up == 0;
}

static void a_spoilt_ticket(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s;
    unsigned from = 0;
    rig_open(&rig, false, 5 * SMT_SEC);
    rig.hook = flight_measure;
    rig.arg = &from;
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
    rig_close(&rig);
    assert_true(from > 500);

    rig_open(&rig, false, 5 * SMT_SEC);
    rig.hook = ticket_spoil;
    rig.arg = &from;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
        works(&rig, s);
    }
    rig.hook = NULL;
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
    works(&rig, s);
    assert_int_equal(rig.ends[0].n_down, 0);
    rig_close(&rig);
}

static bool spoil_all(struct rig *rig, struct rig_packet *p)
{
    if (smt_prng_below(&rig->rng, 4) == 0)
        p->data[smt_prng_below(&rig->rng, p->len)] ^= 0x55;
    return true;
}

static unsigned hex_run(const char *text)
{
    unsigned most = 0, n = 0;
    for (; *text != '\0'; text++) {
        n = strchr("0123456789abcdefABCDEF", *text) != NULL ? n + 1 : 0;
        most = n > most ? n : most;
    }
    return most;
}

/* S13, the logs: handshakes and records that fail leave lines without a byte of what they held. */
static void s13_logs_hold_no_bytes(void **state)
{
    (void)state;
    struct rig rig;
    struct smt_session *s;
    rig_open(&rig, false, 5 * SMT_SEC);
    assert_true(rig_connect(&rig, 0, 1, 5 * SMT_SEC, &s));
    rig.hook = spoil_all;
    for (unsigned i = 0; i < 20; i++)
        rig_call(&rig, 0, s, 5000);
    assert_true(rig_counter(&rig, 1, "drop_auth") > 5);
    struct forger f = {.left = UINT32_MAX};
    rig.hook = forge;
    rig.arg = &f;
    (void)rig_connect(&rig, 0, 1, 10 * SMT_SEC, &s);
    assert_true(strlen(rig.log) > 100);
    assert_in_range(hex_run(rig.log), 0, 15);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_damaged_handshake_ends_nothing),
        {.name = "a_damaged_handshake_ends_nothing_with_a_psk",
         .test_func = a_damaged_handshake_ends_nothing,
         .initial_state = (void *)1},
        cmocka_unit_test(handshakes_on_a_bad_line),
        cmocka_unit_test(forged_flights),
        cmocka_unit_test(calls_survive_a_spoilt_handshake),
        cmocka_unit_test(every_attempt_spoilt),
        cmocka_unit_test(a_wrong_name_is_asked_once),
        cmocka_unit_test(reflected_hello),
        cmocka_unit_test(replayed_handshake),
        cmocka_unit_test(ticket_replay),
        cmocka_unit_test(a_spoilt_ticket),
        cmocka_unit_test(no_number_twice_over_resumptions),
        cmocka_unit_test(s13_logs_hold_no_bytes),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
