/* Writes a capture of two simulated engines over a bad network, with real AES-GCM and frequent
 * rekeys, and prints the epoch-1 secret of each session: food for decode_smt2.py, so that what core
 * really sends is held against docs/wire.md by a decoder that shares nothing with it.
 *
 * gen_capture FILE 128|256 */
#include <stdio.h>

#include "../sim/pair.h"
#include "wire/wire.h"

enum { N_CALLS = 150, MAX_SESSIONS = 8 };

static const char *capture_file;
static enum checking_cipher cipher = CHECKING_AES128_GCM;

/* Sessions whose secret has been printed, by the initiator's id. */
static uint64_t told[MAX_SESSIONS];
static unsigned n_told;

static void tell(uint64_t initiator_id, uint64_t responder_id)
{
    for (unsigned i = 0; i < n_told; i++)
        if (told[i] == initiator_id)
            return;
    if (n_told == MAX_SESSIONS)
        return;
    told[n_told++] = initiator_id;
    uint8_t secret[SMT_SECRET_LEN];
    sim_secret(initiator_id, responder_id, secret);
    printf("secret ");
    for (size_t i = 0; i < sizeof(secret); i++)
        printf("%02x", secret[i]);
    printf("\n");
}

static enum sim_verdict watch(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_hdr h;
    if (smt_hdr_decode(pkt->data, pkt->len, &h) == 0 && h.kind == SMT_KIND_HANDSHAKE &&
        h.session_id != 0) {
        bool initiator = h.epoch & 1;
        tell(initiator ? h.source_id : h.session_id, initiator ? h.session_id : h.source_id);
    }
    return SIM_PASS;
}

static void capture(void **state)
{
    struct simnet_config config = {.seed = sim_seed(7),
                                   .n_hosts = 2,
                                   .aead = checking_aead(cipher),
                                   .link = lossy_link,
                                   .pcap = capture_file};
    struct pair p = {.net = simnet_new(&config)};
    p.a = &p.net->hosts[0];
    p.b = &p.net->hosts[1];
    p.a->config.rekey_records = p.b->config.rekey_records = 400;
    p.a->config.slices = p.b->config.slices = true;
    p.a->run_max = p.b->run_max = 20000;
    p.net->hook = watch;
    p.app = sim_app_new(p.net);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config load = {.n_calls = N_CALLS,
                                   .window = 32,
                                   .max_len = 1 << 16,
                                   .max_resp = 1 << 13,
                                   .one_way = 30,
                                   .serve_ns = 200 * SMT_USEC};
    sim_app_load_on(p.app, p.a, conn, &load);
    sim_app_load_on(p.app, p.b, back, &load);
    sim_app_load(p.app, p.b, p.a, &load);
    sim_app_finish(p.app, SMT_NEVER - 1);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    printf("requests %llu messages %llu responses %llu\n", (unsigned long long)s->requests,
           (unsigned long long)s->messages, (unsigned long long)s->responses);
    pair_free(&p);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: gen_capture FILE 128|256\n");
        return 2;
    }
    capture_file = argv[1];
    if (strcmp(argv[2], "256") == 0)
        cipher = CHECKING_AES256_GCM;
    const struct CMUnitTest tests[] = {cmocka_unit_test(capture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
