/* Every frame that leaves: into the capture of knob pcap=, and past the scanner of knob plain=.
 * A frame with one of the patterns ends the process, whatever abort= says. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

static FILE *capture;

static void words_write(const uint32_t *words, size_t n)
{
    if (fwrite(words, 4, n, capture) != n)
        mm_die("MLX5_MODEL", "pcap=%s: %s", mm_config()->pcap, strerror(errno));
}

static void capture_open(void)
{
    static bool was_tried;
    if (was_tried || mm_config()->pcap[0] == '\0')
        return;
    was_tried = true;
    capture = fopen(mm_config()->pcap, "we");
    if (capture == NULL)
        mm_die("MLX5_MODEL", "pcap=%s: %s", mm_config()->pcap, strerror(errno));
    words_write((uint32_t[]){0xa1b23c4d, 4 << 16 | 2, 0, 0, MM_FRAME_LEN, 1}, 6);
}

static void capture_write(const uint8_t *frame, uint32_t len)
{
    capture_open();
    if (capture == NULL)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    words_write((uint32_t[]){(uint32_t)ts.tv_sec, (uint32_t)ts.tv_nsec, len, len}, 4);
    if (fwrite(frame, 1, len, capture) != len || fflush(capture) != 0)
        mm_die("MLX5_MODEL", "pcap=%s: %s", mm_config()->pcap, strerror(errno));
}

static void scan(const uint8_t *frame, uint32_t len)
{
    const struct mm_config *k = mm_config();
    for (unsigned i = 0; i < k->n_patterns; i++) {
        const uint8_t *at = memmem(frame, len, k->pattern[i], k->pattern_len[i]);
        if (at == NULL)
            continue;
        char path[MM_MAX_PATH];
        snprintf(path, sizeof(path), "%s/PLAINTEXT", k->dir);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd >= 0 && write(fd, frame, len) == (ssize_t)len)
            close(fd);
        mm_die("PLAINTEXT", "pattern %u is on the wire, %td bytes into a frame of %u (%s)", i,
               at - frame, len, path);
    }
}

void mm_record_frame(const uint8_t *frame, uint32_t len)
{
    capture_write(frame, len);
    scan(frame, len);
}
