/* What a device says of itself, as the user hears it: a port that goes and comes, a device that is
 * gone for good. The device is a shell around the in-memory pair that says what the test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <smt/smt.h>

#include "api/api.h"
#include "dev/dev_impl.h"

/* A device whose mood is the test's. */
struct moody {
    struct smt_dev base;
    struct smt_dev *inner;
    int fd;
    int rx_error;      /* rx answers it */
    uint8_t rx_news;   /* told by the next rx */
    uint8_t arm_news;  /* told by the next arm */
    bool is_deaf;      /* receives nothing */
    bool is_full;      /* takes nothing to send */
    const char *why_lost, *why_peer;
    unsigned n_touched; /* calls other than why and close */
};

static struct moody *moody_of(struct smt_dev *dev)
{
    struct moody *m = SMT_CONTAINER_OF(dev, struct moody, base);
    m->n_touched++;
    return m;
}

static void moody_close(struct smt_dev *dev)
{
    struct moody *m = moody_of(dev);
    m->inner->ops->close(m->inner);
    close(m->fd);
    smt_mem_free(m);
}

static uint8_t *moody_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                              uint8_t prio)
{
    struct moody *m = moody_of(dev);
    return m->is_full ? NULL : m->inner->ops->tx_reserve(m->inner, to, len, prio);
}

static void moody_unreserve(struct smt_dev *dev)
{
    struct moody *m = moody_of(dev);
    m->inner->ops->tx_unreserve(m->inner);
}

static int moody_flush(struct smt_dev *dev)
{
    struct moody *m = moody_of(dev);
    return m->is_full ? SMT_EAGAIN : m->inner->ops->tx_flush(m->inner);
}

static int moody_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct moody *m = moody_of(dev);
    smt_dev_tell(dev, m->rx_news);
    m->rx_news = 0;
    if (m->rx_error < 0)
        return m->rx_error;
    int r = m->inner->ops->rx(m->inner, pkts, n);
    return m->is_deaf ? 0 : r;
}

static uint32_t moody_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct moody *m = moody_of(dev);
    return m->inner->ops->mtu(m->inner, to);
}

static int moody_fd(struct smt_dev *dev)
{
    return moody_of(dev)->fd;
}

static int moody_arm(struct smt_dev *dev)
{
    struct moody *m = moody_of(dev);
    smt_dev_tell(dev, m->arm_news);
    m->arm_news = 0;
    return m->rx_error;
}

static uint16_t moody_port(struct smt_dev *dev)
{
    struct moody *m = moody_of(dev);
    return m->inner->ops->port(m->inner);
}

static const char *moody_why(struct smt_dev *dev, const struct smt_addr *to)
{
    struct moody *m = SMT_CONTAINER_OF(dev, struct moody, base);
    return to != NULL ? m->why_peer : m->why_lost;
}

static const struct smt_dev_ops moody_ops = {
    .name = "moody",
    .close = moody_close,
    .tx_reserve = moody_reserve,
    .tx_unreserve = moody_unreserve,
    .tx_flush = moody_flush,
    .rx = moody_rx,
    .mtu = moody_mtu,
    .fd = moody_fd,
    .arm = moody_arm,
    .port = moody_port,
    .why = moody_why,
};

static struct moody *moody_new(struct smt_dev *inner)
{
    struct moody *m = smt_mem_alloc(sizeof(*m));
    assert_non_null(m);
    smt_dev_init(&m->base, &moody_ops);
    m->inner = inner;
    m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(m->fd >= 0);
    return m;
}

/* ---- two endpoints, the first one on a moody device ---- */

struct world {
    struct smt_ctx *ctx;
    struct smt_ep *ep, *other;
    struct moody *m;
    struct smt_session *s;
    struct smt_event seen[64];
    unsigned n_seen;
};

static void other_poll(struct world *w)
{
    struct smt_event ev;
    while (w->other != NULL && smt_poll(w->other, &ev, 1) > 0) {
        if (ev.type == SMT_EV_MESSAGE || ev.type == SMT_EV_REQUEST)
            smt_release(ev.msg);
    }
}

/* Polls a few times; what comes is in seen. The last answer of smt_poll below 0, else 0. */
static int look(struct world *w)
{
    int r = 0;
    for (unsigned i = 0; i < 20 && r >= 0; i++) {
        r = smt_poll(w->ep, &w->seen[w->n_seen], 1);
        w->n_seen += r > 0;
        assert_true(w->n_seen < 64);
        other_poll(w);
    }
    return r < 0 ? r : 0;
}

