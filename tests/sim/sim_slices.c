/* Records in slices with the index in their headers, as they go over UDP: under loss, duplicates,
 * reordering and corruption, through packets of any size, with peers that do not take them, and
 * with slices that somebody on the path forges. Whatever happens every call runs exactly once, no
 * number seals two different strings, and losses do not multiply. */
#include <stdio.h>

#include "core/conn.h"
#include "pair.h"

static uint64_t counter(const struct sim_host *h, const char *name)
{
    return sim_counter(h->engine, name);
}

struct rig {
    struct pair p;
    struct smt_conn *conn, *back;
};

static void rig_new(struct rig *r, uint64_t seed, const struct sim_link *link,
                    enum checking_cipher cipher)
{
    *r = (struct rig){.p = pair_new(sim_seed(seed), link, cipher)};
    struct sim_host *hosts[2] = {r->p.a, r->p.b};
    for (unsigned i = 0; i < 2; i++) {
        hosts[i]->config.slices = true;
        hosts[i]->run_max = 20000;
    }
}

static void rig_start(struct rig *r)
{
    pair_start(&r->p);
    r->conn = pair_connect(&r->p, &r->back);
}

static void rig_load(struct rig *r, uint32_t n_calls, uint32_t max_len)
{
    pair_load_both(&r->p, r->conn, r->back, n_calls, max_len);
}

static void records_in_slices(void **state)
{
    const struct sim_link *links[] = {&clean_link, &lossy_link};
    for (unsigned i = 0; i < 2; i++) {
        struct rig r;
        rig_new(&r, 400 + i, links[i], CHECKING_FAST);
        rig_start(&r);
        rig_load(&r, (uint32_t)sim_scaled(600), 1 << 20);
        uint64_t sent = counter(r.p.a, "bursts_sent"), rcvd = counter(r.p.b, "bursts_rcvd");
        printf("    %s: %llu records in slices, %llu whole, %llu of all again\n",
               i == 0 ? "clean" : "lossy", (unsigned long long)sent, (unsigned long long)rcvd,
               (unsigned long long)counter(r.p.a, "resent_records"));
        assert_true(sent > 100 || i == 1);
        assert_true(rcvd > 10);
        if (i == 0) {
            assert_int_equal(rcvd, sent);
            assert_int_equal(counter(r.p.b, "bursts_lost"), 0);
            assert_true(counter(r.p.a, "resent_records") * 100 < counter(r.p.a, "records_sealed"));
        }
        pair_free(&r.p);
    }
}

/* Slices of any length, with a real cipher: tags that lie in two of them, messages in many pieces,
 * keys that change meanwhile. */
static void packets_of_any_size(void **state)
{
    static const uint32_t mtus[] = {1024, 1027, 1472, 1473, 2048, 3999, 5400};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(mtus); i++) {
        struct rig r;
        rig_new(&r, 410 + i, &clean_link, CHECKING_AES128_GCM);
        r.p.a->mtu = r.p.b->mtu = mtus[i];
        r.p.a->config.rekey_records = 40;
        rig_start(&r);
        rig_load(&r, (uint32_t)sim_scaled(300), 1 << 16);
        assert_true(counter(r.p.a, "bursts_sent") > 0);
        assert_int_equal(counter(r.p.b, "bursts_rcvd"), counter(r.p.a, "bursts_sent"));
        assert_int_equal(counter(r.p.b, "drop_auth"), 0);
        assert_true(counter(r.p.a, "rekeys") > 0);
        pair_free(&r.p);
    }
}

static void only_to_who_takes_them(void **state)
{
    struct rig r;
    rig_new(&r, 420, &clean_link, CHECKING_FAST);
    r.p.b->config.slices = false;
    rig_start(&r);
    rig_load(&r, 100, 1 << 18);
    assert_int_equal(counter(r.p.a, "bursts_sent"), 0);
    assert_int_equal(counter(r.p.b, "drop_burst"), 0);
    /* The other way they go. */
    assert_true(counter(r.p.b, "bursts_sent") > 0);
    pair_free(&r.p);
}

/* ---- what happens to slices on the way ---- */

static bool is_slice(const struct sim_packet *pkt, struct smt_hdr *hdr)
{
    return smt_hdr_decode(pkt->data, pkt->len, hdr) == 0 && hdr->kind == SMT_KIND_DATA &&
           hdr->slice_len != hdr->record_len;
}

static uint64_t n_touched;

static enum sim_verdict lose_third(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || hdr.index != 2)
        return SIM_PASS;
    n_touched++;
    return SIM_DROP;
}

static enum sim_verdict wrong_index(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || smt_prng_below(&net->rng, 40) > 0)
        return SIM_PASS;
    pkt->data[SMT_HDR_INDEX_AT] = (uint8_t)smt_prng_below(&net->rng, 256);
    n_touched++;
    return SIM_PASS;
}

/* A slice with another byte: whoever is on the path can do that, and forge as much before it. */
static enum sim_verdict forged_bytes(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || smt_prng_below(&net->rng, 40) > 0)
        return SIM_PASS;
    pkt->data[SMT_DATA_HDR_LEN + smt_prng_below(&net->rng, pkt->len - SMT_DATA_HDR_LEN)] ^= 1;
    n_touched++;
    return SIM_PASS;
}

