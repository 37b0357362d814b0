/* The network alone, under a transport that sends what it is told: times against closed formulas,
 * priorities, buffers, marks, loss, and that no packet vanishes unaccounted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "sim/net.h"
#include "sim/preset.h"

enum { MAX_SEEN = 4096, FULL = 1472 };

/* Packets a host will send, in order; what came, in order, of all hosts. */
struct plan {
    struct smt_net_pkt *first, *last;
};

struct arrival {
    uint64_t at;
    uint16_t src, dst;
    uint8_t level, ecn;
    uint64_t word;
};

static struct plan plans[256];
static struct arrival seen[MAX_SEEN];
static unsigned n_seen;
static uint64_t last_timer;

static int script_open(struct smt_net *net, const struct smt_policy_config *config)
{
    memset(plans, 0, sizeof(plans));
    n_seen = 0;
    return 0;
}

static void script_close(struct smt_net *net)
{
}

static void script_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    assert_int_equal(h->number, p->dst);
    if (n_seen < MAX_SEEN)
        seen[n_seen] = (struct arrival){smt_net_now(h->net), p->src, p->dst, p->level, p->ecn,
                                        p->word};
    n_seen++;
    smt_net_pkt_free(h->net, p);
}

static struct smt_net_pkt *script_next(struct smt_net_host *h)
{
    struct plan *plan = &plans[h->number];
    struct smt_net_pkt *p = plan->first;
    if (p != NULL)
        plan->first = p->next;
    return p;
}

static void script_message(struct smt_net_host *h, struct smt_net_msg *m)
{
    smt_net_deliver(&h->net->hosts[m->dst], m);
}

static void script_timer(struct smt_net_host *h)
{
    last_timer = smt_net_now(h->net);
}

static const struct smt_policy script = {
    .name = "script",
    .text = "sends what a test says",
    .levels = 8,
    .open = script_open,
    .close = script_close,
    .message = script_message,
    .packet = script_packet,
    .next = script_next,
    .timer = script_timer,
};

static struct smt_net *network(const char *preset, struct smt_net_config *config)
{
    struct smt_net_config mine;
    if (config == NULL) {
        config = &mine;
        smt_preset_fill(smt_preset_find(preset), config);
    }
    const struct smt_policy_config pc = {.levels = 8};
    const struct smt_net_hooks hooks = {0};
    struct smt_net *net;
    assert_int_equal(smt_net_new(config, &script, &pc, &hooks, &net), 0);
    return net;
}

static void say(struct smt_net *net, unsigned src, unsigned dst, uint32_t len, unsigned level,
                uint64_t word)
{
    struct smt_net_pkt *p = smt_net_pkt_new(&net->hosts[src], dst, len, level);
    p->word = word;
    struct plan *plan = &plans[src];
    if (plan->first == NULL)
        plan->first = p;
    else
        plan->last->next = p;
    plan->last = p;
    p->next = NULL;
}

static void go(struct smt_net *net)
{
    for (unsigned i = 0; i < net->n_hosts; i++)
        smt_net_wake(&net->hosts[i]);
    smt_net_run(net, SMT_NEVER);
}

static void settle(struct smt_net *net)
{
    assert_true(net->n_sent == net->n_received + net->n_dropped + net->n_lost);
    assert_true(net->n_live == 0);
    smt_net_free(net);
}

/* ps that `payload` takes on a link of so many ps a byte. */
static uint64_t line(uint32_t payload, uint64_t ps_per_byte)
{
    return smt_net_wire_len(payload) * ps_per_byte;
}

static void test_frames(void **state)
{
    assert_int_equal(smt_net_wire_len(1472), 1538);
    assert_int_equal(smt_net_wire_len(0), 84);
    assert_int_equal(smt_net_wire_len(18), 84);
    assert_int_equal(smt_net_wire_len(19), 85);
}

static void test_one_packet_takes_what_the_formula_says(void **state)
{
    static const uint32_t lens[] = {1, 75, 1000, FULL};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        uint32_t len = lens[i];
        struct smt_net *net = network("paper", NULL);
        say(net, 0, 15, len, 0, 0);
        go(net);
        /* Same rack: out, in, one switch. */
        uint64_t same = 1750000 + 2 * line(len, 800);
        assert_int_equal(n_seen, 1);
        assert_true(seen[0].at == same);
        uint64_t begin = smt_net_now(net);
        say(net, 0, 143, len, 7, 0);
        go(net);
        uint64_t other = 2250000 + 2 * line(len, 800) + 2 * line(len, 200);
        assert_true(seen[1].at - begin == other);
        settle(net);
    }
}

