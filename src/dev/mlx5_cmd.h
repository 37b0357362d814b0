/* Firmware commands for sealing, byte by byte: what the NIC can do, and the objects of a context.
 *
 * Pure: bytes out, bytes in. Sending them is mlx5_devx.c's. */
#ifndef SMT_DEV_MLX5_CMD_H
#define SMT_DEV_MLX5_CMD_H

#include "base/defs.h"

enum {
    SMT_MLX5_OUT_LEN = 16,       /* of every answer but capabilities */
    SMT_MLX5_CAP_IN_LEN = 16,
    SMT_MLX5_CAP_OUT_LEN = 4112,
    SMT_MLX5_TD_IN_LEN = 16,
    SMT_MLX5_TIS_IN_LEN = 192,
    SMT_MLX5_DEK_IN_LEN = 272,
    SMT_MLX5_SYNC_IN_LEN = 32,
};

/* Groups of capabilities, by the command's number for them. */
enum smt_mlx5_cap_type {
    SMT_MLX5_CAP_GENERAL = 0x00,
    SMT_MLX5_CAP_ETH = 0x01,
    SMT_MLX5_CAP_TLS = 0x11,
    SMT_MLX5_CAP_CRYPTO = 0x1a,
};

/* What matters of them. All false and 0 where a group was not asked for. */
struct smt_mlx5_caps {
    bool has_tls_tx, has_dek, has_crypto, has_eth_offloads, has_flow_table;
    uint8_t log_max_dek, log_max_tis, log_max_td;
    bool seals_128, seals_256;   /* TLS 1.2 form */
    bool seals13_128, seals13_256; /* TLS 1.3 form: told, not used */
    bool can_sync_dek;
    bool is_wrapped, is_commissioning;
    uint32_t failed_selftests;
    uint8_t log_max_lso;
};

/* Asks for a group: what is on now (`is_current`) or what the part could do. */
void smt_mlx5_cmd_query_cap(uint8_t in[SMT_MLX5_CAP_IN_LEN], enum smt_mlx5_cap_type type,
                            bool is_current);

/* Reads the answer's fields into *caps, those of the other groups stay. */
void smt_mlx5_caps_read(enum smt_mlx5_cap_type type, const uint8_t out[SMT_MLX5_CAP_OUT_LEN],
                        struct smt_mlx5_caps *caps);

void smt_mlx5_cmd_alloc_td(uint8_t in[SMT_MLX5_TD_IN_LEN]);
void smt_mlx5_cmd_create_tis(uint8_t in[SMT_MLX5_TIS_IN_LEN], uint32_t td, uint32_t pdn);

/* A key for the TLS engine, 16 or 32 bytes. The caller wipes `in`. */
void smt_mlx5_cmd_create_dek(uint8_t in[SMT_MLX5_DEK_IN_LEN], uint32_t pdn, const uint8_t *key,
                             uint32_t key_len);

/* The same object with another key. Not to be used before sync_crypto has been answered. */
void smt_mlx5_cmd_modify_dek(uint8_t in[SMT_MLX5_DEK_IN_LEN], uint32_t dek, uint32_t pdn,
                             const uint8_t *key, uint32_t key_len);
void smt_mlx5_cmd_sync_crypto(uint8_t in[SMT_MLX5_SYNC_IN_LEN]);

/* Of an answer: 0 or the firmware's status, its syndrome, and the number that it gave. */
uint8_t smt_mlx5_out_status(const uint8_t *out);
uint32_t smt_mlx5_out_syndrome(const uint8_t *out);
uint32_t smt_mlx5_out_td(const uint8_t out[SMT_MLX5_OUT_LEN]);
uint32_t smt_mlx5_out_tisn(const uint8_t out[SMT_MLX5_OUT_LEN]);
uint32_t smt_mlx5_out_dek(const uint8_t out[SMT_MLX5_OUT_LEN]);

#endif