static void expect_one(struct world *w, enum smt_event_type type)
{
    assert_int_equal(look(w), 0);
    assert_int_equal(w->n_seen, type == SMT_EV_NONE ? 0 : 1);
    if (type != SMT_EV_NONE) {
        assert_int_equal(w->seen[0].type, type);
        assert_null(w->seen[0].session);
        assert_int_equal(w->seen[0].error, 0);
    }
    w->n_seen = 0;
}

static char last_warning[256];

static void warning_keep(void *arg, int level, const char *text)
{
    if (level == 1)
        snprintf(last_warning, sizeof(last_warning), "%s", text);
}

static void world_open(struct world *w, const char *tap)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.log = warning_keep;
    struct smt_dev *devs[2];
    *w = (struct world){0};
    config.plaintext = 1;
    assert_int_equal(smt_ctx_open(&config, &w->ctx), 0);
    assert_int_equal(smt_dev_loop_pair(9000, 256, &devs[0], &devs[1]), 0);
    w->m = moody_new(devs[0]);
    struct smt_dev *dev = &w->m->base;
    if (tap != NULL)
        assert_int_equal(smt_dev_tap(tap, &w->m->base, NULL, 0, &dev), 0);
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    ep_config.accept = 1;
    ep_config.handshake_timeout_ns = 50000000;
    assert_int_equal(smt_ep_open_on(w->ctx, &ep_config, dev, &w->ep), 0);
    assert_int_equal(smt_ep_open_on(w->ctx, &ep_config, devs[1], &w->other), 0);
}

static void world_connect(struct world *w)
{
    assert_int_equal(smt_connect(w->ep, "127.0.0.1:2", NULL, 0, &w->s), 0);
    assert_int_equal(look(w), 0);
    assert_int_equal(w->n_seen, 1);
    assert_int_equal(w->seen[0].type, SMT_EV_SESSION_UP);
    w->n_seen = 0;
}

static void world_close(struct world *w)
{
    assert_int_equal(smt_ep_close(w->ep), 0);
    assert_int_equal(smt_ep_close(w->other), 0);
    assert_int_equal(smt_ctx_close(w->ctx), 0);
}

static uint64_t post(struct world *w, const char *text, unsigned flags, void *user)
{
    const struct smt_iov iov = {text, strlen(text)};
    const struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = 1, .flags = flags, .user = user};
    uint64_t id;
    assert_int_equal(smt_call(w->s, &args, &id), 0);
    return id;
}

/* ---- the port ---- */

enum { DOWN = SMT_DEV_NEWS_PORT_DOWN, UP = SMT_DEV_NEWS_PORT_UP, LOST = SMT_DEV_NEWS_LOST };

static void port_news_are_told_once(void **state)
{
    struct world w;
    world_open(&w, NULL);
    w.m->rx_news = UP; /* as it was */
    expect_one(&w, SMT_EV_NONE);
    w.m->rx_news = DOWN;
    expect_one(&w, SMT_EV_DEVICE_DOWN);
    w.m->rx_news = DOWN;
    expect_one(&w, SMT_EV_NONE);
    w.m->rx_news = UP;
    expect_one(&w, SMT_EV_DEVICE_UP);
    w.m->rx_news = UP;
    expect_one(&w, SMT_EV_NONE);
    world_close(&w);
}

/* Between two polls it went and came, once or often: both events, in that order, or none that would
 * be wrong. */
static void a_port_that_flaps(void **state)
{
    struct world w;
    world_open(&w, NULL);
    w.m->rx_news = DOWN | UP;
    assert_int_equal(look(&w), 0);
    assert_int_equal(w.n_seen, 2);
    assert_int_equal(w.seen[0].type, SMT_EV_DEVICE_DOWN);
    assert_int_equal(w.seen[1].type, SMT_EV_DEVICE_UP);
    w.n_seen = 0;

    /* Down, up and down again, before anybody looked: it is down. */
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_DOWN);
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_UP);
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_DOWN);
    expect_one(&w, SMT_EV_DEVICE_DOWN);

    /* Told down; then up and down again: nothing new. */
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_UP);
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_DOWN);
    expect_one(&w, SMT_EV_NONE);
    smt_dev_tell(&w.m->base, SMT_DEV_NEWS_PORT_UP);
    expect_one(&w, SMT_EV_DEVICE_UP);

    /* The user has not taken the first two when the third comes. */
    assert_int_equal(smt_poll(w.ep, NULL, 0), 0);
    w.m->rx_news = DOWN;
    assert_int_equal(smt_poll(w.ep, NULL, 0), 0);
    w.m->rx_news = UP;
    assert_int_equal(smt_poll(w.ep, NULL, 0), 0);
    w.m->rx_news = DOWN;
    expect_one(&w, SMT_EV_DEVICE_DOWN);
    world_close(&w);
}

