/* Sleeping on an RDMA device: the set of descriptors, completion queues that are armed, events of
 * the device. Sleeping is drain, arm, drain; whoever polls has this looked at now and then. */
#ifndef SMT_DEV_VERBS_SLEEP_H
#define SMT_DEV_VERBS_SLEEP_H

#include <infiniband/verbs.h>

#include "base/defs.h"

/* An epoll descriptor over fds (left out when negative), all of them made non-blocking; events
 * carry the index. -1 and errno. */
int smt_verbs_epoll_open(const int *fds, unsigned n);

/* Events of one completion queue on a channel. All zero: none was asked for yet. */
struct smt_verbs_watch {
    struct ibv_cq *cq;
    bool is_armed;
    unsigned n_events; /* taken, not yet acknowledged */
};

/* Asks for an event unless one is to come. False: the device does not do it any more. */
SMT_MUST_CHECK bool smt_verbs_arm(struct smt_verbs_watch *w, struct ibv_cq *cq);

/* Takes the events of a channel whose queues these are. */
void smt_verbs_channel_take(struct ibv_comp_channel *channel, struct smt_verbs_watch *ws,
                            unsigned n);

/* Before its queue is destroyed. */
void smt_verbs_watch_end(struct smt_verbs_watch *w);

/* Takes what the device tells of itself, until `take` says false. False: it tells nothing more. */
SMT_MUST_CHECK bool smt_verbs_events_take(struct ibv_context *ctx,
                                          bool (*take)(void *arg, const struct ibv_async_event *ev),
                                          void *arg);

#endif
