/* smt_cp: the command line, the credentials, and what both sides use. */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cp.h"
#include "progress.h"

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

bool cp_stopped(void)
{
    return stopped != 0;
}

uint64_t cp_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void cp_error(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *p = text; *p != '\0'; p++) {
        *p = *p == '\n' || *p == '\r' || *p == '\033' ? '?' : *p; /* names are other people's */
    }
    progress_erase();
    fprintf(stderr, "smt_cp: %s\n", text);
}

const char *cp_reason(const struct smt_ctx *ctx, int error)
{
    const char *text = smt_error_text(ctx);
    return text != NULL && text[0] != '\0' ? text : smt_strerror(error);
}

void cp_device_event(const struct smt_event *event)
{
    if (event->type == SMT_EV_DEVICE_DOWN) {
        cp_error("the device's port is down: waiting for its link");
    } else if (event->type == SMT_EV_DEVICE_UP) {
        cp_error("the device's port is up again");
    }
}

static const char usage[] =
    "smt_cp: copies files and directory trees over an encrypted session\n"
    "\n"
    "usage: smt_cp serve [options] DIR                       receive into DIR\n"
    "       smt_cp send [options] SOURCE... HOST[:PORT]:DIR  send; DIR is below the server's\n"
    "\n"
    "  -d, --device DEVICE     device, as smt_info lists them (udp)\n"
    "  -x, --gid-index N       ud: index of the GID to send from (by route)\n"
    "  -p, --port PORT         UDP port (18515); server: 0 = any\n"
    "      --cert FILE         our certificate chain, PEM ($SMT_CERT)\n"
    "      --key FILE          its private key, PEM ($SMT_KEY)\n"
    "      --ca FILE           whom to trust, PEM ($SMT_CA)\n"
    "      --pin PIN           sha256//BASE64 of the peer's public key\n"
    "      --psk-file FILE     one line identity:hexkey ($SMT_PSK_FILE)\n"
    "      --plaintext         no security at all, on both sides\n"
    "      --cipher NAMES      aes-128-gcm, aes-256-gcm; a list, best first\n"
    "      --verify-name NAME  name the server must prove (the host given)\n"
    "      --bind ADDRESS      local address (all)\n"
    "      --deadline SECONDS  give up on a silent server after (10)\n"
    "      --all-links         serve: take links that lead out of DIR as well\n"
    "      --once              serve: exit after the first sender\n"
    "  -q, --quiet             no progress bar\n"
    "  -V, --version           print the version\n"
    "  -h, --help              print this\n"
    "\n"
    "SOURCE arrives as DIR/SOURCE, \"SOURCE/\" as DIR. Run the same command again to resume.\n";

static const struct option long_options[] = {
    {"device", 1, NULL, 'd'},      {"gid-index", 1, NULL, 'x'},
    {"port", 1, NULL, 'p'},        {"cert", 1, NULL, 'c'},      {"key", 1, NULL, 'k'},
    {"ca", 1, NULL, 'a'},          {"pin", 1, NULL, 'P'},       {"psk-file", 1, NULL, 's'},
    {"plaintext", 0, NULL, 'X'},   {"cipher", 1, NULL, 'C'},    {"verify-name", 1, NULL, 'n'},
    {"bind", 1, NULL, 'b'},        {"deadline", 1, NULL, 'D'},  {"all-links", 0, NULL, 'l'},
    {"once", 0, NULL, 'o'},        {"tap", 1, NULL, 't'},       {"quiet", 0, NULL, 'q'},
    {"version", 0, NULL, 'V'},     {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0},
};

static int number(const char *text, double min, double max, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !(*out >= min && *out <= max)) {
        cp_error("%s: must be a number from %g to %g", text, min, max);
        return -1;
    }
    return 0;
}

