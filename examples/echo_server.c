/* The smallest server: every request comes back. Certificates from SMT_CERT, SMT_KEY and SMT_CA.
 *
 *     echo_server [PORT]
 */
#include <stdio.h>
#include <stdlib.h>

#include <smt/smt.h>

static void handle(const struct smt_event *event)
{
    struct smt_iov echo = {.base = event->data, .len = event->len};
    switch (event->type) {
    case SMT_EV_REQUEST: /* the request's own bytes are the reply: keep them until it has arrived */
        if (smt_reply(event->msg, &echo, 1, event->msg) != 0) {
            smt_release(event->msg);
        }
        break;
    case SMT_EV_SENT:
    case SMT_EV_FAILED:
        smt_release(event->user);
        break;
    case SMT_EV_MESSAGE:
        smt_release(event->msg);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    struct smt_ctx *ctx = NULL;
    struct smt_ep *ep = NULL;
    char error[256] = "";
    config.cert_file = getenv("SMT_CERT");
    config.key_file = getenv("SMT_KEY");
    config.ca_file = getenv("SMT_CA");
    config.error_text = error;
    config.error_text_len = sizeof(error);
    ep_config.port = argc > 1 ? (uint16_t)atoi(argv[1]) : SMT_DEFAULT_PORT;
    ep_config.accept = 1;
    if (smt_ctx_open(&config, &ctx) != 0 || smt_ep_open(ctx, &ep_config, &ep) != 0) {
        fprintf(stderr, "echo_server: %s\n", ctx == NULL ? error : smt_error_text(ctx));
        return 1;
    }
    printf("echoing on port %u\n", smt_ep_port(ep));
    fflush(stdout);
    for (struct smt_event events[16];;) {
        int n = smt_poll(ep, events, 16);
        for (int i = 0; i < n; i++) {
            handle(&events[i]);
        }
        if (n < 0 || (n == 0 && smt_wait(ep, UINT64_MAX) != 0)) {
            return 1;
        }
    }
}
