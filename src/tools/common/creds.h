/* Device and credentials of a tool: options and environment in, an open context out. */
#ifndef SMT_TOOLS_CREDS_H
#define SMT_TOOLS_CREDS_H

#include <stdbool.h>

#include <smt/smt.h>

#include "opt.h"

struct creds {
    const char *device, *gid, *cert, *key, *ca, *crl, *psk_file, *pins, *cipher, *cipher_impl, *tap;
    const char *profile, *keys;
    bool plaintext;
    bool client_cert_optional;
    bool verbose;
};

/* Rows of an option table: `at(member)` gives the offset of a creds member in the caller's
 * struct. */
#define CREDS_OPTIONS(at)                                                                          \
    {'d', "device", "DEVICE", OPT_STRING, at(device), 0, 0,                                        \
     "device, as smt_info lists them (udp)"},                                                      \
    {'x', "gid-index", "N", OPT_STRING, at(gid), 0, 0,                                             \
     "ud: index of the GID to send from (by route)"},                                              \
    {0, "cert", "FILE", OPT_STRING, at(cert), 0, 0, "our certificate chain, PEM ($SMT_CERT)"},     \
    {0, "key", "FILE", OPT_STRING, at(key), 0, 0, "its private key, PEM ($SMT_KEY)"},              \
    {0, "ca", "FILE", OPT_STRING, at(ca), 0, 0, "whom to trust, PEM ($SMT_CA)"},                   \
    {0, "crl", "FILE", OPT_STRING, at(crl), 0, 0, "revoked certificates, PEM, beside --ca"},       \
    {0, "pin", "PIN", OPT_STRING, at(pins), 0, 0, "sha256//BASE64 of the peer's public key"},      \
    {0, "psk-file", "FILE", OPT_STRING, at(psk_file), 0, 0,                                        \
     "one line identity:hexkey ($SMT_PSK_FILE)"},                                                  \
    {0, "plaintext", NULL, OPT_FLAG, at(plaintext), 0, 0, "no security at all, on both sides"},    \
    {0, "profile", "NAME", OPT_STRING, at(profile), 0, 0,                                          \
     "wire format: smt2, homa-main, homa-6.1, smt1 (smt2)"},                                       \
    {0, "keys", "FILE", OPT_STRING, at(keys), 0, 0,                                                \
     "smt1: lines \"client KEY SALT\", \"server KEY SALT\""},                                      \
    {0, "client-cert-optional", NULL, OPT_FLAG, at(client_cert_optional), 0, 0,                    \
     "server: take clients without a certificate"},                                                \
    {0, "cipher", "NAMES", OPT_STRING, at(cipher), 0, 0,                                           \
     "aes-128-gcm, aes-256-gcm; a list, best first"},                                              \
    {0, "cipher-impl", "NAME", OPT_STRING, at(cipher_impl), 0, 0, "auto, openssl or ipsec-mb"},    \
    {0, "tap", "SPEC", OPT_STRING, at(tap), 0, 0, NULL},                                           \
    {'v', "verbose", NULL, OPT_FLAG, at(verbose), 0, 0, "show the library's log"}

/* Opens a context. The environment counts only where the command line gives no credentials at all.
 * Returns TOOL_OK, or another exit code after one line on standard error. *out is given. */
int creds_open(const struct creds *creds, struct smt_ctx **out);

/* Whether the profile is ours, not one of the kernel's. */
bool creds_is_native(const struct creds *creds);

/* The library's line on its last failure if it has one, else what the code means. */
const char *creds_error(const struct smt_ctx *ctx, int error);

/* "certificate", "pinned key", "psk", "none". */
const char *creds_auth_name(enum smt_session_auth auth);

#endif
