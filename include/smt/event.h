/* libsmt-verbs-event: an endpoint inside a libevent event_base (libevent 2.1). */
#ifndef SMT_EVENT_H
#define SMT_EVENT_H

#include <event2/event.h>

#include <smt/smt.h>

#ifdef __cplusplus
extern "C" {
#endif

struct smt_event_loop;

/* Called for each event, in the thread that runs the base. `event` is borrowed. SMT_EV_NONE with an
 * error says that the endpoint cannot go on; it is the last one. */
typedef void (*smt_event_fn)(struct smt_ep *ep, const struct smt_event *event, void *arg);

/* Attaches an endpoint: its events arrive by `fn` while the base runs. After posting calls from
 * outside a callback use smt_event_kick. *out is given (smt_event_detach). */
SMT_API int smt_event_attach(struct event_base *base, struct smt_ep *ep, smt_event_fn fn, void *arg,
                             struct smt_event_loop **out);

/* Runs the endpoint soon: after calls were posted from outside its callback. */
SMT_API void smt_event_kick(struct smt_event_loop *loop);

/* Takes the endpoint out of the base; the endpoint stays open. Inside `fn` it hands out the events
 * that were already taken before it returns; afterwards the endpoint may be closed. NULL is
 * allowed. */
SMT_API void smt_event_detach(struct smt_event_loop *loop);

#ifdef __cplusplus
}
#endif
#endif
