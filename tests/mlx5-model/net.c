/* The wire: DIR/wire is memory that all processes share, with a place for each port. A port has a
 * MAC and a ring of frames that came for it, and beside it a FIFO that wakes its owner. Loss,
 * duplicates and other orders are made by who sends. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "model.h"

enum { N_PORTS = 8, RING = 1 << 24, WIRE_MAGIC = 0x35786d77, N_HELD = 64, HOLD_NS = 2000000 };

struct mm_port {
    pthread_mutex_t lock;
    uint32_t pid, generation;
    uint8_t mac[6];
    bool rung;
    atomic_uint_fast64_t head, tail; /* bytes ever put in and taken out */
    uint8_t ring[RING];
};

struct wire {
    uint32_t magic;
    struct mm_port port[N_PORTS];
};

static struct wire *wire;
static int wire_fd = -1;
static int bells[N_PORTS] = {-1, -1, -1, -1, -1, -1, -1, -1};
static uint32_t bell_generation[N_PORTS];

/* A frame that others overtake. */
static struct held {
    struct mm_dev *dev;
    uint64_t due;
    uint32_t len, after; /* frames that still pass */
    uint8_t frame[MM_FRAME_LEN];
} held[N_HELD];

static void wire_map(void)
{
    if (wire != NULL)
        return;
    char path[MM_MAX_PATH];
    snprintf(path, sizeof(path), "%s/wire", mm_config()->dir);
    wire_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (wire_fd < 0 || flock(wire_fd, LOCK_EX) < 0 || ftruncate(wire_fd, sizeof(struct wire)) < 0)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    void *at = mmap(NULL, sizeof(struct wire), PROT_READ | PROT_WRITE, MAP_SHARED, wire_fd, 0);
    if (at == MAP_FAILED)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    wire = at;
    if (wire->magic != WIRE_MAGIC) {
        pthread_mutexattr_t a;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        for (unsigned i = 0; i < N_PORTS; i++)
            pthread_mutex_init(&wire->port[i].lock, &a);
        pthread_mutexattr_destroy(&a);
        wire->magic = WIRE_MAGIC;
    }
    flock(wire_fd, LOCK_UN);
}