/* A header that does not agree with the others. */
static enum sim_verdict forged_hdr(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || smt_prng_below(&net->rng, 40) > 0)
        return SIM_PASS;
    static const uint8_t at[] = {5, 9, 15, 33, 39, 40, 41, 42, 43};
    pkt->data[at[smt_prng_below(&net->rng, sizeof(at))]] ^=
        (uint8_t)(1 + smt_prng_below(&net->rng, 255));
    n_touched++;
    return SIM_PASS;
}

static enum sim_verdict cut_short(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || smt_prng_below(&net->rng, 40) > 0)
        return SIM_PASS;
    pkt->len = SMT_DATA_HDR_LEN + 1 + smt_prng_below(&net->rng, pkt->len - SMT_DATA_HDR_LEN);
    n_touched++;
    return SIM_PASS;
}

static void whatever_happens_to_slices(void **state)
{
    static const struct {
        const char *what;
        sim_hook *hook;
    } rows[] = {{"the third lost", lose_third},   {"wrong index", wrong_index},
                {"forged bytes", forged_bytes},   {"forged header", forged_hdr},
                {"cut short", cut_short}};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct rig r;
        rig_new(&r, 430 + i, &clean_link, CHECKING_FAST);
        rig_start(&r);
        n_touched = 0;
        r.p.net->hook = rows[i].hook;
        rig_load(&r, (uint32_t)sim_scaled(300), 1 << 19);
        printf("    %s: %llu slices, %llu of %llu records again\n", rows[i].what,
               (unsigned long long)n_touched,
               (unsigned long long)counter(r.p.a, "resent_records"),
               (unsigned long long)counter(r.p.a, "records_sealed"));
        assert_true(n_touched > 5);
        assert_true(counter(r.p.a, "resent_records") > 0);
        pair_free(&r.p);
    }
}

static enum sim_verdict spoil_all(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr hdr;
    if (pkt->from != 0 || !is_slice(pkt, &hdr) || hdr.index != 1)
        return SIM_PASS;
    pkt->data[SMT_DATA_HDR_LEN] ^= 1;
    n_touched++;
    return SIM_PASS;
}

/* Whoever spoils every record ends slices for this session; calls go on without. */
static void every_record_spoiled(void **state)
{
    struct rig r;
    rig_new(&r, 450, &clean_link, CHECKING_FAST);
    rig_start(&r);
    n_touched = 0;
    r.p.net->hook = spoil_all;
    rig_load(&r, 400, 1 << 18);
    assert_true(counter(r.p.b, "singles_asked") >= 1);
    uint64_t sent = counter(r.p.a, "bursts_sent");
    printf("    %llu records sent in slices until then\n", (unsigned long long)sent);
    assert_int_equal(counter(r.p.b, "bursts_bad"), n_touched);
    assert_false(r.conn->may_slice);
    rig_load(&r, 100, 1 << 18);
    assert_int_equal(counter(r.p.a, "bursts_sent"), sent);
    /* The other way nothing has happened. */
    assert_true(r.back->may_slice && counter(r.p.b, "bursts_sent") > 0);
    pair_free(&r.p);
}

/* Where packets are lost, records do not get lost a dozen times as often: what is sent twice stays
 * near what was lost. */
static void losses_do_not_multiply(void **state)
{
    static const struct {
        uint32_t drop, most_pct;
    } rows[] = {{10, 3}, {100, 6}, {500, 20}};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct sim_link link = {.delay = 10 * SMT_USEC, .drop = rows[i].drop};
        uint64_t sent[2];
        for (unsigned slices = 0; slices < 2; slices++) {
            struct rig r;
            rig_new(&r, 440 + i, &link, CHECKING_FAST);
            r.p.a->config.slices = r.p.b->config.slices = slices > 0;
            rig_start(&r);
            rig_load(&r, (uint32_t)sim_scaled(1000), 1 << 19);
            sent[slices] = r.p.a->bytes_sent + r.p.b->bytes_sent;
            printf("    %u of 10,000 lost, %s: %llu MB sent, %llu of %llu packets in slices, "
                   "%.1f ms\n",
                   rows[i].drop, slices ? "slices" : "single packets",
                   (unsigned long long)(sent[slices] >> 20),
                   (unsigned long long)(counter(r.p.a, "packets_sent_data") -
                                        counter(r.p.a, "records_sealed") +
                                        counter(r.p.a, "bursts_sent")),
                   (unsigned long long)counter(r.p.a, "packets_sent_data"),
                   (double)r.p.net->now / 1e6);
            pair_free(&r.p);
        }
        assert_true(sent[1] * 100 < sent[0] * (100 + rows[i].most_pct));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_in_slices),
        cmocka_unit_test(packets_of_any_size),
        cmocka_unit_test(only_to_who_takes_them),
        cmocka_unit_test(whatever_happens_to_slices),
        cmocka_unit_test(every_record_spoiled),
        cmocka_unit_test(losses_do_not_multiply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
