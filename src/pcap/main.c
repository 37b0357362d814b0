/* smt_pcap: what a capture holds. docs/man/smt_pcap.1. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pcap/inspect.h"
#include "pcap/keys.h"

enum { EXIT_BROKEN = 1, EXIT_USAGE = 2, DEFAULT_MTU = 1500 };

struct options {
    const char *file, *keys, *profile;
    struct smt_inspect_config config;
    bool json, quiet;
};

struct totals {
    uint64_t n_packets, n_ours, n_broken;
    bool any_packet, any_fault; /* for JSON's commas */
};

static const char usage[] =
    "usage: smt_pcap FILE --profile homa-main|homa-6.1|smt1|smt2\n"
    "                [--keys FILE] [--mtu N] [--port N] [--json] [--quiet]\n"
    "\n"
    "Says of each packet of a capture what it is and which rule it breaks, and of each\n"
    "message its RPC, length and SHA-256. Exit code 1 when a packet breaks a rule.\n";

static bool profile_find(const char *name, struct smt_inspect_config *config)
{
    static const struct smt_homa_format *const formats[] = {&smt_homa_main, &smt_homa_6_1,
                                                            &smt_homa_smt1};
    for (size_t i = 0; i < SMT_ARRAY_LEN(formats); i++) {
        if (strcmp(formats[i]->name, name) == 0) {
            config->format = formats[i];
            return true;
        }
    }
    config->format = NULL;
    return strcmp(name, "smt2") == 0;
}

static bool number_parse(const char *text, unsigned long max, unsigned long *out)
{
    char *end;
    *out = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && *out > 0 && *out <= max;
}

static int usage_fail(const char *what)
{
    fprintf(stderr, "smt_pcap: %s\n%s", what, usage);
    return -1;
}

/* 1: go on; 0: done; -1: wrong use. */
static int options_parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"profile", required_argument, NULL, 'p'}, {"keys", required_argument, NULL, 'k'},
        {"mtu", required_argument, NULL, 'm'},     {"port", required_argument, NULL, 'P'},
        {"json", no_argument, NULL, 'j'},          {"quiet", no_argument, NULL, 'q'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    *o = (struct options){.config.mtu = DEFAULT_MTU};
    unsigned long n;
    int c;
    while ((c = getopt_long(argc, argv, "p:k:qh", longs, NULL)) != -1) {
        switch (c) {
        case 'p':
            o->profile = optarg;
            break;
        case 'k':
            o->keys = optarg;
            break;
        case 'm':
            if (!number_parse(optarg, 65535, &n))
                return usage_fail("an MTU is a number of bytes");
            o->config.mtu = (uint32_t)n;
            break;
        case 'P':
            if (!number_parse(optarg, 65535, &n))
                return usage_fail("a port is 1 to 65535");
            o->config.port = (uint16_t)n;
            break;
        case 'j':
            o->json = true;
            break;
        case 'q':
            o->quiet = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return -1;
        }
    }
    if (optind + 1 != argc)
        return usage_fail("one file is wanted");
    o->file = argv[optind];
    if (o->profile == NULL || !profile_find(o->profile, &o->config))
        return usage_fail("--profile is homa-main, homa-6.1, smt1 or smt2");
    if (o->keys != NULL && (o->config.format == NULL || !o->config.format->records))
        return usage_fail("keys are of use for profile smt1 alone");
    return 1;
}

/* Everything that is printed here is ASCII without quotes and backslashes. */
static void packet_print(const struct options *o, const struct smt_cap_packet *p,
                         const struct smt_inspect_line *line, uint64_t start_ns, struct totals *t)
{
    uint64_t us = (p->time_ns - start_ns) / SMT_USEC;
    bool broken = line->fault[0] != '\0';
    if (o->json) {
        if (o->quiet && !broken)
            return;
        printf("%s\n    {\"number\": %" PRIu64 ", \"time_us\": %" PRIu64
               ", \"ours\": %s, \"text\": \"%s\"",
               t->any_packet ? "," : "", p->number, us, line->is_ours ? "true" : "false",
               line->text);
        if (broken)
            printf(", \"fault\": \"%s\"", line->fault);
        printf("}");
        t->any_packet = true;
        return;
    }
    if (!o->quiet)
        printf("%6" PRIu64 " %10.6f %s\n", p->number, (double)us / 1e6, line->text);
    if (broken)
        printf("packet %" PRIu64 " breaks a rule: %s\n", p->number, line->fault);
}

static void sha_text(const struct smt_inspect_message *m, char out[2 * SMT_INSPECT_SHA_LEN + 1])
{
    for (unsigned i = 0; i < SMT_INSPECT_SHA_LEN; i++)
        snprintf(out + 2 * i, 3, "%02x", m->sha[i]);
}

