/* Sleeping: one epoll descriptor over the device's, a timer and a wake-up counter, all
 * level-triggered.
 *
 * smt_wait looks for a moment before it sleeps: a sleep and the wake-up cost both CPUs about as
 * much as that, and the answer the wake-up's time. Who looked in vain sleeps at once the next time,
 * then three times, seven ... sixty-three: against a peer on the same core (who cannot answer
 * while we look), or one that takes longer, looking is rare.
 *
 * smt_arm is where nothing may get lost. It answers SMT_EBUSY when anything could be done at once,
 * and only it takes wake-ups away: a wake-up during smt_poll is still there when the endpoint goes
 * to sleep. `woken` spares the system call when a wake-up is pending already; the flag is taken
 * down only after the counter was read, so a reader never leaves the descriptor readable for good.
 */
#include "api/api.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static const uint64_t spin_len = 20 * SMT_USEC;

enum { SPIN_MISSED_MOST = 6 };

static int epoll_watch(int epoll_fd, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? SMT_ESYSTEM : 0;
}

int smt_ep_wait_init(struct smt_ep *ep)
{
    ep->timer_at = SMT_NEVER;
    ep->wait_fd = epoll_create1(EPOLL_CLOEXEC);
    ep->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    ep->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ep->wait_fd < 0 || ep->timer_fd < 0 || ep->wake_fd < 0)
        return smt_fail(ep->ctx, SMT_ESYSTEM,
                        "no descriptors for an endpoint (errno %d): raise ulimit -n", errno);
    int dev_fd = ep->dev->ops->fd(ep->dev);
    int r = epoll_watch(ep->wait_fd, ep->timer_fd);
    if (r == 0)
        r = epoll_watch(ep->wait_fd, ep->wake_fd);
    if (r == 0 && dev_fd >= 0)
        r = epoll_watch(ep->wait_fd, dev_fd);
    return r < 0 ? smt_fail(ep->ctx, r, "epoll_ctl failed (errno %d)", errno) : 0;
}

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void smt_ep_wait_fini(struct smt_ep *ep)
{
    fd_close(&ep->wait_fd);
    fd_close(&ep->timer_fd);
    fd_close(&ep->wake_fd);
}

uint64_t smt_ep_deadline(const struct smt_ep *ep)
{
    uint64_t t = smt_engine_deadline(ep->engine);
    t = t < ep->retire_look ? t : ep->retire_look;
    return t < ep->dial_deadline ? t : ep->dial_deadline;
}

/* Setting a timer also takes away an expiry that nobody read. */
static int timer_set(struct smt_ep *ep, uint64_t now, uint64_t at)
{
    bool expired = ep->timer_at != SMT_NEVER && ep->timer_at <= now;
    if (at == ep->timer_at && !expired)
        return 0;
    struct itimerspec spec = {0};
    if (at != SMT_NEVER) {
        spec.it_value.tv_sec = (time_t)(at / SMT_SEC);
        spec.it_value.tv_nsec = (long)(at % SMT_SEC);
    }
    if (timerfd_settime(ep->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0)
        return smt_fail(ep->ctx, SMT_ESYSTEM, "timerfd_settime failed (errno %d)", errno);
    ep->timer_at = at;
    return 0;
}

/* True when somebody called smt_wakeup since the last time. */
static bool wakeup_take(struct smt_ep *ep)
{
    if (atomic_load_explicit(&ep->woken, memory_order_acquire) == 0)
        return false;
    uint64_t count;
    if (read(ep->wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        atomic_exchange_explicit(&ep->woken, 0, memory_order_acq_rel);
    return true;
}

int smt_wakeup(struct smt_ep *ep)
{
    if (ep == NULL || ep->fork_gen != smt_fork_generation())
        return ep == NULL ? SMT_EINVAL : SMT_EFORK;
    if (atomic_exchange_explicit(&ep->woken, 1, memory_order_acq_rel) != 0)
        return 0;
    int saved = errno; /* we may be in a signal handler */
    const uint64_t one = 1;
    ssize_t n = write(ep->wake_fd, &one, sizeof(one));
    errno = saved;
    return n == (ssize_t)sizeof(one) ? 0 : SMT_ESYSTEM;
}

int smt_get_fd(struct smt_ep *ep)
{
    int r = smt_ep_check(ep);
    return r < 0 ? r : ep->wait_fd;
}

int smt_arm(struct smt_ep *ep)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    if (wakeup_take(ep) || smt_ep_has_event(ep))
        return SMT_EBUSY;
    if (SMT_UNLIKELY(ep->is_lost))
        return smt_ep_lost_fail(ep);
    if (!ep->tx_blocked && smt_engine_tx_pending(ep->engine))
        return SMT_EBUSY;
    uint64_t now = smt_api_clock();
    uint64_t at = smt_ep_deadline(ep);
    if (at <= now || ep->dev->ops->fd(ep->dev) < 0)
        return SMT_EBUSY;
    r = timer_set(ep, now, at);
    if (r == 0)
        r = ep->dev->ops->arm(ep->dev);
    ep->has_slept = r == 0;
    return ep->dev->news != 0 ? SMT_EBUSY : r;
}

/* 1: there is something to poll for; 0: time to sleep. */
static int spin(struct smt_ep *ep, uint64_t timeout_ns)
{
    if (ep->spin_skip > 0) {
        ep->spin_skip--;
        return smt_ep_has_event(ep);
    }
    uint64_t until = smt_api_clock() + (timeout_ns < spin_len ? timeout_ns : spin_len);
    while (!smt_ep_has_event(ep)) {
        if (atomic_load_explicit(&ep->woken, memory_order_relaxed) != 0)
            return 0;
        if (ep->now >= until) {
            ep->spin_missed += ep->spin_missed < SPIN_MISSED_MOST;
            ep->spin_skip = (uint8_t)((1u << ep->spin_missed) - 1);
            return 0;
        }
        int r = smt_ep_progress(ep);
        if (r < 0)
            return r;
    }
    ep->spin_missed = 0;
    return 1;
}

int smt_wait(struct smt_ep *ep, uint64_t timeout_ns)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    if (ep->poll_spin)
        return 0;
    r = spin(ep, timeout_ns);
    return r == 0 ? smt_ep_sleep(ep, timeout_ns) : r < 0 ? r : 0;
}

int smt_ep_sleep(struct smt_ep *ep, uint64_t timeout_ns)
{
    int r = smt_arm(ep);
    if (r < 0)
        return r == SMT_EBUSY ? 0 : r;
    struct pollfd pfd = {.fd = ep->wait_fd, .events = POLLIN};
    struct timespec ts = {(time_t)(timeout_ns / SMT_SEC), (long)(timeout_ns % SMT_SEC)};
    if (ppoll(&pfd, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL) < 0 && errno != EINTR)
        return smt_fail(ep->ctx, SMT_ESYSTEM, "ppoll failed (errno %d)", errno);
    return 0;
}