/* 0, or -1 after one line; -V and -h exit here. */
static int read_options(int argc, char **argv, struct cp_options *o)
{
    double value;
    *o = (struct cp_options){.port = SMT_DEFAULT_PORT, .deadline_s = 10};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":d:p:qx:Vh", long_options, NULL)) != -1;) {
        switch (c) {
        case 'p':
            if (number(optarg, 0, 65535, &value) != 0) {
                return -1;
            }
            o->port = (uint16_t)value;
            break;
        case 'D':
            if (number(optarg, 0.01, 1e6, &o->deadline_s) != 0) {
                return -1;
            }
            break;
        case 'd': o->device = optarg; break;
        case 'c': o->cert = optarg; break;
        case 'k': o->key = optarg; break;
        case 'a': o->ca = optarg; break;
        case 'P': o->pins = optarg; break;
        case 's': o->psk_file = optarg; break;
        case 'x': o->gid = optarg; break;
        case 'X': o->plaintext = true; break;
        case 'C': o->cipher = optarg; break;
        case 'n': o->verify_name = optarg; break;
        case 'b': o->bind_host = optarg; break;
        case 'l': o->all_links = true; break;
        case 'o': o->once = true; break;
        case 't': o->tap = optarg; break;
        case 'q': o->quiet = true; break;
        case 'V': printf("smt_cp %s\n", smt_version()); exit(CP_OK);
        case 'h': fputs(usage, stdout); exit(CP_OK);
        default:
            cp_error("%s: %s (try -h)", argv[optind - 1],
                     c == ':' ? "needs an argument" : "unknown option");
            return -1;
        }
    }
    return 0;
}

static const char *from_env(const char *option, const char *name)
{
    const char *value = getenv(name);
    return option != NULL ? option : value != NULL && value[0] != '\0' ? value : NULL;
}

/* The environment counts only where the command line gives no credentials of another kind. */
static int open_context(const struct cp_options *o, struct smt_ctx **out)
{
    char text[640] = "", device[256];
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.device = o->device;
    if (o->gid != NULL) {
        snprintf(device, sizeof(device), "%s,gid=%s", o->device != NULL ? o->device : "udp",
                 o->gid);
        config.device = device;
    }
    config.cert_file = o->cert;
    config.key_file = o->key;
    config.ca_file = o->ca;
    config.pins = o->pins;
    config.psk_file = o->psk_file;
    config.plaintext = o->plaintext;
    config.cipher = o->cipher;
    config.tap = o->tap;
    config.error_text = text;
    config.error_text_len = sizeof(text);
    if (!o->plaintext && o->psk_file == NULL) {
        config.cert_file = from_env(o->cert, "SMT_CERT");
        config.key_file = from_env(o->key, "SMT_KEY");
        config.ca_file = from_env(o->ca, "SMT_CA");
        if (config.cert_file == NULL && config.ca_file == NULL && config.pins == NULL) {
            config.psk_file = from_env(NULL, "SMT_PSK_FILE");
        }
    }
    int rc = smt_ctx_open(&config, out);
    if (rc != 0) {
        cp_error("%s", text[0] != '\0' ? text : smt_strerror(rc));
        return CP_CONNECTION;
    }
    if (o->plaintext) {
        fputs("*** WARNING: --plaintext: NOTHING is encrypted and NOBODY is authenticated. ***\n",
              stderr);
    }
    return CP_OK;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int main(int argc, char **argv)
{
    struct cp_options options;
    if (read_options(argc, argv, &options) != 0) {
        return CP_USAGE;
    }
    argc -= optind;
    argv += optind;
    bool serves = argc == 2 && strcmp(argv[0], "serve") == 0;
    bool sends = argc >= 3 && strcmp(argv[0], "send") == 0;
    if (!serves && !sends) {
        cp_error("say 'serve DIR' or 'send SOURCE... HOST[:PORT]:DIR' (try -h)");
        return CP_USAGE;
    }
    struct smt_ctx *ctx;
    int rc = open_context(&options, &ctx);
    if (rc != CP_OK) {
        return rc;
    }
    catch_signals();
    /* A resolver that does not answer must not outlast the deadline. */
    setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
    rc = serves ? cp_serve(&options, ctx, argv[1])
                : cp_send(&options, ctx, argv + 1, argc - 2, argv[argc - 1]);
    int closed = smt_ctx_close(ctx);
    if (closed != 0) {
        cp_error("closing: %s", smt_strerror(closed));
    }
    return rc;
}
