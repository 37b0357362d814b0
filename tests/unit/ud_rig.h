/* Two and more `ud` devices over the verbs model, and packets between them that are checked. */
#ifndef SMT_TESTS_UNIT_UD_RIG_H
#define SMT_TESTS_UNIT_UD_RIG_H

#include "dev/dev.h"
#include "verbs-model/verbs_model.h"

enum { UD_RIG_MAX = 8, UD_RIG_PATIENCE_MS = 60000 };

/* How the model's device is posted to. */
struct ud_rig_flavour {
    const char *name;
    bool is_mlx5;
    enum verbs_model_qp_ex qp_ex;
    uint32_t max_inline;
    bool keeps_cqes; /* across the reset of a queue pair */
};

extern const struct ud_rig_flavour ud_rig_flavours[];
extern const unsigned ud_rig_n_flavours;

struct ud_rig {
    unsigned n;
    struct smt_dev *dev[UD_RIG_MAX];
    struct smt_addr addr[UD_RIG_MAX];
    /* Packets by sender and receiver: the next number to send and to receive, and how many numbers
     * never came. */
    uint32_t sent[UD_RIG_MAX][UD_RIG_MAX], received[UD_RIG_MAX][UD_RIG_MAX];
    uint64_t n_received, n_missed;
    bool may_lose;
};

/* Resets the model to this flavour. */
void ud_rig_model(const struct ud_rig_flavour *flavour);

/* For cmocka's set-up and tear-down: a rig over a fresh model; at the end its devices are closed
 * and nothing of theirs is left, in the model or in memory. */
struct ud_rig *ud_rig_begin(const struct ud_rig_flavour *flavour);
void ud_rig_end(struct ud_rig *rig);

/* What was allocated when it began. */
uint64_t ud_rig_n_live_before(void);

/* Opens `n` devices; the model is as the caller made it. */
void ud_rig_open(struct ud_rig *rig, const char *spec, unsigned n);
void ud_rig_open_one(struct ud_rig *rig, const char *spec, const char *bind_host);
void ud_rig_close(struct ud_rig *rig);

/* Reserves and fills; false when the device is full. `len` at least 8. */
bool ud_rig_put(struct ud_rig *rig, unsigned from, unsigned to, uint32_t len, uint8_t prio);
void ud_rig_flush(struct ud_rig *rig, unsigned from);

/* One call of rx on each device that is there; how many packets came, in order and whole. */
unsigned ud_rig_pump(struct ud_rig *rig);

/* Pumps until so many more packets have come. */
void ud_rig_expect(struct ud_rig *rig, uint64_t n);

/* A packet each way, so that both know each other. */
void ud_rig_meet(struct ud_rig *rig, unsigned a, unsigned b);

/* Pumps until packets go from `from` to `to` again, for what comes after a fault. */
void ud_rig_heal(struct ud_rig *rig, unsigned from, unsigned to);

struct smt_dev_stats ud_rig_stats(struct ud_rig *rig, unsigned i);
bool ud_rig_is_readable(struct ud_rig *rig, unsigned i, int timeout_ms);
uint64_t ud_rig_now_ms(void);

#endif