static void news_of_arm_end_the_sleep(void **state)
{
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(look(&w), 0);
    assert_int_equal(smt_arm(w.ep), 0);
    w.m->arm_news = DOWN;
    assert_int_equal(smt_arm(w.ep), SMT_EBUSY);
    expect_one(&w, SMT_EV_DEVICE_DOWN);
    assert_int_equal(smt_arm(w.ep), 0);
    /* News that changes nothing must not keep anybody awake for long. */
    w.m->arm_news = DOWN;
    assert_int_equal(smt_arm(w.ep), SMT_EBUSY);
    expect_one(&w, SMT_EV_NONE);
    assert_int_equal(smt_arm(w.ep), 0);
    world_close(&w);
}

/* A port that is down ends nothing by itself. */
static void calls_survive_a_port_that_comes_back(void **state)
{
    struct world w;
    world_open(&w, NULL);
    world_connect(&w);
    w.m->rx_news = DOWN;
    w.m->is_deaf = true;
    post(&w, "hello", 0, &w);
    expect_one(&w, SMT_EV_DEVICE_DOWN);
    w.m->rx_news = UP;
    w.m->is_deaf = false;
    expect_one(&w, SMT_EV_DEVICE_UP);
    world_close(&w);
}

/* Queues that were made anew are no event: it is logged, and everything goes on. */
static void queues_made_anew_are_logged(void **state)
{
    struct world w;
    world_open(&w, NULL);
    world_connect(&w);
    w.m->rx_news = SMT_DEV_NEWS_REBUILT;
    w.m->why_lost = "a queue of it has failed";
    last_warning[0] = '\0';
    expect_one(&w, SMT_EV_NONE);
    assert_non_null(strstr(last_warning, "a queue of it has failed; its queues were made anew"));
    last_warning[0] = '\0';
    post(&w, "hello", 0, &w);
    expect_one(&w, SMT_EV_NONE);
    assert_string_equal(last_warning, "");
    world_close(&w);
}

/* ---- the loss ---- */

static unsigned find(const struct world *w, enum smt_event_type type, const void *user)
{
    for (unsigned i = 0; i < w->n_seen; i++) {
        if (w->seen[i].type == type && w->seen[i].user == user)
            return i;
    }
    fail_msg("no event %d", type);
    return 0;
}

static void expect_lost_for_good(struct world *w)
{
    unsigned touched = w->m->n_touched;
    struct smt_session *s;
    struct smt_event ev;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(smt_poll(w->ep, &ev, 1), SMT_EDEVICE);
        assert_non_null(strstr(smt_error_text(w->ctx), "pulled out"));
        assert_int_equal(smt_poll(w->ep, NULL, 0), SMT_EDEVICE);
        assert_int_equal(smt_arm(w->ep), SMT_EDEVICE);
        assert_int_equal(smt_wait(w->ep, UINT64_MAX), SMT_EDEVICE);
        assert_int_equal(smt_connect(w->ep, "127.0.0.1:2", NULL, 0, &s), SMT_EDEVICE);
        assert_non_null(strstr(smt_error_text(w->ctx), "pulled out"));
        assert_int_equal(smt_connect_wait(w->ep, "127.0.0.1:2", NULL, 0, 0, &s), SMT_EDEVICE);
        assert_int_equal(smt_ep_drain(w->ep, 0), SMT_EDEVICE);
    }
    assert_int_equal(w->m->n_touched, touched);
}

static void lose(struct world *w, int rx_error)
{
    w->m->why_lost = "somebody has pulled out the card";
    w->m->rx_error = rx_error;
    w->m->rx_news = rx_error == 0 ? LOST : 0;
}

