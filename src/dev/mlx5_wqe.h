/* Work requests of the mlx5 send queue, byte by byte: packets, and the parameters of a TLS context.
 *
 * Pure: bytes out, no system, no device. The library that posts them (mlx5dv_wr_raw_wqe) fills in
 * the index; it is left zero here. Lengths are whole units of 16 bytes. */
#ifndef SMT_DEV_MLX5_WQE_H
#define SMT_DEV_MLX5_WQE_H

#include "base/defs.h"

enum {
    SMT_MLX5_UNIT = 16,
    SMT_MLX5_BLOCK = 64, /* what a ring is counted in */
    SMT_MLX5_STATIC_LEN = 192,
    SMT_MLX5_PROGRESS_LEN = 32,
    SMT_MLX5_NOP_LEN = 16,
    SMT_MLX5_MAX_HDR = 128, /* Ethernet, IP and ours, inline */
    SMT_MLX5_MAX_SEGS = 4,
    /* The longest packet request: control, the segment with 14 bytes before the header, data. */
    SMT_MLX5_MAX_WQE = 256,
};

static_assert(SMT_MLX5_MAX_WQE >= SMT_MLX5_STATIC_LEN, "room for every request");
static_assert(SMT_MLX5_MAX_WQE >= 16 + (14 + SMT_MLX5_MAX_HDR + 15) / 16 * 16 +
                                      16 * SMT_MLX5_MAX_SEGS, "and for the longest packet");

/* What every request says first. */
struct smt_mlx5_ctrl {
    uint32_t sqn;
    uint32_t tisn;       /* 0: no context, the bytes leave as they are */
    bool is_fenced;      /* waits for the requests before it */
    bool is_signalled;   /* asks for a completion */
};

/* A run of bytes in registered memory; never empty. */
struct smt_mlx5_seg {
    uint32_t len, lkey;
    uint64_t addr;
};

struct smt_mlx5_packet {
    const uint8_t *hdr;  /* borrowed; Ethernet, IP and what follows, written inline */
    uint32_t hdr_len;
    uint32_t mss;        /* payload bytes a packet of an LSO request; 0: one packet */
    bool is_l4_sum;      /* UDP: the NIC writes the checksum */
    bool is_l3_sum;      /* IPv4: the header's */
    unsigned n_segs;
    struct smt_mlx5_seg segs[SMT_MLX5_MAX_SEGS];
};

/* The parameters that seal records from `record_no` on: key, salt, TLS 1.2. */
void smt_mlx5_wqe_static(uint8_t out[SMT_MLX5_STATIC_LEN], const struct smt_mlx5_ctrl *ctrl,
                         uint32_t dek, uint64_t record_no, const uint8_t salt[4]);

/* The next byte posted is the first of a record. */
void smt_mlx5_wqe_progress(uint8_t out[SMT_MLX5_PROGRESS_LEN], const struct smt_mlx5_ctrl *ctrl);

void smt_mlx5_wqe_nop(uint8_t out[SMT_MLX5_NOP_LEN], const struct smt_mlx5_ctrl *ctrl);

/* One packet, or one LSO burst. Returns the length, at most SMT_MLX5_MAX_WQE. */
size_t smt_mlx5_wqe_packet(uint8_t out[SMT_MLX5_MAX_WQE], const struct smt_mlx5_ctrl *ctrl,
                           const struct smt_mlx5_packet *packet);

#endif