static void test_link_delay_counts_on_every_link(void **state)
{
    struct smt_net_config config;
    smt_preset_fill(smt_preset_find("paper"), &config);
    config.link_ns = 1000;
    struct smt_net *net = network(NULL, &config);
    say(net, 0, 143, FULL, 0, 0);
    go(net);
    assert_true(seen[0].at == 6250000 + 2 * line(FULL, 800) + 2 * line(FULL, 200));
    settle(net);
}

/* The ideal time of a message is reached by its packets sent back to back. */
static void test_ideal_is_reached_exactly(void **state)
{
    static const uint32_t lens[] = {0, 1, 1359, 1360, 5000, 100000, 999999};
    static const unsigned dsts[] = {1, 20};
    const struct smt_net_headers *hdrs[] = {&smt_net_headers_smt, &smt_net_headers_s};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens) * 4; i++) {
        const struct smt_net_headers *hdr = hdrs[i % 2];
        uint32_t len = lens[i / 4], offset = 0;
        unsigned dst = dsts[i / 2 % 2];
        struct smt_net *net = network("accept", NULL);
        uint64_t wire = 0;
        do {
            uint32_t data = smt_net_cut(hdr, len, offset, 10000);
            uint32_t payload = smt_net_payload(hdr, offset, data, 10000);
            assert_true(payload <= FULL);
            assert_true(data > 0 || len == 0);
            say(net, 0, dst, payload, 0, 0);
            wire += smt_net_wire_len(payload);
            offset += data;
        } while (offset < len);
        assert_int_equal(offset, len);
        struct smt_net_cost cost = smt_net_message_cost(hdr, len, 10000);
        assert_true(cost.data_wire == wire);
        go(net);
        uint64_t last = 0;
        for (unsigned k = 0; k < n_seen && k < MAX_SEEN; k++)
            last = seen[k].at > last ? seen[k].at : last;
        uint64_t ideal = smt_net_ideal(net, hdr, 0, dst, len, 10000);
        /* A last packet shorter than the others leaves a spine before them: up to its share. */
        assert_true(last <= ideal && ideal - last < 2 * line(FULL, 200));
        if (dst == 1)
            assert_true(last == ideal);
        settle(net);
    }
}

static void test_ideal_through_a_thin_core(void **state)
{
    struct smt_net *net = network("thin", NULL);
    for (unsigned i = 0; i < 50; i++)
        say(net, 0, 7, FULL, 0, 0);
    go(net);
    uint32_t len = 50 * 1383 - 24;
    assert_true(smt_net_message_cost(&smt_net_headers_smt, len, 10000).n_packets == 50);
    uint64_t ideal = smt_net_ideal(net, &smt_net_headers_smt, 0, 7, len, 10000);
    assert_true(seen[49].at == ideal);
    settle(net);
}

/* Many to one: higher levels first, first come first served within one, nothing interrupted. */
static void test_priorities(void **state)
{
    struct smt_net *net = network("rack", NULL);
    for (unsigned src = 1; src < 9; src++) {
        for (unsigned i = 0; i < 20; i++)
            say(net, src, 0, FULL, src - 1, i);
    }
    go(net);
    assert_int_equal(n_seen, 160);
    unsigned next[9] = {0}, first_of_low = 160, last_of_high = 0;
    for (unsigned i = 0; i < 160; i++) {
        assert_int_equal(seen[i].word, next[seen[i].src]++);
        if (i > 0)
            assert_true(seen[i].at - seen[i - 1].at == line(FULL, 800));
        if (seen[i].level == 7)
            last_of_high = i;
        /* The first packets of all stood there at once; one of them may have begun. */
        if (seen[i].level == 0 && i > 0 && first_of_low == 160)
            first_of_low = i;
    }
    assert_true(last_of_high < 21);
    assert_true(first_of_low >= 140);
    assert_true(net->ports[net->n_hosts].stats.max_queue <= 160 * 1538);
    settle(net);
}

