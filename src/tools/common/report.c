/* Rules, order and units of the table are perftest's, so that people and scripts find their way;
 * two things differ on purpose: smt_lat shows whole round trips, not halves, and no sample is
 * left out of a maximum. MB is 10^6 bytes. Bandwidth counts request and response bytes. */
#include "report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "progress.h"
#include "say.h"

static const char rule[] = "-----------------------------------------------------------------------"
                           "----------------------------------------";

const char *const sealed_names[N_SEALED] = {
    [SEALED] = "records_sealed",       [SEALED_NIC] = "records_sealed_nic",
    [NIC_TESTS] = "nic_tests",         [NIC_NOT_READY] = "nic_not_ready",
    [NIC_NOT_AGAIN] = "nic_not_again", [NIC_NOT_WORTH] = "nic_not_worth",
};

static FILE *open_file(const char *path)
{
    FILE *f = fopen(path, "w");
    if (f == NULL) {
        say_error("cannot write %s: %s", path, strerror(errno));
    }
    return f;
}

int report_open(struct report *r, const struct options *o)
{
    *r = (struct report){.options = o, .table = stdout};
    if (o->json.wanted) {
        r->json = o->json.path != NULL ? open_file(o->json.path) : stdout;
        if (r->json == NULL) {
            return TOOL_USAGE;
        }
        r->table = o->json.path != NULL ? stdout : stderr;
    }
    if (o->hdr_file != NULL) {
        r->hdr = open_file(o->hdr_file);
        if (r->hdr == NULL) {
            return TOOL_USAGE;
        }
    }
    return TOOL_OK;
}

static const char *mode_text(const struct options *o)
{
    return o->one_way                  ? "one-way message, to its acknowledgement"
           : o->tool == BENCH_LAT      ? "RPC, full round trip (not halved)"
                                       : "RPC, request and response counted";
}

void report_banner(struct report *r, const struct smt_session_info *peer)
{
    const struct options *o = r->options;
    FILE *f = r->table;
    r->peer = *peer;
    progress_clear();
    fprintf(f, "%s\n%38s%s\n", rule, "",
            o->tool == BENCH_LAT ? "SMT Round-Trip Latency Test" : "SMT Bandwidth Test");
    fprintf(f, " Device          : %-24s Profile         : smt2\n",
            o->creds.device != NULL ? o->creds.device : "udp");
    fprintf(f, " Peer            : %-24s Identity        : %s\n", peer->peer,
            peer->identity[0] != '\0' ? peer->identity : "-");
    char cipher[64];
    snprintf(cipher, sizeof(cipher), "%s (%s)", peer->cipher,
             peer->cipher_impl[0] != '\0' ? peer->cipher_impl : "-");
    fprintf(f, " Cipher          : %-24s Authentication  : %s\n", cipher,
            creds_auth_name(peer->auth));
    fprintf(f, " Handshake       : %-24.1f MTU             : %u\n",
            (double)peer->handshake_ns / 1e3, peer->mtu);
    fprintf(f, " Threads         : %-24llu Sessions        : %llu per thread\n",
            (unsigned long long)o->threads, (unsigned long long)o->sessions);
    fprintf(f, " Waiting         : %-24s Contents        : %s\n", o->events ? "events" : "polling",
            o->verify ? "verified" : "not looked at");
    fprintf(f, " Message         : %s\n", mode_text(o));
    if (o->rate > 0) {
        fprintf(f, " Rate            : %g RPC/s, latency from the intended time of sending\n",
                o->rate);
    }
    fprintf(f, "%s\n", rule);
    if (o->tool == BENCH_LAT) {
        fprintf(f, " #bytes     #iterations    t_min[usec]    t_max[usec]  t_typical[usec]"
                   "    t_avg[usec]    t_stdev[usec]   90%%[usec]   99%%[usec]   99.9%%[usec]\n");
    } else {
        fprintf(f, " #bytes     #resp      #iterations   depth    BW average[%s]   MsgRate[Mpps]"
                   "   50%%[usec]   90%%[usec]   99%%[usec]   99.9%%[usec]\n",
                o->gbits ? "Gb/sec" : "MB/sec");
    }
    fflush(f);
}

static double rate_of(const struct result *x)
{
    return x->seconds > 0 ? (double)x->iterations / x->seconds : 0;
}

static double gbps_of(const struct result *x)
{
    return rate_of(x) * (double)(x->size + x->resp_size) * 8 / 1e9;
}

static double usec(const struct hist *h, double percent)
{
    return hist_percentile(h, percent) / 1e3;
}

static void print_row(const struct report *r, const struct result *x)
{
    const struct hist *h = &x->hist;
    FILE *f = r->table;
    progress_clear();
    if (r->options->tool == BENCH_LAT) {
        fprintf(f,
                " %-10llu %-12llu   %-12.2f   %-11.2f  %-15.2f    %-11.2f    %-13.2f   %-9.2f"
                "   %-9.2f   %.2f\n",
                (unsigned long long)x->size, (unsigned long long)x->iterations,
                h->count != 0 ? (double)h->min / 1e3 : 0.0, (double)h->max / 1e3, usec(h, 50),
                hist_mean(h) / 1e3, hist_stdev(h) / 1e3, usec(h, 90), usec(h, 99), usec(h, 99.9));
    } else {
        fprintf(f,
                " %-10llu %-10llu %-11llu   %-5llu    %-18.2f   %-13.6f   %-9.2f   %-9.2f   %-9.2f"
                "   %.2f\n",
                (unsigned long long)x->size, (unsigned long long)x->resp_size,
                (unsigned long long)x->iterations, (unsigned long long)x->depth,
                r->options->gbits ? gbps_of(x) : gbps_of(x) * 1e3 / 8, rate_of(x) / 1e6,
                usec(h, 50), usec(h, 90), usec(h, 99), usec(h, 99.9));
    }
    if (r->options->histogram) {
        hist_dump(h, f);
    }
    fflush(f);
    if (r->hdr != NULL) {
        fprintf(r->hdr, "#[Size    = %12llu]\n", (unsigned long long)x->size);
        hist_print_hgrm(h, r->hdr);
    }
}