static void port_lock(struct mm_port *p)
{
    /* The process that held it died between two stores of a frame: its frame is not there. */
    if (pthread_mutex_lock(&p->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&p->lock);
}

static void bell_path(char *out, size_t len, unsigned place)
{
    snprintf(out, len, "%s/bell.%u", mm_config()->dir, place);
}

int mm_fifo_open(const char *path)
{
    if (mkfifo(path, 0600) < 0 && errno != EEXIST)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        mm_die("MLX5_MODEL", "%s: %s", path, strerror(errno));
    return fd;
}

static bool is_free(const struct mm_port *p)
{
    return p->pid == 0 || (kill((pid_t)p->pid, 0) < 0 && errno == ESRCH);
}

void mm_net_open(struct mm_dev *dev)
{
    wire_map();
    flock(wire_fd, LOCK_EX);
    unsigned place = N_PORTS;
    for (unsigned i = 0; i < N_PORTS; i++) {
        const struct mm_port *p = &wire->port[i];
        if (!is_free(p) && memcmp(p->mac, dev->mac, 6) == 0 && p->pid != (uint32_t)getpid())
            mm_die("MLX5_MODEL", "mac: process %u on this wire has the same", p->pid);
        if (place == N_PORTS && is_free(p))
            place = i;
    }
    if (place == N_PORTS)
        mm_die("MLX5_MODEL", "dir: %d ports are on this wire already", N_PORTS);
    struct mm_port *p = &wire->port[place];
    port_lock(p);
    p->pid = (uint32_t)getpid();
    p->generation++;
    memcpy(p->mac, dev->mac, 6);
    p->rung = false;
    atomic_store(&p->head, 0);
    atomic_store(&p->tail, 0);
    pthread_mutex_unlock(&p->lock);
    flock(wire_fd, LOCK_UN);
    char path[MM_MAX_PATH];
    bell_path(path, sizeof(path), place);
    dev->bell_fd = mm_fifo_open(path);
    uint8_t old[64];
    while (read(dev->bell_fd, old, sizeof(old)) > 0)
        ;
    dev->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (dev->timer_fd < 0)
        mm_die("model", "timerfd: %s", strerror(errno));
    dev->timer_at = UINT64_MAX;
    dev->port = p;
}

void mm_net_close(struct mm_dev *dev)
{
    for (unsigned i = 0; i < N_HELD; i++) {
        if (held[i].len != 0 && held[i].dev == dev)
            held[i].len = 0;
    }
    port_lock(dev->port);
    dev->port->pid = 0;
    pthread_mutex_unlock(&dev->port->lock);
    dev->port = NULL;
    close(dev->bell_fd);
    close(dev->timer_fd);
    close(dev->control_fd);
}

static void bell_ring(unsigned place, uint32_t generation)
{
    if (bells[place] >= 0 && bell_generation[place] != generation) {
        close(bells[place]);
        bells[place] = -1;
    }
    if (bells[place] < 0) {
        char path[MM_MAX_PATH];
        bell_path(path, sizeof(path), place);
        bells[place] = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
        bell_generation[place] = generation;
    }
    /* A full FIFO or one without a reader rings nobody who is not awake or gone. */
    if (bells[place] >= 0 && write(bells[place], "", 1) < 0)
        return;
}

static void ring_copy_in(struct mm_port *p, uint64_t at, const void *from, size_t len)
{
    size_t begin = at % RING, first = len < RING - begin ? len : RING - begin;
    memcpy(p->ring + begin, from, first);
    memcpy(p->ring, (const uint8_t *)from + first, len - first);
}

static void ring_copy_out(const struct mm_port *p, uint64_t at, void *to, size_t len)
{
    size_t begin = at % RING, first = len < RING - begin ? len : RING - begin;
    memcpy(to, p->ring + begin, first);
    memcpy((uint8_t *)to + first, p->ring, len - first);
}

static void put(unsigned place, const uint8_t *frame, uint32_t len)
{
    struct mm_port *p = &wire->port[place];
    port_lock(p);
    uint64_t head = atomic_load(&p->head);
    bool room = p->pid != 0 && RING - (head - atomic_load(&p->tail)) >= len + 4;
    bool ring = false;
    uint32_t generation = p->generation;
    if (room) {
        ring_copy_in(p, head, &len, 4);
        ring_copy_in(p, head + 4, frame, len);
        atomic_store(&p->head, head + 4 + len);
        ring = !p->rung;
        p->rung = true;
    } else {
        mm_stats.frames_ring_full++;
    }
    pthread_mutex_unlock(&p->lock);
    if (ring)
        bell_ring(place, generation);
}

/* To the port with this MAC, or to all but the sender when it is a group's. */
static void deliver(struct mm_dev *dev, const uint8_t *frame, uint32_t len)
{
    bool found = false;
    for (unsigned i = 0; i < N_PORTS; i++) {
        struct mm_port *p = &wire->port[i];
        if (p->pid == 0 || (p == dev->port && !mm_config()->loopback))
            continue;
        if (frame[0] & 1 || memcmp(p->mac, frame, 6) == 0) {
            put(i, frame, len);
            found = true;
        }
    }
    if (!found)
        mm_stats.frames_no_port++;
}

static struct held *hold_place(void)
{
    for (unsigned i = 0; i < N_HELD; i++) {
        if (held[i].len == 0)
            return &held[i];
    }
    return NULL;
}

static void held_pass(struct mm_dev *dev)
{
    for (unsigned i = 0; i < N_HELD; i++) {
        struct held *h = &held[i];
        if (h->len != 0 && h->dev == dev && --h->after == 0) {
            deliver(dev, h->frame, h->len);
            h->len = 0;
        }
    }
}

void mm_net_send(struct mm_dev *dev, const uint8_t *frame, uint32_t len)
{
    mm_record_frame(frame, len);
    mm_stats.frames_sent++;
    if (!dev->is_up || mm_hit(mm_config()->loss)) {
        mm_stats.frames_lost++;
        return;
    }
    struct held *h = mm_hit(mm_config()->reorder) ? hold_place() : NULL;
    if (h != NULL) {
        mm_stats.frames_reordered++;
        *h = (struct held){.dev = dev,
                           .len = len,
                           .due = mm_now() + HOLD_NS,
                           .after = 1 + (uint32_t)mm_random() % 8};
        memcpy(h->frame, frame, len);
        mm_timer_set(dev, h->due);
        return;
    }
    deliver(dev, frame, len);
    if (mm_hit(mm_config()->dup)) {
        mm_stats.frames_dup++;
        deliver(dev, frame, len);
    }
    if (mm_config()->reorder != 0)
        held_pass(dev);
}

uint64_t mm_net_run(struct mm_dev *dev, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < N_HELD; i++) {
        struct held *h = &held[i];
        if (h->len == 0 || h->dev != dev)
            continue;
        if (h->due <= now) {
            deliver(dev, h->frame, h->len);
            h->len = 0;
        } else if (h->due < next) {
            next = h->due;
        }
    }
    return next;
}

const uint8_t *mm_net_peek(struct mm_dev *dev, uint32_t *len)
{
    static uint8_t frame[MM_FRAME_LEN];
    struct mm_port *p = dev->port;
    *len = 0;
    uint64_t tail = atomic_load(&p->tail);
    if (p->rung) {
        /* First forget the bell, then look: what comes later rings again. */
        port_lock(p);
        p->rung = false;
        uint8_t drained[16];
        while (read(dev->bell_fd, drained, sizeof(drained)) > 0)
            ;
        pthread_mutex_unlock(&p->lock);
    }
    if (atomic_load(&p->head) == tail)
        return frame;
    ring_copy_out(p, tail, len, 4);
    if (*len > MM_FRAME_LEN)
        mm_die("model", "the wire holds a frame of %u bytes", *len);
    ring_copy_out(p, tail + 4, frame, *len);
    return frame;
}

void mm_net_drop(struct mm_dev *dev)
{
    uint32_t len;
    uint64_t tail = atomic_load(&dev->port->tail);
    ring_copy_out(dev->port, tail, &len, 4);
    atomic_store(&dev->port->tail, tail + 4 + len);
}