static void message_print(const struct options *o, const struct smt_inspect_message *m, bool first)
{
    char sha[2 * SMT_INSPECT_SHA_LEN + 1] = "";
    const char *direction = m->id & 1 ? "response" : "request";
    if (m->is_complete)
        sha_text(m, sha);
    if (o->json) {
        printf("%s\n    {\"id\": %" PRIu64 ", \"direction\": \"%s\", \"from_port\": %u, "
               "\"to_port\": %u, \"length\": %u, \"seen\": %u, \"packets\": %u, \"again\": %u, "
               "\"records\": %u, \"complete\": %s, \"sha256\": \"%s\"}",
               first ? "" : ",", m->id, direction, m->from.port, m->to.port, m->len, m->got,
               m->n_packets, m->n_again, m->n_records, m->is_complete ? "true" : "false", sha);
        return;
    }
    printf("rpc %" PRIu64 " %s port %u > %u: %u bytes in %u packets", m->id, direction,
           m->from.port, m->to.port, m->len, m->n_packets);
    if (m->n_again > 0)
        printf(" (%u again)", m->n_again);
    if (m->is_complete)
        printf(", sha256 %s\n", sha);
    else if (m->is_opaque)
        printf(", sealed: %u bytes seen, no key\n", m->got);
    else
        printf(", incomplete: %u bytes seen\n", m->got);
}

/* The file's packets in turn. 0, or a code of error.h. */
static int packets_walk(const struct options *o, struct smt_capture *c, struct smt_inspect *in,
                        struct totals *t)
{
    struct smt_cap_packet p;
    struct smt_inspect_line line;
    uint64_t start_ns = 0;
    int r;
    while ((r = smt_capture_next(c, &p)) > 0) {
        if (t->n_packets++ == 0)
            start_ns = p.time_ns;
        if (p.time_ns < start_ns)
            start_ns = p.time_ns;
        r = smt_inspect_packet(in, &p, &line);
        if (r < 0)
            return r;
        t->n_ours += line.is_ours;
        t->n_broken += line.fault[0] != '\0';
        packet_print(o, &p, &line, start_ns, t);
    }
    return r;
}

static void end_print(const struct options *o, const struct smt_inspect *in, const struct totals *t)
{
    const struct smt_inspect_message *m = smt_inspect_messages(in);
    uint64_t n_messages = 0, n_complete = 0;
    if (o->json)
        printf("\n  ],\n  \"messages\": [");
    for (; m != NULL; m = m->next) {
        message_print(o, m, n_messages == 0);
        n_messages++;
        n_complete += m->is_complete;
    }
    if (o->json)
        printf("\n  ],\n  \"total\": %" PRIu64 ", \"ours\": %" PRIu64 ", \"broken\": %" PRIu64
               "\n}\n",
               t->n_packets, t->n_ours, t->n_broken);
    else
        printf("%" PRIu64 " packets, %" PRIu64 " of %s, %" PRIu64 " against the rules; %" PRIu64
               " messages, %" PRIu64 " complete\n",
               t->n_packets, t->n_ours, o->profile, t->n_broken, n_messages, n_complete);
}

static int run(const struct options *o)
{
    char text[512];
    struct smt_capture c;
    struct smt_inspect *in = NULL;
    struct totals t = {0};
    int r = smt_capture_open(&c, o->file, text, sizeof(text));
    if (r < 0) {
        fprintf(stderr, "smt_pcap: %s\n", text);
        smt_capture_close(&c);
        return EXIT_USAGE;
    }
    r = smt_inspect_new(&o->config, &in);
    if (r == 0) {
        if (o->json)
            printf("{\n  \"profile\": \"%s\",\n  \"packets\": [", o->profile);
        r = packets_walk(o, &c, in, &t);
        end_print(o, in, &t);
    }
    smt_inspect_free(in);
    smt_capture_close(&c);
    if (r < 0)
        fprintf(stderr, "smt_pcap: %s: %s\n", o->file,
                r == SMT_EMALFORMED ? "the file ends inside a packet" : smt_strerror(r));
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("smt_pcap");
        return EXIT_USAGE;
    }
    return r < 0 ? EXIT_USAGE : t.n_broken > 0 ? EXIT_BROKEN : 0;
}

int main(int argc, char **argv)
{
    struct options o;
    char text[512];
    int r = options_parse(argc, argv, &o);
    if (r <= 0)
        return r == 0 ? 0 : EXIT_USAGE;
    if (o.keys != NULL && smt_inspect_keys_read(o.keys, &o.config, text, sizeof(text)) < 0) {
        fprintf(stderr, "smt_pcap: %s\n", text);
        return EXIT_USAGE;
    }
    r = run(&o);
    smt_wipe(&o.config, sizeof(o.config));
    return r;
}
