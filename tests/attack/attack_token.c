/* Attacks with the token by which a host's next hello needs no cookie: shown by others, spoilt, and
 * used by somebody who has seen it to have us send to the host it is of. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "wire/wire.h"

/* A hello with its cookie or token. */
static bool is_hello(const struct rig *rig, const struct rig_packet *p)
{
    return p->len >= SMT_HS_HDR_LEN && p->data[13] == SMT_KIND_HANDSHAKE &&
           smt_addr_equal(&p->from, &rig->ends[0].addr) && smt_get_be64(p->data + 20) == 0 &&
           p->data[38] != 0;
}

struct watch {
    struct rig_packet hellos[4]; /* the last one's packets */
    unsigned n, n_spoil;
    bool deaf;           /* the host hears nothing */
    uint64_t n_to_host;  /* bytes */
};

static bool look(struct rig *rig, struct rig_packet *p)
{
    struct watch *w = rig->arg;
    if (is_hello(rig, p)) {
        if (smt_get_be32(p->data + 4) == 0)
            w->n = 0;
        if (w->n < SMT_ARRAY_LEN(w->hellos))
            w->hellos[w->n++] = *p;
        if (w->n_spoil > 0) {
            w->n_spoil--;
            p->data[SMT_HS_HDR_LEN + smt_prng_below(&rig->rng, SMT_COOKIE_LEN)] ^= 0x11;
        }
    }
    if (smt_addr_equal(&p->to, &rig->ends[0].addr)) {
        w->n_to_host += p->len;
        return !w->deaf;
    }
    return true;
}

static struct smt_session *meet(struct rig *rig)
{
    struct smt_session *s;
    assert_true(rig_connect(rig, 0, 1, 5 * SMT_SEC, &s));
    rig_call(rig, 0, s, 100); /* and with it the ticket has come */
    return s;
}

static bool is_resumed(const struct smt_session *s)
{
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(s, &info), 0);
    return info.is_resumed != 0;
}

static void watched_open(struct rig *rig, struct watch *w)
{
    rig_open(rig, false, 5 * SMT_SEC);
    rig->hook = look;
    rig->arg = w;
}

/* Who comes back asks for no cookie. */
static void a_token_saves_the_cookie(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w = {0};
    watched_open(&rig, &w);
    assert_false(is_resumed(meet(&rig)));
    assert_int_equal(rig_counter(&rig, 1, "retries_sent"), 1);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(is_resumed(meet(&rig)));
        assert_int_equal(rig_counter(&rig, 1, "tokens_taken"), i);
    }
    assert_int_equal(rig_counter(&rig, 1, "retries_sent"), 1);
    rig_close(&rig);
}

/* One that does not hold costs the round trip that it would have saved: spoilt on its way, of a
 * server that has forgotten. */
static void a_spoilt_token(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w = {0};
    watched_open(&rig, &w);
    meet(&rig);
    for (unsigned i = 1; i <= 3; i++) {
        w.n_spoil = 1;
        assert_true(is_resumed(meet(&rig)));
        assert_int_equal(rig_counter(&rig, 1, "retries_sent"), 1 + i);
        assert_int_equal(rig_counter(&rig, 1, "drop_cookie"), i);
    }
    rig.ends[1].ctx->cookie->secret[0] ^= 1;
    assert_true(is_resumed(meet(&rig)));
    assert_int_equal(rig_counter(&rig, 1, "tokens_taken"), 0);
    assert_int_equal(rig.ends[0].n_down, 0);
    rig_close(&rig);
}

/* It is of one host: another that shows it is asked for a cookie. */
static void a_token_of_another_host(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w = {0};
    watched_open(&rig, &w);
    meet(&rig);
    meet(&rig);
    uint64_t accepted = rig_counter(&rig, 1, "conns_accepted");
    uint64_t retries = rig_counter(&rig, 1, "retries_sent");
    const struct rig_packet *p = &w.hellos[0];
    rig_inject(&rig, &rig.ends[2].addr, &p->to, p->data, p->len);
    rig_pump(&rig);
    rig_pump(&rig);
    assert_int_equal(rig_counter(&rig, 1, "conns_accepted"), accepted);
    assert_int_equal(rig_counter(&rig, 1, "retries_sent"), retries + 1);
    rig_close(&rig);
}

/* Somebody who saw it sends hellos in the host's name, which does not answer: for as long as the
 * handshake may take, with whole flights to repeat, it gets no more than three times as much. */
static void a_token_amplifies_nothing(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w = {0};
    rig_open(&rig, false, SMT_SEC);
    rig.hook = look;
    rig.arg = &w;
    meet(&rig);
    struct smt_session *s = meet(&rig);
    struct watch seen = w;
    assert_int_equal(smt_session_close(s), 0);
    for (unsigned i = 0; i < 10; i++)
        rig_pump(&rig);
    assert_int_equal(smt_ctx_reload(rig.ends[1].ctx), 0); /* no ticket opens: the longest flight */
    w.deaf = true;
    for (unsigned turn = 0; turn < 2; turn++) {
        uint64_t sent = 0, until = rig_now + 1200 * SMT_MSEC;
        uint64_t accepted = rig_counter(&rig, 1, "conns_accepted");
        w.n_to_host = 0;
        for (unsigned i = 0; i < seen.n; i++) {
            const struct rig_packet *p = &seen.hellos[i];
            rig_inject(&rig, &rig.ends[0].addr, &p->to, p->data, p->len);
            sent += p->len;
        }
        while (rig_now < until)
            rig_pump(&rig);
        assert_int_equal(rig_counter(&rig, 1, "conns_accepted"), accepted + 1);
        assert_in_range(w.n_to_host, 500, 3 * sent);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_saves_the_cookie),
        cmocka_unit_test(a_spoilt_token),
        cmocka_unit_test(a_token_of_another_host),
        cmocka_unit_test(a_token_amplifies_nothing),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