int report_add(struct report *r, const struct result *result)
{
    struct result *more = realloc(r->results, (r->n_results + 1) * sizeof(*more));
    if (more == NULL) {
        return SMT_ENOMEM;
    }
    r->results = more;
    r->results[r->n_results++] = *result;
    print_row(r, result);
    return 0;
}

static const char *auth_word(enum smt_session_auth auth)
{
    static const char *const words[] = {"none", "cert", "pin", "psk"};
    return (unsigned)auth < sizeof(words) / sizeof(words[0]) ? words[auth] : "unknown";
}

static void write_result(struct json *j, const struct result *x)
{
    const struct hist *h = &x->hist;
    json_open_object(j, NULL);
    json_uint(j, "size", x->size);
    json_uint(j, "resp_size", x->resp_size);
    json_uint(j, "depth", x->depth);
    json_uint(j, "sessions", x->sessions);
    json_uint(j, "threads", x->threads);
    json_uint(j, "iterations", x->iterations);
    json_real(j, "seconds", x->seconds);
    json_real(j, "min_us", h->count != 0 ? (double)h->min / 1e3 : 0);
    json_real(j, "p50_us", usec(h, 50));
    json_real(j, "p90_us", usec(h, 90));
    json_real(j, "p99_us", usec(h, 99));
    json_real(j, "p999_us", usec(h, 99.9));
    json_real(j, "max_us", (double)h->max / 1e3);
    json_real(j, "avg_us", hist_mean(h) / 1e3);
    json_real(j, "stdev_us", hist_stdev(h) / 1e3);
    json_real(j, "rpc_per_s", rate_of(x));
    json_real(j, "gbps", gbps_of(x));
    json_real(j, "cpu_s", x->cpu_s);
    json_real(j, "server_cpu_s", (double)x->server_cpu_ns / 1e9);
    json_uint(j, "server_messages", x->server_messages);
    json_uint(j, "errors", x->errors);
    json_close_object(j);
}

static void write_json(struct report *r)
{
    const struct options *o = r->options;
    struct json j;
    json_init(&j, r->json);
    json_open_object(&j, NULL);
    json_string(&j, "tool", options_tool_name(o->tool));
    json_string(&j, "version", smt_version());
    json_string(&j, "device", o->creds.device != NULL ? o->creds.device : "udp");
    json_string(&j, "profile", o->creds.profile != NULL ? o->creds.profile : "smt2");
    json_string(&j, "cipher", r->peer.cipher);
    json_string(&j, "cipher_impl", r->peer.cipher_impl);
    json_string(&j, "auth", auth_word(r->peer.auth));
    json_string(&j, "crypto", r->sealed[SEALED_NIC] > 0 ? "nic" : "cpu");
    json_string(&j, "sealing", r->sealing);
    for (unsigned k = 0; k < N_SEALED; k++) {
        json_uint(&j, sealed_names[k], r->sealed[k]);
    }
    json_real(&j, "handshake_us", (double)r->peer.handshake_ns / 1e3);
    json_string(&j, "peer", r->peer.peer);
    json_uint(&j, "mtu", r->peer.mtu);
    json_bool(&j, "one_way", o->one_way);
    json_bool(&j, "events", o->events);
    json_bool(&j, "verify", o->verify);
    json_real(&j, "rate", o->rate);
    json_open_array(&j, "results");
    for (unsigned i = 0; i < r->n_results; i++) {
        write_result(&j, &r->results[i]);
    }
    json_close_array(&j);
    json_close_object(&j);
}

static int close_file(FILE *f, const char *name)
{
    bool bad = ferror(f) != 0;
    bad = (f == stdout ? fflush(f) : fclose(f)) != 0 || bad;
    if (bad) {
        say_error("writing %s failed", name);
        return TOOL_ERRORS;
    }
    return TOOL_OK;
}

int report_close(struct report *r)
{
    int rc = TOOL_OK;
    progress_clear();
    if (r->n_results > 0) {
        fprintf(r->table, "%s\n crypto: %s, %llu of %llu records sealed by the NIC%s%s%s\n", rule,
                r->sealed[SEALED_NIC] > 0 ? "nic" : "cpu",
                (unsigned long long)r->sealed[SEALED_NIC], (unsigned long long)r->sealed[SEALED],
                r->sealing[0] != '\0' ? " (" : "", r->sealing, r->sealing[0] != '\0' ? ")" : "");
        fflush(r->table);
    }
    if (r->json != NULL) {
        if (r->n_results > 0) {
            write_json(r);
        }
        rc = close_file(r->json, r->options->json.path != NULL ? r->options->json.path : "JSON");
    }
    if (r->hdr != NULL) {
        int hdr_rc = close_file(r->hdr, r->options->hdr_file);
        rc = rc != TOOL_OK ? rc : hdr_rc;
    }
    free(r->results);
    r->results = NULL;
    return rc;
}
