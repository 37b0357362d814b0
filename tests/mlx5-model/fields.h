/* Every field the model reads or writes, by name, bit offset and width.
 *
 * The bits of a layout that belong to no field are reserved and must be zero. The offsets were
 * worked out from drivers; check-fields compares them with the kernel's mlx5_ifc.h. */
#ifndef MLX5_MODEL_FIELDS_H
#define MLX5_MODEL_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mm_layout {
    MM_CTRL,        /* control segment of a work queue element (WQE), 16 bytes */
    MM_ETH,         /* Ethernet segment without its inline header, 14 bytes */
    MM_DATA,        /* data segment, 16 bytes */
    MM_UMR,         /* UMR control segment, 48 bytes */
    MM_MKEY,        /* memory key context, 64 bytes */
    MM_STATIC,      /* TLS static parameters, 64 bytes */
    MM_PROGRESS,    /* the body of SET_PSV, 16 bytes */
    MM_CMD_IN,      /* head of most commands, 16 bytes */
    MM_CMD_OUT,     /* head of all answers, 16 bytes */
    MM_TIS_IN,      /* CREATE_TIS, 192 bytes */
    MM_OBJ_IN,      /* head of commands on general objects, 16 bytes */
    MM_DEK,         /* encryption key object, 256 or 512 bytes */
    MM_SYNC_IN,     /* SYNC_CRYPTO, 32 bytes */
    MM_CAP_GENERAL, /* the area of QUERY_HCA_CAP, by type */
    MM_CAP_ETH,
    MM_CAP_TLS,
    MM_CAP_CRYPTO,
    MM_FTE, /* outer headers of a match buffer, 64 bytes */
    MM_N_LAYOUTS,
};

enum mm_field {
    MM_CTRL_OPMOD,
    MM_CTRL_WQE_INDEX,
    MM_CTRL_OPCODE,
    MM_CTRL_QPN,
    MM_CTRL_DS,
    MM_CTRL_FENCE,
    MM_CTRL_CE,
    MM_CTRL_SE,
    MM_CTRL_TIS,
    MM_ETH_CS_FLAGS,
    MM_ETH_MSS,
    MM_ETH_INLINE_SZ,
    MM_DATA_INLINE,
    MM_DATA_LEN,
    MM_DATA_LKEY,
    MM_DATA_ADDR,
    MM_UMR_FLAGS,
    MM_UMR_BSF_OCTOWORDS,
    MM_ST_CONST_2,
    MM_ST_VERSION,
    MM_ST_CONST_1,
    MM_ST_STANDARD,
    MM_ST_RECORD_NUMBER,
    MM_ST_RESYNC_SN,
    MM_ST_GCM_IV,
    MM_ST_IMPLICIT_IV,
    MM_ST_DEK,
    MM_PR_TIS,
    MM_PR_NEXT_SN,
    MM_PR_HW_RESYNC_SN,
    MM_PR_TRACKER,
    MM_PR_AUTH,
    MM_PR_OFFSET,
    MM_IN_OPCODE,
    MM_IN_UID,
    MM_IN_OP_MOD,
    MM_IN_NUMBER,
    MM_OUT_STATUS,
    MM_OUT_SYNDROME,
    MM_OUT_NUMBER,
    MM_OUT_OBJ_ID,
    MM_TIS_OPCODE,
    MM_TIS_UID,
    MM_TIS_OP_MOD,
    MM_TIS_TLS_EN,
    MM_TIS_PRIO,
    MM_TIS_TD,
    MM_TIS_PD,
    MM_OBJ_OPCODE,
    MM_OBJ_UID,
    MM_OBJ_TYPE,
    MM_OBJ_ID,
    MM_DEK_SELECT,
    MM_DEK_STATE,
    MM_DEK_KEY_SIZE,
    MM_DEK_PURPOSE,
    MM_DEK_PD,
    MM_DEK_KEY_0, /* four words of 64 bits: the first two hold a key of 256 bits only */
    MM_DEK_KEY_1,
    MM_DEK_KEY_2,
    MM_DEK_KEY_3,
    MM_SYNC_OPCODE,
    MM_SYNC_UID,
    MM_SYNC_TYPE,
    MM_CAP_LOG_MAX_QP_SZ,
    MM_CAP_PORT_TYPE,
    MM_CAP_CQE_VERSION,
    MM_CAP_ETH_NET_OFFLOADS,
    MM_CAP_UAR_4K,
    MM_CAP_LOG_BF_REG_SIZE,
    MM_CAP_MAX_WQE_SZ_SQ,
    MM_CAP_NIC_FLOW_TABLE,
    MM_CAP_LOG_MAX_TD,
    MM_CAP_LOG_MAX_SQ,
    MM_CAP_LOG_MAX_TIR,
    MM_CAP_LOG_MAX_TIS,
    MM_CAP_OBJ_TYPES,
    MM_CAP_SQ_TS_FORMAT,
    MM_CAP_LOG_MAX_UCTX,
    MM_CAP_CRYPTO_BIT,
    MM_CAP_TLS_TX,
    MM_CAP_TLS_RX,
    MM_CAP_LOG_MAX_DEK,
    MM_CAP_UCTX_CAP,
    MM_ETHCAP_CSUM,
    MM_ETHCAP_SELF_LB,
    MM_ETHCAP_MAX_LSO,
    MM_ETHCAP_MULTI_PKT,
    MM_ETHCAP_INLINE_MODE,
    MM_ETHCAP_EMPW,
    MM_ETHCAP_SWP,
    MM_TLSCAP_12_128,
    MM_TLSCAP_13_128,
    MM_TLSCAP_12_256,
    MM_TLSCAP_13_256,
    MM_CRYPTOCAP_WRAPPED_OPERATIONAL,
    MM_CRYPTOCAP_COMMISSIONING,
    MM_CRYPTOCAP_SYNC_DEK,
    MM_CRYPTOCAP_LOG_DEK_MAX_ALLOC,
    MM_CRYPTOCAP_LOG_MAX_DEKS,
    MM_CRYPTOCAP_FAILED_SELFTESTS,
    MM_FTE_SMAC_HI,
    MM_FTE_SMAC_LO,
    MM_FTE_ETHERTYPE,
    MM_FTE_DMAC_HI,
    MM_FTE_DMAC_LO,
    MM_FTE_IP_PROTOCOL,
    MM_FTE_IP_DSCP,
    MM_FTE_IP_ECN,
    MM_FTE_CVLAN,
    MM_FTE_SVLAN,
    MM_FTE_FRAG,
    MM_FTE_IP_VERSION,
    MM_FTE_TCP_FLAGS,
    MM_FTE_TCP_SPORT,
    MM_FTE_TCP_DPORT,
    MM_FTE_UDP_SPORT,
    MM_FTE_UDP_DPORT,
    MM_FTE_SRC_HI,
    MM_FTE_SRC_LO,
    MM_FTE_DST_HI,
    MM_FTE_DST_LO,
    MM_N_FIELDS,
};

struct mm_field_row {
    enum mm_layout layout;
    const char *name;
    uint16_t bit, width;
    /* "struct.field" of mlx5_ifc.h, or NULL. Before it "+32": the layout has so many bits more in
     * front; "part": the field is the beginning of that one. */
    const char *ifc;
};

extern const struct mm_field_row mm_fields[MM_N_FIELDS];

uint64_t mm_get(const void *layout, enum mm_field field);
void mm_set(void *layout, enum mm_field field, uint64_t value);

/* First bit among `len` bytes that is set and belongs to no field of the layout, or -1. */
int mm_reserved_bit(enum mm_layout layout, const void *bytes, size_t len);

#endif