static void test_queue_statistics(void **state)
{
    struct smt_net *net = network("rack", NULL);
    say(net, 1, 0, FULL, 0, 0);
    say(net, 2, 0, FULL, 0, 0);
    say(net, 3, 0, FULL, 0, 0);
    go(net);
    const struct smt_net_port_stats *s = &net->ports[net->n_hosts].stats;
    assert_true(s->max_queue == 2 * 1538 && s->n_packets == 3 && s->n_bytes == 3 * 1538);
    /* One waits for one packet time, one for two. */
    assert_true(s->queue_integral == (unsigned __int128)3 * 1538 * line(FULL, 800));
    assert_true(s->busy_ps == 3 * line(FULL, 800));
    smt_net_stats_reset(net);
    assert_true(s->max_queue == 0 && s->queue_integral == 0);
    settle(net);
}

static void test_finite_buffers(void **state)
{
    struct smt_net_config config;
    smt_preset_fill(smt_preset_find("rack"), &config);
    config.port_buffer = 10 * 1538;
    struct smt_net *net = network(NULL, &config);
    for (unsigned src = 1; src < 9; src++) {
        for (unsigned i = 0; i < 20; i++)
            say(net, src, 0, FULL, 0, i);
    }
    go(net);
    const struct smt_net_port_stats *s = &net->ports[net->n_hosts].stats;
    assert_true(s->max_queue == 10 * 1538);
    assert_true(s->n_dropped > 0 && s->n_dropped == net->n_dropped);
    assert_true(n_seen + net->n_dropped == 160);
    settle(net);
    /* Shared: two ports of one switch fill the same memory. */
    config.port_buffer = 0;
    config.switch_buffer = 10 * 1538;
    net = network(NULL, &config);
    for (unsigned src = 2; src < 10; src++) {
        for (unsigned i = 0; i < 20; i++)
            say(net, src, src % 2, FULL, 0, i);
    }
    go(net);
    assert_true(net->sw_max[0] == 10 * 1538);
    assert_true(net->ports[net->n_hosts].stats.n_dropped > 0);
    assert_true(net->ports[net->n_hosts + 1].stats.n_dropped > 0);
    settle(net);
}

static void test_marks(void **state)
{
    struct smt_net_config config;
    smt_preset_fill(smt_preset_find("rack"), &config);
    config.ecn_bytes = 2 * 1538;
    struct smt_net *net = network(NULL, &config);
    for (unsigned src = 1; src < 9; src++)
        say(net, src, 0, FULL, 0, 0);
    go(net);
    /* One is being sent, two wait; the five after them find as much as the threshold. */
    unsigned marked = 0;
    for (unsigned i = 0; i < n_seen; i++)
        marked += seen[i].ecn == 3;
    assert_int_equal(marked, 5);
    assert_true(net->ports[net->n_hosts].stats.n_marked == 5);
    settle(net);
}

static void test_loss_and_flap(void **state)
{
    struct smt_net_config config;
    smt_preset_fill(smt_preset_find("rack"), &config);
    config.loss_ppm = 100000;
    config.seed = 3;
    struct smt_net *net = network(NULL, &config);
    for (unsigned i = 0; i < 4000; i++)
        say(net, 1, 0, FULL, 0, 0);
    go(net);
    assert_true(net->n_lost > 320 && net->n_lost < 480);
    settle(net);
    config.loss_ppm = 0;
    net = network(NULL, &config);
    for (unsigned i = 0; i < 100; i++)
        say(net, 1, 0, FULL, 0, i);
    smt_net_flap(net, 0, 50 * line(FULL, 800));
    go(net);
    assert_true(net->n_lost > 45 && net->n_lost <= 50);
    assert_int_equal(seen[n_seen - 1].word, 99);
    settle(net);
}

/* Over four spines every one is taken about as often. */
static void test_spray(void **state)
{
    struct smt_net *net = network("accept", NULL);
    for (unsigned i = 0; i < 4000; i++)
        say(net, 0, 47, FULL, 0, i);
    go(net);
    for (unsigned i = 0; i < 4; i++) {
        const struct smt_net_port *up = &net->ports[2 * net->n_hosts + i];
        const struct smt_net_port *down = &net->ports[2 * net->n_hosts + 12 + i * 3 + 2];
        assert_true(up->kind == SMT_NET_TOR_UP && down->kind == SMT_NET_SPINE_DOWN);
        assert_true(up->stats.n_packets > 850 && up->stats.n_packets < 1150);
        assert_true(up->stats.n_packets == down->stats.n_packets);
    }
    assert_int_equal(n_seen, 4000);
    settle(net);
}

