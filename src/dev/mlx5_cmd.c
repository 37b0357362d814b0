/* Layouts of the firmware commands that sealing needs. Offsets are bytes of the command, fields
 * big-endian; the Linux header mlx5_ifc.h names every bit, and tests/mlx5-model re-derives them. */
#include "dev/mlx5_cmd.h"

#include <string.h>

#include "base/bytes.h"

enum {
    CMD_QUERY_HCA_CAP = 0x100,
    CMD_ALLOC_TRANSPORT_DOMAIN = 0x816,
    CMD_CREATE_TIS = 0x912,
    CMD_CREATE_OBJECT = 0xa00,
    CMD_MODIFY_OBJECT = 0xa01,
    CMD_SYNC_CRYPTO = 0xb12,
    OBJECT_KEY = 0xc,
    PURPOSE_TLS = 1,
    CRYPTO_TYPE_TLS = 1,
    /* TIS context, from the start of the command */
    TIS_FLAGS = 32,
    TIS_TLS_EN = 0x40,
    TIS_TD = 32 + 0x25,
    TIS_PD = 32 + 0x2d,
    /* key object, from the start of the command */
    KEY_SELECT = 16,
    KEY_SIZE = 16 + 0xa,
    KEY_PURPOSE = 16 + 0xb,
    KEY_PD = 16 + 0xd,
    KEY_BYTES = 16 + 0x40,
    KEY_ROOM = 32,
};

static uint32_t get_be24(const uint8_t *p)
{
    return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

static void put_be24(uint8_t *p, uint32_t v)
{
    assert(v < 1u << 24);
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
}

void smt_mlx5_cmd_query_cap(uint8_t in[SMT_MLX5_CAP_IN_LEN], enum smt_mlx5_cap_type type,
                            bool is_current)
{
    memset(in, 0, SMT_MLX5_CAP_IN_LEN);
    smt_put_be16(in, CMD_QUERY_HCA_CAP);
    smt_put_be16(in + 6, (uint16_t)(type << 1 | is_current));
}

static void general_read(const uint8_t *c, struct smt_mlx5_caps *caps)
{
    caps->has_dek = (smt_get_be64(c + 0x80) >> OBJECT_KEY & 1) != 0;
    caps->has_tls_tx = (c[0x90] & 0x40) != 0;
    caps->has_crypto = (c[0x8d] & 0x40) != 0;
    caps->has_eth_offloads = (c[0x43] & 0x08) != 0;
    caps->has_flow_table = (c[0x34] & 0x02) != 0;
    caps->log_max_dek = c[0xb6] & 0x1f;
    caps->log_max_tis = c[0x6f] & 0x1f;
    caps->log_max_td = c[0x64] & 0x1f;
}

static void crypto_read(const uint8_t *c, struct smt_mlx5_caps *caps)
{
    caps->is_wrapped = (c[0] & 0x80) != 0;
    caps->is_commissioning = (c[0] & 0x40) != 0;
    caps->can_sync_dek = (c[0] & 0x10) != 0;
    caps->failed_selftests = smt_get_be32(c + 8);
}

void smt_mlx5_caps_read(enum smt_mlx5_cap_type type, const uint8_t out[SMT_MLX5_CAP_OUT_LEN],
                        struct smt_mlx5_caps *caps)
{
    const uint8_t *c = out + 16;
    switch (type) {
    case SMT_MLX5_CAP_GENERAL:
        general_read(c, caps);
        break;
    case SMT_MLX5_CAP_ETH:
        caps->log_max_lso = c[1] & 0x1f;
        break;
    case SMT_MLX5_CAP_TLS:
        caps->seals_128 = (c[0] & 0x80) != 0;
        caps->seals13_128 = (c[0] & 0x40) != 0;
        caps->seals_256 = (c[0] & 0x20) != 0;
        caps->seals13_256 = (c[0] & 0x10) != 0;
        break;
    case SMT_MLX5_CAP_CRYPTO:
        crypto_read(c, caps);
        break;
    }
}

void smt_mlx5_cmd_alloc_td(uint8_t in[SMT_MLX5_TD_IN_LEN])
{
    memset(in, 0, SMT_MLX5_TD_IN_LEN);
    smt_put_be16(in, CMD_ALLOC_TRANSPORT_DOMAIN);
}

void smt_mlx5_cmd_create_tis(uint8_t in[SMT_MLX5_TIS_IN_LEN], uint32_t td, uint32_t pdn)
{
    memset(in, 0, SMT_MLX5_TIS_IN_LEN);
    smt_put_be16(in, CMD_CREATE_TIS);
    in[TIS_FLAGS] = TIS_TLS_EN;
    put_be24(in + TIS_TD, td);
    put_be24(in + TIS_PD, pdn);
}

static void key_object(uint8_t in[SMT_MLX5_DEK_IN_LEN], uint16_t cmd, uint32_t pdn,
                       const uint8_t *key, uint32_t key_len)
{
    assert(key_len == 16 || key_len == 32);
    memset(in, 0, SMT_MLX5_DEK_IN_LEN);
    smt_put_be16(in, cmd);
    smt_put_be16(in + 6, OBJECT_KEY);
    in[KEY_SIZE] = key_len == 32;
    in[KEY_PURPOSE] = PURPOSE_TLS;
    put_be24(in + KEY_PD, pdn);
    /* A short key is the end of the field. */
    memcpy(in + KEY_BYTES + KEY_ROOM - key_len, key, key_len);
}

void smt_mlx5_cmd_create_dek(uint8_t in[SMT_MLX5_DEK_IN_LEN], uint32_t pdn, const uint8_t *key,
                             uint32_t key_len)
{
    key_object(in, CMD_CREATE_OBJECT, pdn, key, key_len);
}

void smt_mlx5_cmd_modify_dek(uint8_t in[SMT_MLX5_DEK_IN_LEN], uint32_t dek, uint32_t pdn,
                             const uint8_t *key, uint32_t key_len)
{
    key_object(in, CMD_MODIFY_OBJECT, pdn, key, key_len);
    smt_put_be32(in + 8, dek);
    smt_put_be64(in + KEY_SELECT, 1); /* the key */
}

void smt_mlx5_cmd_sync_crypto(uint8_t in[SMT_MLX5_SYNC_IN_LEN])
{
    memset(in, 0, SMT_MLX5_SYNC_IN_LEN);
    smt_put_be16(in, CMD_SYNC_CRYPTO);
    smt_put_be16(in + 0xe, CRYPTO_TYPE_TLS);
}

uint8_t smt_mlx5_out_status(const uint8_t *out)
{
    return out[0];
}

uint32_t smt_mlx5_out_syndrome(const uint8_t *out)
{
    return smt_get_be32(out + 4);
}

uint32_t smt_mlx5_out_td(const uint8_t out[SMT_MLX5_OUT_LEN])
{
    return get_be24(out + 9);
}

uint32_t smt_mlx5_out_tisn(const uint8_t out[SMT_MLX5_OUT_LEN])
{
    return get_be24(out + 9);
}

uint32_t smt_mlx5_out_dek(const uint8_t out[SMT_MLX5_OUT_LEN])
{
    return smt_get_be32(out + 8);
}