/* Calls first, then sessions, then the device, then nothing any more. */
static void a_loss_ends_everything_in_order(void **state)
{
    static const int errors[] = {0, SMT_EDEVICE, SMT_ESYSTEM};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(errors); i++) {
        struct world w;
        world_open(&w, NULL);
        world_connect(&w);
        int sent, unsent, again;
        w.m->is_deaf = true;
        uint64_t sent_id = post(&w, "sent", 0, &sent);
        post(&w, "sent, and may run again", SMT_IDEMPOTENT, &again);
        assert_int_equal(look(&w), 0);
        assert_int_equal(w.n_seen, 0);
        w.m->is_full = true;
        post(&w, "not sent", 0, &unsent);
        lose(&w, errors[i]);
        assert_int_equal(look(&w), SMT_EDEVICE);
        assert_int_equal(w.n_seen, 5);
        const struct smt_event *ev = &w.seen[find(&w, SMT_EV_FAILED, &sent)];
        assert_int_equal(ev->error, SMT_EMAYBE);
        assert_int_equal(ev->call_id, sent_id);
        assert_ptr_equal(ev->session, w.s);
        assert_int_equal(w.seen[find(&w, SMT_EV_FAILED, &unsent)].error, SMT_EDEVICE);
        assert_int_equal(w.seen[find(&w, SMT_EV_FAILED, &again)].error, SMT_EMAYBE);
        assert_int_equal(w.seen[3].type, SMT_EV_SESSION_DOWN);
        assert_int_equal(w.seen[3].error, SMT_EDEVICE);
        assert_int_equal(w.seen[4].type, SMT_EV_DEVICE_LOST);
        assert_int_equal(w.seen[4].error, SMT_EDEVICE);
        assert_null(w.seen[4].session);
        expect_lost_for_good(&w);
        world_close(&w);
    }
}

/* Nobody takes the events: closing works all the same. */
static void a_lost_endpoint_closes_at_any_time(void **state)
{
    for (unsigned n = 0; n < 6; n++) {
        struct world w;
        world_open(&w, NULL);
        world_connect(&w);
        w.m->is_deaf = true;
        post(&w, "one", 0, NULL);
        post(&w, "two", SMT_IDEMPOTENT, NULL);
        assert_int_equal(look(&w), 0);
        lose(&w, 0);
        for (unsigned i = 0; i < n; i++) {
            struct smt_event ev;
            (void)smt_poll(w.ep, &ev, i == 0 ? 0 : 1);
        }
        world_close(&w);
    }
}

/* What the user holds can be given back, and what he owes ends. */
static void a_lost_endpoint_gives_memory_back(void **state)
{
    struct world w;
    world_open(&w, NULL);
    world_connect(&w);
    struct smt_session *back;
    assert_int_equal(smt_connect(w.other, "127.0.0.1:1", NULL, 0, &back), 0);
    assert_int_equal(look(&w), 0);
    const struct smt_iov iov = {"question", 8};
    const struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    uint64_t id;
    assert_int_equal(smt_call(back, &args, &id), 0);
    w.n_seen = 0;
    assert_int_equal(look(&w), 0);
    assert_int_equal(w.n_seen, 1);
    assert_int_equal(w.seen[0].type, SMT_EV_REQUEST);
    struct smt_msg *request = w.seen[0].msg;
    lose(&w, 0);
    w.n_seen = 0;
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.seen[w.n_seen - 1].type, SMT_EV_DEVICE_LOST);
    int owed;
    w.n_seen = 0;
    assert_int_equal(smt_reply(request, &iov, 1, &owed), 0);
    smt_release(request);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 1);
    assert_int_equal(w.seen[find(&w, SMT_EV_FAILED, &owed)].error, SMT_ECLOSED);
    expect_lost_for_good(&w);
    world_close(&w);
}

/* A handshake under way has no other address to go to. */
static void a_loss_ends_a_handshake(void **state)
{
    struct world w;
    world_open(&w, NULL);
    w.m->is_deaf = true;
    assert_int_equal(smt_connect(w.ep, "127.0.0.1:2", NULL, 0, &w.s), 0);
    int early;
    post(&w, "early", SMT_IDEMPOTENT, &early);
    assert_int_equal(look(&w), 0);
    lose(&w, 0);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 3);
    assert_int_equal(w.seen[find(&w, SMT_EV_FAILED, &early)].error, SMT_EDEVICE);
    assert_int_equal(w.seen[1].type, SMT_EV_SESSION_DOWN);
    assert_int_equal(w.seen[1].error, SMT_EDEVICE);
    assert_int_equal(w.seen[2].type, SMT_EV_DEVICE_LOST);
    expect_lost_for_good(&w);
    world_close(&w);
}

