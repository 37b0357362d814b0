/* What the device says of itself, as events: its port went down or came back, or it is gone.
 *
 * A port that is down ends nothing: it may be back before anybody's timeout. A lost device ends
 * everything: each conn is closed as if the user had done it, so that calls end FAILED and sessions
 * DOWN in the usual order; DEVICE_LOST comes last, and then there is nothing left but
 * smt_ep_close. From the loss on the device is asked `why` and closed, nothing else. */
#include "api/api.h"

static const char *why_lost(const struct smt_ep *ep)
{
    const char *why = ep->dev->ops->why(ep->dev, NULL);
    return why != NULL ? why : smt_strerror(SMT_EDEVICE);
}

int smt_ep_lost_fail(const struct smt_ep *ep)
{
    return smt_fail(ep->ctx, SMT_EDEVICE, "device \"%s\": %s", ep->ctx->device, why_lost(ep));
}

void smt_ep_lose(struct smt_ep *ep)
{
    if (ep->is_lost)
        return;
    ep->is_lost = true;
    ep->tx_blocked = false;
    smt_dev_news_add(&ep->news, SMT_DEV_NEWS_LOST);
    smt_log_emit(&ep->ctx->log, SMT_LOGLVL_ERROR, "device \"%s\": %s", ep->ctx->device,
                 why_lost(ep));
    for (struct smt_list *it = ep->links.next; it != &ep->links; it = it->next) {
        struct smt_link *link = SMT_CONTAINER_OF(it, struct smt_link, node);
        link->closing = true;
        smt_conn_close(link->conn, ep->now, SMT_EDEVICE, false);
    }
    (void)smt_ep_lost_fail(ep);
}

void smt_ep_news_take(struct smt_ep *ep)
{
    uint8_t news = ep->dev->news;
    ep->dev->news = 0;
    smt_dev_news_add(&ep->news, news & (SMT_DEV_NEWS_PORT_DOWN | SMT_DEV_NEWS_PORT_UP));
    if (news & SMT_DEV_NEWS_REBUILT)
        smt_log_emit(&ep->ctx->log, SMT_LOGLVL_WARN, "device \"%s\": %s; its queues were made anew",
                     ep->ctx->device, why_lost(ep));
    if (news & SMT_DEV_NEWS_LOST)
        smt_ep_lose(ep);
}

/* True when the news is there and not what the user knows already. */
static bool port_turned(struct smt_ep *ep, uint8_t news, bool down)
{
    if ((ep->news & news) == 0)
        return false;
    ep->news &= (uint8_t)~news;
    bool turned = ep->told_down != down;
    ep->told_down = down;
    return turned;
}

bool smt_ep_port_event(struct smt_ep *ep, struct smt_event *out)
{
    if (port_turned(ep, SMT_DEV_NEWS_PORT_DOWN, true))
        *out = (struct smt_event){.type = SMT_EV_DEVICE_DOWN};
    else if (port_turned(ep, SMT_DEV_NEWS_PORT_UP, false))
        *out = (struct smt_event){.type = SMT_EV_DEVICE_UP};
    else
        return false;
    return true;
}

bool smt_ep_lost_event(struct smt_ep *ep, struct smt_event *out)
{
    if ((ep->news & SMT_DEV_NEWS_LOST) == 0)
        return false;
    ep->news &= (uint8_t)~SMT_DEV_NEWS_LOST;
    *out = (struct smt_event){.type = SMT_EV_DEVICE_LOST, .error = smt_ep_lost_fail(ep)};
    return true;
}
