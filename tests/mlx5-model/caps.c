/* Capability areas, from the table of fields and the knobs. */
#include "caps.h"

#include <string.h>

#include "model.h"

enum { GENERAL = 0, ETH = 1, TLS = 0x11, CRYPTO = 0x1a };

static void general_fill(bool current, uint8_t *b)
{
    const struct mm_config *k = mm_config();
    const struct {
        enum mm_field field;
        uint64_t value;
    } rows[] = {
        {MM_CAP_LOG_MAX_QP_SZ, 15},
        {MM_CAP_PORT_TYPE, k->ib ? 0 : 1},
        {MM_CAP_CQE_VERSION, 1},
        {MM_CAP_ETH_NET_OFFLOADS, 1},
        {MM_CAP_UAR_4K, 1},
        {MM_CAP_LOG_BF_REG_SIZE, 9},
        {MM_CAP_MAX_WQE_SZ_SQ, 1024},
        {MM_CAP_NIC_FLOW_TABLE, 1},
        {MM_CAP_LOG_MAX_TD, k->log_max_td},
        {MM_CAP_LOG_MAX_SQ, 20},
        {MM_CAP_LOG_MAX_TIR, 20},
        {MM_CAP_LOG_MAX_TIS, k->log_max_tis},
        {MM_CAP_OBJ_TYPES, k->obj_types},
        {MM_CAP_LOG_MAX_UCTX, 10},
        {MM_CAP_CRYPTO_BIT, k->crypto},
        {MM_CAP_TLS_TX, current ? k->tls_tx : k->tls_tx_max},
        {MM_CAP_TLS_RX, current ? k->tls_tx : k->tls_tx_max},
        {MM_CAP_LOG_MAX_DEK, k->log_max_dek},
        {MM_CAP_UCTX_CAP, 1},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        mm_set(b, rows[i].field, rows[i].value);
}

static void eth_fill(uint8_t *b)
{
    mm_set(b, MM_ETHCAP_CSUM, 1);
    mm_set(b, MM_ETHCAP_SELF_LB, 1);
    mm_set(b, MM_ETHCAP_MAX_LSO, mm_config()->log_max_lso);
    mm_set(b, MM_ETHCAP_INLINE_MODE, 2);
    mm_set(b, MM_ETHCAP_EMPW, 1);
    mm_set(b, MM_ETHCAP_SWP, 1);
}

static void tls_fill(uint8_t *b)
{
    mm_set(b, MM_TLSCAP_12_128, mm_config()->tls >> 3 & 1);
    mm_set(b, MM_TLSCAP_13_128, mm_config()->tls >> 2 & 1);
    mm_set(b, MM_TLSCAP_12_256, mm_config()->tls >> 1 & 1);
    mm_set(b, MM_TLSCAP_13_256, mm_config()->tls & 1);
}

static void crypto_fill(uint8_t *b)
{
    mm_set(b, MM_CRYPTOCAP_SYNC_DEK, mm_config()->sync_dek);
    mm_set(b, MM_CRYPTOCAP_LOG_DEK_MAX_ALLOC, 0);
    mm_set(b, MM_CRYPTOCAP_LOG_MAX_DEKS, mm_config()->log_max_dek);
    mm_set(b, MM_CRYPTOCAP_FAILED_SELFTESTS, mm_config()->failed_selftests);
}

enum mm_status mm_caps_fill(uint32_t type, bool current, uint8_t *area)
{
    memset(area, 0, MM_CAP_AREA);
    switch (type) {
    case GENERAL:
        general_fill(current, area);
        return MM_OK;
    case ETH:
        eth_fill(area);
        return MM_OK;
    case TLS:
        if (!mm_config()->tls_tx) {
            mm_complain("cmd.op_mod", "TLS capabilities of a device without tls_tx and tls_rx");
            return MM_BAD_PARAM;
        }
        tls_fill(area);
        return MM_OK;
    case CRYPTO:
        if (!mm_config()->crypto) {
            mm_complain("cmd.op_mod", "crypto capabilities of a device without the crypto bit");
            return MM_BAD_PARAM;
        }
        crypto_fill(area);
        return MM_OK;
    default:
        mm_complain("cmd.op_mod", "capability type 0x%x is not modelled", type);
        return MM_BAD_PARAM;
    }
}