static void test_slow_receiver(void **state)
{
    struct smt_net *net = network("rack", NULL);
    net->hosts[0].rx_stall_ps = 5000000;
    for (unsigned i = 0; i < 10; i++)
        say(net, 1, 0, FULL, 0, i);
    go(net);
    for (unsigned i = 1; i < 10; i++) {
        assert_true(seen[i].at - seen[i - 1].at == 5000000);
        assert_int_equal(seen[i].word, i);
    }
    settle(net);
}

static void test_timers(void **state)
{
    struct smt_net *net = network("rack", NULL);
    struct smt_net_host *h = &net->hosts[3];
    last_timer = 0;
    smt_net_set_timer(h, 1000);
    smt_net_set_timer(h, 500); /* earlier */
    smt_net_run(net, 600);
    assert_true(last_timer == 500);
    smt_net_run(net, 2000);
    assert_true(last_timer == 500);
    smt_net_set_timer(h, 3000);
    smt_net_set_timer(h, 4000); /* later */
    smt_net_run(net, 3500);
    assert_true(last_timer == 500);
    smt_net_run(net, 5000);
    assert_true(last_timer == 4000);
    smt_net_set_timer(h, 6000);
    smt_net_set_timer(h, SMT_NEVER);
    smt_net_run(net, 9000);
    assert_true(last_timer == 4000 && smt_net_now(net) == 9000);
    settle(net);
}

static void test_withheld_idle(void **state)
{
    struct smt_net *net = network("pair", NULL);
    struct smt_net_host *h = &net->hosts[0];
    smt_net_run(net, 1000);
    smt_net_set_withheld(h, true);
    smt_net_run(net, 3000);
    smt_net_set_withheld(h, false);
    smt_net_run(net, 4000);
    assert_true(h->withheld_idle_ps == 2000);
    /* Not while its downlink is busy. */
    smt_net_set_withheld(h, true);
    say(net, 1, 0, FULL, 0, 0);
    uint64_t begin = smt_net_now(net);
    go(net);
    smt_net_set_withheld(h, false);
    uint64_t all = smt_net_now(net) - begin;
    assert_true(h->withheld_idle_ps == 2000 + all - line(FULL, 800));
    settle(net);
}

static void test_wrong_configurations(void **state)
{
    struct smt_net_config good, bad;
    smt_preset_fill(smt_preset_find("accept"), &good);
    const struct smt_policy_config pc = {.levels = 8};
    const struct smt_net_hooks hooks = {0};
    struct smt_net *net = NULL;
    struct smt_mem_stats before = smt_mem_live();
#define WRONG(change)                                                                              \
    bad = good;                                                                                    \
    bad.change;                                                                                    \
    assert_int_equal(smt_net_new(&bad, &script, &pc, &hooks, &net), SMT_EINVAL)
    WRONG(n_tors = 0);
    WRONG(n_spines = 0);
    WRONG(host_mbps = 0);
    WRONG(core_mbps = 0);
    WRONG(n_levels = 0);
    WRONG(n_levels = 129);
#undef WRONG
    for (long n = 0;; n++) {
        smt_mem_fail_after(n);
        int rc = smt_net_new(&good, &script, &pc, &hooks, &net);
        bool struck = smt_mem_fail_after(-1) < 0;
        if (!struck) {
            assert_int_equal(rc, 0);
            smt_net_free(net);
            break;
        }
        assert_int_equal(rc, SMT_ENOMEM);
    }
    assert_true(smt_mem_live().n_live == before.n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_one_packet_takes_what_the_formula_says),
        cmocka_unit_test(test_link_delay_counts_on_every_link),
        cmocka_unit_test(test_ideal_is_reached_exactly),
        cmocka_unit_test(test_ideal_through_a_thin_core),
        cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_queue_statistics),
        cmocka_unit_test(test_finite_buffers),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_loss_and_flap),
        cmocka_unit_test(test_spray),
        cmocka_unit_test(test_slow_receiver),
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_withheld_idle),
        cmocka_unit_test(test_wrong_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
