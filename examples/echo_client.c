/* The smallest client: sends a text, prints what comes back. Certificates from SMT_CERT, SMT_KEY
 * and SMT_CA. echo_client HOST[:PORT] TEXT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <smt/smt.h>

static const uint64_t five_seconds = UINT64_C(5000000000);

int main(int argc, char **argv)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    struct smt_ctx *ctx = NULL;
    struct smt_ep *ep = NULL;
    struct smt_session *session;
    char error[256] = "", reply[4096];
    if (argc != 3) {
        fprintf(stderr, "usage: echo_client HOST[:PORT] TEXT\n");
        return 1;
    }
    config.cert_file = getenv("SMT_CERT");
    config.key_file = getenv("SMT_KEY");
    config.ca_file = getenv("SMT_CA");
    config.error_text = error;
    config.error_text_len = sizeof(error);
    if (smt_ctx_open(&config, &ctx) != 0) {
        fprintf(stderr, "echo_client: %s\n", error);
        return 1;
    }
    int64_t len = smt_ep_open(ctx, &ep_config, &ep);
    if (len == 0) {
        len = smt_connect_wait(ep, argv[1], NULL, 0, five_seconds, &session);
    }
    if (len == 0) {
        len = smt_call_wait(session, argv[2], strlen(argv[2]), reply, sizeof(reply), five_seconds);
    }
    if (len < 0) {
        fprintf(stderr, "echo_client: %s\n", smt_error_text(ctx));
    } else {
        printf("%.*s\n", (int)len, reply);
    }
    int closed = smt_ep_close(ep);
    return closed == 0 && smt_ctx_close(ctx) == 0 && len >= 0 ? 0 : 1;
}
