/* The table of fields. `ifc` names the same field in the kernel's description of the device where
 * that has one; control, Ethernet and data segments are in mlx5dv.h, and test_model compares them
 * with its structures. */
#include "fields.h"

#include <string.h>

const struct mm_field_row mm_fields[MM_N_FIELDS] = {
    [MM_CTRL_OPMOD] = {MM_CTRL, "ctrl.opmod", 0, 8},
    [MM_CTRL_WQE_INDEX] = {MM_CTRL, "ctrl.wqe_index", 8, 16},
    [MM_CTRL_OPCODE] = {MM_CTRL, "ctrl.opcode", 24, 8},
    [MM_CTRL_QPN] = {MM_CTRL, "ctrl.qpn", 32, 24},
    [MM_CTRL_DS] = {MM_CTRL, "ctrl.ds", 58, 6},
    [MM_CTRL_FENCE] = {MM_CTRL, "ctrl.fence", 88, 3},
    [MM_CTRL_CE] = {MM_CTRL, "ctrl.ce", 92, 2},
    [MM_CTRL_SE] = {MM_CTRL, "ctrl.se", 94, 1},
    [MM_CTRL_TIS] = {MM_CTRL, "ctrl.tis_tir_num", 96, 24},
    [MM_ETH_CS_FLAGS] = {MM_ETH, "eth.cs_flags", 32, 8},
    [MM_ETH_MSS] = {MM_ETH, "eth.mss", 48, 16},
    [MM_ETH_INLINE_SZ] = {MM_ETH, "eth.inline_hdr_sz", 96, 16},
    [MM_DATA_INLINE] = {MM_DATA, "data.inline", 0, 1},
    [MM_DATA_LEN] = {MM_DATA, "data.byte_count", 1, 31},
    [MM_DATA_LKEY] = {MM_DATA, "data.lkey", 32, 32},
    [MM_DATA_ADDR] = {MM_DATA, "data.addr", 64, 64},
    [MM_UMR_FLAGS] = {MM_UMR, "umr.flags", 0, 8},
    [MM_UMR_BSF_OCTOWORDS] = {MM_UMR, "umr.bsf_octowords", 48, 16},
    [MM_ST_CONST_2] = {MM_STATIC, "static.const_2", 0, 2, "tls_static_params.const_2"},
    [MM_ST_VERSION] = {MM_STATIC, "static.tls_version", 2, 4, "tls_static_params.tls_version"},
    [MM_ST_CONST_1] = {MM_STATIC, "static.const_1", 6, 2, "tls_static_params.const_1"},
    [MM_ST_STANDARD] = {MM_STATIC, "static.encryption_standard", 0x1c, 4,
                        "tls_static_params.encryption_standard"},
    [MM_ST_RECORD_NUMBER] = {MM_STATIC, "static.initial_record_number", 0x40, 64,
                             "tls_static_params.initial_record_number"},
    [MM_ST_RESYNC_SN] = {MM_STATIC, "static.resync_tcp_sn", 0x80, 32,
                         "tls_static_params.resync_tcp_sn"},
    [MM_ST_GCM_IV] = {MM_STATIC, "static.gcm_iv", 0xa0, 32, "tls_static_params.gcm_iv"},
    [MM_ST_IMPLICIT_IV] = {MM_STATIC, "static.implicit_iv", 0xc0, 64,
                           "tls_static_params.implicit_iv"},
    [MM_ST_DEK] = {MM_STATIC, "static.dek_index", 0x108, 24, "tls_static_params.dek_index"},
    [MM_PR_TIS] = {MM_PROGRESS, "progress.tis_tir_num", 0, 32},
    [MM_PR_NEXT_SN] = {MM_PROGRESS, "progress.next_record_tcp_sn", 0x20, 32,
                       "+32 tls_progress_params.next_record_tcp_sn"},
    [MM_PR_HW_RESYNC_SN] = {MM_PROGRESS, "progress.hw_resync_tcp_sn", 0x40, 32,
                            "+32 tls_progress_params.hw_resync_tcp_sn"},
    [MM_PR_TRACKER] = {MM_PROGRESS, "progress.record_tracker_state", 0x60, 2,
                       "+32 tls_progress_params.record_tracker_state"},
    [MM_PR_AUTH] = {MM_PROGRESS, "progress.auth_state", 0x62, 2,
                    "+32 tls_progress_params.auth_state"},
    [MM_PR_OFFSET] = {MM_PROGRESS, "progress.hw_offset_record_number", 0x68, 24,
                      "+32 tls_progress_params.hw_offset_record_number"},
    [MM_IN_OPCODE] = {MM_CMD_IN, "cmd.opcode", 0, 16, "query_tis_in.opcode"},
    [MM_IN_UID] = {MM_CMD_IN, "cmd.uid", 16, 16, "destroy_tis_in.uid"},
    [MM_IN_OP_MOD] = {MM_CMD_IN, "cmd.op_mod", 48, 16, "query_tis_in.op_mod"},
    [MM_IN_NUMBER] = {MM_CMD_IN, "cmd.number", 72, 24, "query_tis_in.tisn"},
    [MM_OUT_STATUS] = {MM_CMD_OUT, "out.status", 0, 8, "create_tis_out.status"},
    [MM_OUT_SYNDROME] = {MM_CMD_OUT, "out.syndrome", 32, 32, "create_tis_out.syndrome"},
    [MM_OUT_NUMBER] = {MM_CMD_OUT, "out.number", 72, 24, "create_tis_out.tisn"},
    [MM_OUT_OBJ_ID] = {MM_CMD_OUT, "out.obj_id", 64, 32, "general_obj_out_cmd_hdr.obj_id"},
    [MM_TIS_OPCODE] = {MM_TIS_IN, "create_tis.opcode", 0, 16, "create_tis_in.opcode"},
    [MM_TIS_UID] = {MM_TIS_IN, "create_tis.uid", 16, 16, "create_tis_in.uid"},
    [MM_TIS_OP_MOD] = {MM_TIS_IN, "create_tis.op_mod", 48, 16, "create_tis_in.op_mod"},
    [MM_TIS_TLS_EN] = {MM_TIS_IN, "tisc.tls_en", 0x101, 1, "create_tis_in.ctx.tls_en"},
    [MM_TIS_PRIO] = {MM_TIS_IN, "tisc.prio", 0x10c, 4, "create_tis_in.ctx.prio"},
    [MM_TIS_TD] = {MM_TIS_IN, "tisc.transport_domain", 0x228, 24,
                   "create_tis_in.ctx.transport_domain"},
    [MM_TIS_PD] = {MM_TIS_IN, "tisc.pd", 0x268, 24, "create_tis_in.ctx.pd"},
    [MM_OBJ_OPCODE] = {MM_OBJ_IN, "obj.opcode", 0, 16, "general_obj_in_cmd_hdr.opcode"},
    [MM_OBJ_UID] = {MM_OBJ_IN, "obj.uid", 16, 16, "general_obj_in_cmd_hdr.uid"},
    [MM_OBJ_TYPE] = {MM_OBJ_IN, "obj.obj_type", 48, 16, "general_obj_in_cmd_hdr.obj_type"},
    [MM_OBJ_ID] = {MM_OBJ_IN, "obj.obj_id", 64, 32, "general_obj_in_cmd_hdr.obj_id"},
    [MM_DEK_SELECT] = {MM_DEK, "dek.modify_field_select", 0, 64,
                       "encryption_key_obj.modify_field_select"},
    [MM_DEK_STATE] = {MM_DEK, "dek.state", 0x40, 8, "encryption_key_obj.state"},
    [MM_DEK_KEY_SIZE] = {MM_DEK, "dek.key_size", 0x54, 4, "encryption_key_obj.key_size"},
    [MM_DEK_PURPOSE] = {MM_DEK, "dek.key_purpose", 0x5c, 4, "encryption_key_obj.key_purpose"},
    [MM_DEK_PD] = {MM_DEK, "dek.pd", 0x68, 24, "encryption_key_obj.pd"},
    [MM_DEK_KEY_0] = {MM_DEK, "dek.key[0..7]", 0x200, 64, "part encryption_key_obj.key"},
    [MM_DEK_KEY_1] = {MM_DEK, "dek.key[8..15]", 0x240, 64},
    [MM_DEK_KEY_2] = {MM_DEK, "dek.key[16..23]", 0x280, 64},
    [MM_DEK_KEY_3] = {MM_DEK, "dek.key[24..31]", 0x2c0, 64},
    [MM_SYNC_OPCODE] = {MM_SYNC_IN, "sync_crypto.opcode", 0, 16, "sync_crypto_in.opcode"},
    [MM_SYNC_UID] = {MM_SYNC_IN, "sync_crypto.uid", 16, 16, "sync_crypto_in.uid"},
    [MM_SYNC_TYPE] = {MM_SYNC_IN, "sync_crypto.crypto_type", 0x70, 16,
                      "sync_crypto_in.crypto_type"},
    [MM_CAP_LOG_MAX_QP_SZ] = {MM_CAP_GENERAL, "cap.log_max_qp_sz", 0x88, 8,
                              "cmd_hca_cap.log_max_qp_sz"},
    [MM_CAP_NIC_FLOW_TABLE] = {MM_CAP_GENERAL, "cap.nic_flow_table", 0x1a6, 1,
                               "cmd_hca_cap.nic_flow_table"},
    [MM_CAP_PORT_TYPE] = {MM_CAP_GENERAL, "cap.port_type", 0x1b6, 2, "cmd_hca_cap.port_type"},
    [MM_CAP_CQE_VERSION] = {MM_CAP_GENERAL, "cap.cqe_version", 0x1fc, 4, "cmd_hca_cap.cqe_version"},
    [MM_CAP_ETH_NET_OFFLOADS] = {MM_CAP_GENERAL, "cap.eth_net_offloads", 0x21c, 1,
                                 "cmd_hca_cap.eth_net_offloads"},
    [MM_CAP_UAR_4K] = {MM_CAP_GENERAL, "cap.uar_4k", 0x240, 1, "cmd_hca_cap.uar_4k"},
    [MM_CAP_LOG_BF_REG_SIZE] = {MM_CAP_GENERAL, "cap.log_bf_reg_size", 0x26b, 5,
                                "cmd_hca_cap.log_bf_reg_size"},
    [MM_CAP_MAX_WQE_SZ_SQ] = {MM_CAP_GENERAL, "cap.max_wqe_sz_sq", 0x290, 16,
                              "cmd_hca_cap.max_wqe_sz_sq"},
    [MM_CAP_LOG_MAX_TD] = {MM_CAP_GENERAL, "cap.log_max_transport_domain", 0x323, 5,
                           "cmd_hca_cap.log_max_transport_domain"},
    [MM_CAP_LOG_MAX_SQ] = {MM_CAP_GENERAL, "cap.log_max_sq", 0x36b, 5, "cmd_hca_cap.log_max_sq"},
    [MM_CAP_LOG_MAX_TIR] = {MM_CAP_GENERAL, "cap.log_max_tir", 0x373, 5, "cmd_hca_cap.log_max_tir"},
    [MM_CAP_LOG_MAX_TIS] = {MM_CAP_GENERAL, "cap.log_max_tis", 0x37b, 5, "cmd_hca_cap.log_max_tis"},
    [MM_CAP_OBJ_TYPES] = {MM_CAP_GENERAL, "cap.general_obj_types", 0x400, 64,
                          "cmd_hca_cap.general_obj_types"},
    [MM_CAP_SQ_TS_FORMAT] = {MM_CAP_GENERAL, "cap.sq_ts_format", 0x440, 2,
                             "cmd_hca_cap.sq_ts_format"},
    [MM_CAP_LOG_MAX_UCTX] = {MM_CAP_GENERAL, "cap.log_max_uctx", 0x463, 5,
                             "cmd_hca_cap.log_max_uctx"},
    [MM_CAP_CRYPTO_BIT] = {MM_CAP_GENERAL, "cap.crypto", 0x469, 1, "cmd_hca_cap.crypto"},
    [MM_CAP_TLS_TX] = {MM_CAP_GENERAL, "cap.tls_tx", 0x481, 1, "cmd_hca_cap.tls_tx"},
    [MM_CAP_TLS_RX] = {MM_CAP_GENERAL, "cap.tls_rx", 0x482, 1, "cmd_hca_cap.tls_rx"},
    [MM_CAP_LOG_MAX_DEK] = {MM_CAP_GENERAL, "cap.log_max_dek", 0x5b3, 5, "cmd_hca_cap.log_max_dek"},
    [MM_CAP_UCTX_CAP] = {MM_CAP_GENERAL, "cap.uctx_cap", 0x6a0, 32, "cmd_hca_cap.uctx_cap"},
    [MM_ETHCAP_CSUM] = {MM_CAP_ETH, "eth_cap.csum_cap", 0, 1,
                        "per_protocol_networking_offload_caps.csum_cap"},
    [MM_ETHCAP_SELF_LB] = {MM_CAP_ETH, "eth_cap.self_lb_en_modifiable", 8, 1,
                           "per_protocol_networking_offload_caps.self_lb_en_modifiable"},
    [MM_ETHCAP_MAX_LSO] = {MM_CAP_ETH, "eth_cap.max_lso_cap", 0xb, 5,
                           "per_protocol_networking_offload_caps.max_lso_cap"},
    [MM_ETHCAP_MULTI_PKT] = {MM_CAP_ETH, "eth_cap.multi_pkt_send_wqe", 0x10, 2,
                             "per_protocol_networking_offload_caps.multi_pkt_send_wqe"},
    [MM_ETHCAP_INLINE_MODE] = {MM_CAP_ETH, "eth_cap.wqe_inline_mode", 0x12, 2,
                               "per_protocol_networking_offload_caps.wqe_inline_mode"},
    [MM_ETHCAP_EMPW] = {MM_CAP_ETH, "eth_cap.enhanced_multi_pkt_send_wqe", 0x1a, 1,
                        "per_protocol_networking_offload_caps.enhanced_multi_pkt_send_wqe"},
    [MM_ETHCAP_SWP] = {MM_CAP_ETH, "eth_cap.swp", 0x20, 1,
                       "per_protocol_networking_offload_caps.swp"},
    [MM_TLSCAP_12_128] = {MM_CAP_TLS, "tls_cap.tls_1_2_aes_gcm_128", 0, 1,
                          "tls_cap.tls_1_2_aes_gcm_128"},
    [MM_TLSCAP_13_128] = {MM_CAP_TLS, "tls_cap.tls_1_3_aes_gcm_128", 1, 1,
                          "tls_cap.tls_1_3_aes_gcm_128"},
    [MM_TLSCAP_12_256] = {MM_CAP_TLS, "tls_cap.tls_1_2_aes_gcm_256", 2, 1,
                          "tls_cap.tls_1_2_aes_gcm_256"},
    [MM_TLSCAP_13_256] = {MM_CAP_TLS, "tls_cap.tls_1_3_aes_gcm_256", 3, 1,
                          "tls_cap.tls_1_3_aes_gcm_256"},
    [MM_CRYPTOCAP_WRAPPED_OPERATIONAL] = {MM_CAP_CRYPTO, "crypto_cap.wrapped_crypto_operational", 0,
                                          1, "crypto_cap.wrapped_crypto_operational"},
    [MM_CRYPTOCAP_COMMISSIONING] = {MM_CAP_CRYPTO,
                                    "crypto_cap.wrapped_crypto_going_to_commissioning", 1, 1,
                                    "crypto_cap.wrapped_crypto_going_to_commissioning"},
    [MM_CRYPTOCAP_SYNC_DEK] = {MM_CAP_CRYPTO, "crypto_cap.synchronize_dek", 3, 1,
                               "crypto_cap.synchronize_dek"},
    [MM_CRYPTOCAP_LOG_DEK_MAX_ALLOC] = {MM_CAP_CRYPTO, "crypto_cap.log_dek_max_alloc", 0x23, 5,
                                        "crypto_cap.log_dek_max_alloc"},
    [MM_CRYPTOCAP_LOG_MAX_DEKS] = {MM_CAP_CRYPTO, "crypto_cap.log_max_num_deks", 0x2b, 5,
                                   "crypto_cap.log_max_num_deks"},
    [MM_CRYPTOCAP_FAILED_SELFTESTS] = {MM_CAP_CRYPTO, "crypto_cap.failed_selftests", 0x40, 16},
    [MM_FTE_SMAC_HI] = {MM_FTE, "fte.smac_47_16", 0, 32, "fte_match_set_lyr_2_4.smac_47_16"},
    [MM_FTE_SMAC_LO] = {MM_FTE, "fte.smac_15_0", 0x20, 16, "fte_match_set_lyr_2_4.smac_15_0"},
    [MM_FTE_ETHERTYPE] = {MM_FTE, "fte.ethertype", 0x30, 16, "fte_match_set_lyr_2_4.ethertype"},
    [MM_FTE_DMAC_HI] = {MM_FTE, "fte.dmac_47_16", 0x40, 32, "fte_match_set_lyr_2_4.dmac_47_16"},
    [MM_FTE_DMAC_LO] = {MM_FTE, "fte.dmac_15_0", 0x60, 16, "fte_match_set_lyr_2_4.dmac_15_0"},
    [MM_FTE_IP_PROTOCOL] = {MM_FTE, "fte.ip_protocol", 0x80, 8,
                            "fte_match_set_lyr_2_4.ip_protocol"},
    [MM_FTE_IP_DSCP] = {MM_FTE, "fte.ip_dscp", 0x88, 6, "fte_match_set_lyr_2_4.ip_dscp"},
    [MM_FTE_IP_ECN] = {MM_FTE, "fte.ip_ecn", 0x8e, 2, "fte_match_set_lyr_2_4.ip_ecn"},
    [MM_FTE_CVLAN] = {MM_FTE, "fte.cvlan_tag", 0x90, 1, "fte_match_set_lyr_2_4.cvlan_tag"},
    [MM_FTE_SVLAN] = {MM_FTE, "fte.svlan_tag", 0x91, 1, "fte_match_set_lyr_2_4.svlan_tag"},
    [MM_FTE_FRAG] = {MM_FTE, "fte.frag", 0x92, 1, "fte_match_set_lyr_2_4.frag"},
    [MM_FTE_IP_VERSION] = {MM_FTE, "fte.ip_version", 0x93, 4, "fte_match_set_lyr_2_4.ip_version"},
    [MM_FTE_TCP_FLAGS] = {MM_FTE, "fte.tcp_flags", 0x97, 9, "fte_match_set_lyr_2_4.tcp_flags"},
    [MM_FTE_TCP_SPORT] = {MM_FTE, "fte.tcp_sport", 0xa0, 16, "fte_match_set_lyr_2_4.tcp_sport"},
    [MM_FTE_TCP_DPORT] = {MM_FTE, "fte.tcp_dport", 0xb0, 16, "fte_match_set_lyr_2_4.tcp_dport"},
    [MM_FTE_UDP_SPORT] = {MM_FTE, "fte.udp_sport", 0xe0, 16, "fte_match_set_lyr_2_4.udp_sport"},
    [MM_FTE_UDP_DPORT] = {MM_FTE, "fte.udp_dport", 0xf0, 16, "fte_match_set_lyr_2_4.udp_dport"},
    [MM_FTE_SRC_HI] = {MM_FTE, "fte.src_ip[0..7]", 0x100, 64,
                       "part fte_match_set_lyr_2_4.src_ipv4_src_ipv6"},
    [MM_FTE_SRC_LO] = {MM_FTE, "fte.src_ip[8..15]", 0x140, 64},
    [MM_FTE_DST_HI] = {MM_FTE, "fte.dst_ip[0..7]", 0x180, 64,
                       "part fte_match_set_lyr_2_4.dst_ipv4_dst_ipv6"},
    [MM_FTE_DST_LO] = {MM_FTE, "fte.dst_ip[8..15]", 0x1c0, 64},
};

