/* An echo server inside a libevent loop, beside other things that loop does: here a timer that
 * reports once a second and SIGINT that ends it. Certificates from SMT_CERT, SMT_KEY and SMT_CA.
 *
 *     event_server [PORT]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <smt/event.h>

static unsigned long n_requests;

static void on_smt_event(struct smt_ep *ep, const struct smt_event *event, void *arg)
{
    (void)ep;
    (void)arg;
    struct smt_iov echo = {.base = event->data, .len = event->len};
    switch (event->type) {
    case SMT_EV_REQUEST:
        n_requests++;
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

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    unsigned long *last = arg;
    if (*last != n_requests) {
        printf("%lu requests\n", n_requests - *last);
        fflush(stdout);
        *last = n_requests;
    }
}

static void on_signal(evutil_socket_t number, short what, void *base)
{
    (void)number;
    (void)what;
    event_base_loopbreak(base);
}

static int open_endpoint(const char *port, struct smt_ctx **ctx, struct smt_ep **ep)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    char error[256] = "";
    config.cert_file = getenv("SMT_CERT");
    config.key_file = getenv("SMT_KEY");
    config.ca_file = getenv("SMT_CA");
    config.error_text = error;
    config.error_text_len = sizeof(error);
    ep_config.port = port != NULL ? (uint16_t)atoi(port) : SMT_DEFAULT_PORT;
    ep_config.accept = 1;
    *ctx = NULL;
    if (smt_ctx_open(&config, ctx) != 0 || smt_ep_open(*ctx, &ep_config, ep) != 0) {
        fprintf(stderr, "event_server: %s\n", *ctx == NULL ? error : smt_error_text(*ctx));
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    struct smt_event_loop *loop;
    unsigned long last = 0;
    if (open_endpoint(argc > 1 ? argv[1] : NULL, &ctx, &ep) != 0) {
        return 1;
    }
    struct event_base *base = event_base_new();
    if (base == NULL || smt_event_attach(base, ep, on_smt_event, NULL, &loop) != 0) {
        fprintf(stderr, "event_server: no event loop\n");
        return 1;
    }
    struct event *timer = event_new(base, -1, EV_PERSIST, on_timer, &last);
    struct event *stop = event_new(base, SIGINT, EV_SIGNAL | EV_PERSIST, on_signal, base);
    event_add(timer, &(struct timeval){.tv_sec = 1});
    event_add(stop, NULL);
    printf("echoing on port %u\n", smt_ep_port(ep));
    fflush(stdout);
    event_base_dispatch(base);
    smt_event_detach(loop);
    event_free(stop);
    event_free(timer);
    event_base_free(base);
    int closed = smt_ep_close(ep);
    return closed == 0 && smt_ctx_close(ctx) == 0 ? 0 : 1;
}