/* Calls that wait end, and the loss is still told to whoever polls. */
static void a_loss_ends_calls_that_wait(void **state)
{
    struct world w;
    char resp[16];
    world_open(&w, NULL);
    world_connect(&w);
    lose(&w, 0);
    assert_int_equal(smt_call_wait(w.s, "x", 1, resp, sizeof(resp), 0), SMT_EMAYBE);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 2);
    assert_int_equal(w.seen[0].type, SMT_EV_SESSION_DOWN);
    assert_int_equal(w.seen[1].type, SMT_EV_DEVICE_LOST);
    expect_lost_for_good(&w);
    world_close(&w);

    world_open(&w, NULL);
    lose(&w, SMT_EDEVICE);
    assert_int_equal(smt_connect_wait(w.ep, "127.0.0.1:2", NULL, 0, 0, &w.s), SMT_EDEVICE);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 1);
    assert_int_equal(w.seen[0].type, SMT_EV_DEVICE_LOST);
    expect_lost_for_good(&w);
    world_close(&w);
}

static void a_loss_told_by_arm(void **state)
{
    struct world w;
    world_open(&w, NULL);
    assert_int_equal(look(&w), 0);
    lose(&w, 0);
    w.m->rx_news = 0;
    w.m->arm_news = LOST;
    assert_int_equal(smt_wait(w.ep, UINT64_MAX), 0);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 1);
    assert_int_equal(w.seen[0].type, SMT_EV_DEVICE_LOST);
    expect_lost_for_good(&w);
    world_close(&w);
}

/* ---- words ---- */

static void silence_has_the_device_s_reason(void **state)
{
    struct world w;
    world_open(&w, NULL);
    w.m->is_deaf = true;
    w.m->why_peer = "nobody answered the resolve query";
    assert_int_equal(
        smt_connect_wait(w.ep, "127.0.0.1:2", NULL, 0, UINT64_C(10000000000), &w.s),
        SMT_EUNREACHABLE);
    assert_non_null(strstr(smt_error_text(w.ctx), "127.0.0.1:2"));
    assert_non_null(strstr(smt_error_text(w.ctx), "nobody answered the resolve query"));
    assert_int_equal(smt_connect_wait(w.ep, "127.0.0.1:2", NULL, 0, 1000000, &w.s), SMT_ETIMEDOUT);
    assert_non_null(strstr(smt_error_text(w.ctx), "nobody answered the resolve query"));
    world_close(&w);
}

/* ---- through a tap ---- */

static void a_tap_passes_news_on(void **state)
{
    struct world w;
    world_open(&w, "drop=0");
    w.m->rx_news = DOWN | UP;
    assert_int_equal(look(&w), 0);
    assert_int_equal(w.n_seen, 2);
    assert_int_equal(w.seen[0].type, SMT_EV_DEVICE_DOWN);
    assert_int_equal(w.seen[1].type, SMT_EV_DEVICE_UP);
    w.n_seen = 0;
    w.m->arm_news = DOWN;
    assert_int_equal(smt_arm(w.ep), SMT_EBUSY);
    expect_one(&w, SMT_EV_DEVICE_DOWN);
    lose(&w, 0);
    assert_int_equal(look(&w), SMT_EDEVICE);
    assert_int_equal(w.n_seen, 1);
    assert_int_equal(w.seen[0].type, SMT_EV_DEVICE_LOST);
    expect_lost_for_good(&w);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_news_are_told_once),
        cmocka_unit_test(a_port_that_flaps),
        cmocka_unit_test(news_of_arm_end_the_sleep),
        cmocka_unit_test(calls_survive_a_port_that_comes_back),
        cmocka_unit_test(queues_made_anew_are_logged),
        cmocka_unit_test(a_loss_ends_everything_in_order),
        cmocka_unit_test(a_lost_endpoint_closes_at_any_time),
        cmocka_unit_test(a_lost_endpoint_gives_memory_back),
        cmocka_unit_test(a_loss_ends_a_handshake),
        cmocka_unit_test(a_loss_ends_calls_that_wait),
        cmocka_unit_test(a_loss_told_by_arm),
        cmocka_unit_test(silence_has_the_device_s_reason),
        cmocka_unit_test(a_tap_passes_news_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