static bool bit_get(const uint8_t *p, unsigned bit)
{
    return p[bit / 8] >> (7 - bit % 8) & 1;
}

uint64_t mm_get(const void *layout, enum mm_field field)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < mm_fields[field].width; i++)
        v = v << 1 | bit_get(layout, mm_fields[field].bit + i);
    return v;
}

void mm_set(void *layout, enum mm_field field, uint64_t value)
{
    uint8_t *p = layout;
    for (unsigned i = 0; i < mm_fields[field].width; i++) {
        unsigned bit = mm_fields[field].bit + i;
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        bool one = value >> (mm_fields[field].width - 1 - i) & 1;
        p[bit / 8] = one ? p[bit / 8] | mask : p[bit / 8] & (uint8_t)~mask;
    }
}

static bool is_known(enum mm_layout layout, unsigned bit)
{
    for (unsigned f = 0; f < MM_N_FIELDS; f++) {
        if (mm_fields[f].layout == layout && bit >= mm_fields[f].bit &&
            bit < mm_fields[f].bit + mm_fields[f].width)
            return true;
    }
    return false;
}

int mm_reserved_bit(enum mm_layout layout, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (unsigned i = 0; i < len; i++) {
        for (unsigned b = 0; p[i] != 0 && b < 8; b++) {
            if (bit_get(p, i * 8 + b) && !is_known(layout, i * 8 + b))
                return (int)(i * 8 + b);
        }
    }
    return -1;
}
