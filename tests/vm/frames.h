/* The kinds of frames that a queue pair must not be impressed by, for roce_kernel and roce_smt. */
#ifndef SMT_TESTS_VM_FRAMES_H
#define SMT_TESTS_VM_FRAMES_H

#include "roce.h"

/* Where a frame ends up when kernel and device do what they should. */
enum frame_fate {
    FRAME_GOOD,    /* arrives, as good as one of the kernel's */
    FRAME_ARRIVES, /* comes through the queue pair; what is above has to refuse it */
    FRAME_BREAKS,  /* arrives, and stops a queue pair whose receive buffers it does not fit */
    FRAME_DIES,    /* in the kernel: wrong by what RoCE v2 demands */
};

struct frame_kind {
    const char *name;
    enum frame_fate fate;
    /* Changes what `frame` says before it is built. May be NULL. */
    void (*say)(struct roce_frame *frame);
    /* Changes the bytes after that; returns the new length. May be NULL. */
    size_t (*bend)(uint8_t *bytes, size_t len);
};

extern const struct frame_kind frame_kinds[];
extern const unsigned n_frame_kinds;

/* Frames from vb, where rxe1 lives, to the queue pair on rxe0. `seed` varies payloads. */
struct frame_target {
    struct roce_wire wire;
    uint8_t from_mac[6], to_mac[6];
    uint32_t qpn, qkey;
    uint32_t imm;
};

void frame_target_open(struct frame_target *target);
void frame_send(const struct frame_target *target, const struct frame_kind *kind, uint32_t seed);

/* The payload that a FRAME_GOOD carries: length and first byte; all other bytes follow. */
enum { FRAME_LEN = 200 };
void frame_fill(uint8_t *payload, size_t len, uint32_t seed);

#endif
