/* What the environment asks of the model: MLX5_MODEL=PROFILE,key=value,… (README.md). */
#ifndef MLX5_MODEL_CONFIG_H
#define MLX5_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum { MM_MAX_DEVICES = 4, MM_MAX_PATTERNS = 16, MM_PATTERN_LEN = 64 };

/* A chance in 2^32. */
typedef uint32_t mm_chance;

enum mm_injection {
    MM_INJECT_NONE,
    MM_INJECT_CQE_LENGTH,     /* error CQE 0x01 instead of a completion */
    MM_INJECT_CQE_PROTECTION, /* 0x04 */
    MM_INJECT_CQE_FLUSH,      /* 0x05 */
    MM_INJECT_DEK_ERROR,      /* a key is lost, its next use is an error CQE */
    MM_INJECT_DEK_GARBAGE,    /* a key turns into another one in silence */
    MM_INJECT_TIS_ERROR,      /* a TIS is lost */
    MM_INJECT_TIS_GARBAGE,    /* the state of a TIS is damaged in silence */
    MM_INJECT_QP_ERROR,       /* a queue pair fails, with an asynchronous event */
    MM_INJECT_RESET,          /* the whole device is gone for good */
    MM_INJECT_PORT_DOWN,
    MM_INJECT_PORT_UP,
    MM_N_INJECTIONS,
};

struct mm_config {
    /* Where and who. */
    char dir[160];
    char netdev[MM_MAX_DEVICES][16];
    char mac[MM_MAX_DEVICES][20];
    uint64_t devices, mtu, seed, loopback;
    /* What the device can do. */
    uint64_t mlx5, devx, ib, port_down;
    uint64_t tls_tx, tls_tx_max, tls, obj_types, crypto, failed_selftests, sync_dek;
    uint64_t log_max_dek, log_max_tis, log_max_td, log_max_lso;
    uint64_t raw_wqe, uar, raw_qp_error, flow_error, open_error, memlock;
    uint64_t td_status, tis_status, dek_status; /* firmware refuses with this status */
    /* How it behaves. */
    uint64_t abort, quiet;
    uint64_t cqe_batch, cqe_delay_us, lazy_us, rq_drop;
    mm_chance loss, dup, reorder;
    mm_chance inject[MM_N_INJECTIONS]; /* for each WQE */
    /* What it tells. */
    char pcap[160], stats[160];
    uint8_t pattern[MM_MAX_PATTERNS][MM_PATTERN_LEN];
    uint8_t pattern_len[MM_MAX_PATTERNS];
    uint64_t n_patterns;
};

/* Read once, at the first call. */
const struct mm_config *mm_config(void);
/* Whether this process has used the model at all: others are started with its environment. */
bool mm_config_is_read(void);

/* By its name, or MM_INJECT_NONE. */
enum mm_injection mm_injection_of(const char *name);

#endif
