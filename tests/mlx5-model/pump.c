/* What the device does while nobody calls it: frames come in, held ones leave, injected faults
 * strike. All of it happens here, whenever the program asks the device for anything. */
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "model.h"

void mm_timer_set(struct mm_dev *dev, uint64_t at)
{
    if (at >= dev->timer_at)
        return;
    dev->timer_at = at;
    struct itimerspec t = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)}};
    if (timerfd_settime(dev->timer_fd, TFD_TIMER_ABSTIME, &t, NULL) < 0)
        mm_die("model", "timerfd: %s", strerror(errno));
}

static void timer_run(struct mm_dev *dev, uint64_t now)
{
    uint64_t fired;
    if (read(dev->timer_fd, &fired, sizeof(fired)) < 0 && errno != EAGAIN)
        mm_die("model", "timerfd: %s", strerror(errno));
    dev->timer_at = UINT64_MAX;
    uint64_t next = mm_net_run(dev, now);
    for (unsigned i = 0; i < MM_MAX_QPS; i++) {
        uint64_t at =
            mm_qps[i] != NULL && mm_qps[i]->dev == dev ? mm_sq_run(mm_qps[i], now) : UINT64_MAX;
        next = at < next ? at : next;
    }
    uint64_t at = mm_cq_run(dev, now);
    next = at < next ? at : next;
    if (next != UINT64_MAX)
        mm_timer_set(dev, next);
}

static void frames_take(struct mm_dev *dev)
{
    for (;;) {
        uint32_t len;
        const uint8_t *frame = mm_net_peek(dev, &len);
        if (len == 0 || !mm_steer_frame(dev, frame, len))
            return;
        mm_net_drop(dev);
    }
}

void mm_pump(struct mm_dev *dev)
{
    if (dev->in_pump || dev->port == NULL)
        return;
    dev->in_pump = true;
    if (dev->n_pumps++ % 64 == 0)
        mm_inject_read(dev);
    if (dev->timer_at != UINT64_MAX) {
        uint64_t now = mm_now();
        if (now >= dev->timer_at)
            timer_run(dev, now);
    }
    frames_take(dev);
    dev->in_pump = false;
}
