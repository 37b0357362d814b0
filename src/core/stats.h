/* Counters of an engine: one table names them all, packets dropped by reason included. */
#ifndef SMT_CORE_STATS_H
#define SMT_CORE_STATS_H

#include "base/defs.h"

/* X(member): the name is the member's. Homa users will know many of them. */
#define SMT_STATS_TABLE(X)                                                                         \
    X(packets_sent_data)                                                                           \
    X(packets_sent_ctrl)                                                                           \
    X(packets_sent_handshake)                                                                      \
    X(packets_rcvd_data)                                                                           \
    X(packets_rcvd_ctrl)                                                                           \
    X(packets_rcvd_handshake)                                                                      \
    X(bytes_sent)                                                                                  \
    X(bytes_rcvd)                                                                                  \
    X(pad_bytes_rcvd)                                                                              \
    X(records_sealed)                                                                              \
    X(records_opened)                                                                              \
    X(records_sealed_nic)                                                                          \
    X(nic_not_ready)                                                                               \
    X(nic_not_again)                                                                               \
    X(nic_not_worth)                                                                               \
    X(bursts_sent)                                                                                 \
    X(bursts_rcvd)                                                                                 \
    X(bursts_lost)                                                                                 \
    X(bursts_bad)                                                                                  \
    X(singles_asked)                                                                               \
    X(nic_tests)                                                                                   \
    X(nic_tests_passed)                                                                            \
    X(nic_tests_failed)                                                                            \
    X(nic_no_context)                                                                              \
    X(nic_lost)                                                                                    \
    X(nic_refused)                                                                                 \
    X(resent_records)                                                                              \
    X(requests_sent)                                                                               \
    X(requests_received)                                                                           \
    X(responses_received)                                                                          \
    X(messages_sent)                                                                               \
    X(messages_received)                                                                           \
    X(replies_sent)                                                                                \
    X(rpcs_failed)                                                                                 \
    X(rpcs_cancelled)                                                                              \
    X(rpc_timeouts)                                                                                \
    X(grants_sent)                                                                                 \
    X(limits_moved)                                                                                \
    X(grants_silent)                                                                               \
    X(grants_fifo)                                                                                 \
    X(grants_rcvd)                                                                                 \
    X(resends_sent)                                                                                \
    X(resends_rcvd)                                                                                \
    X(busy_sent)                                                                                   \
    X(busy_rcvd)                                                                                   \
    X(unknown_sent)                                                                                \
    X(unknown_rcvd)                                                                                \
    X(need_acks_sent)                                                                              \
    X(need_acks_rcvd)                                                                              \
    X(acks_sent)                                                                                   \
    X(acks_rcvd)                                                                                   \
    X(marks_sent)                                                                                  \
    X(windows_cut)                                                                                 \
    X(memory_waits)                                                                                \
    X(memory_given)                                                                                \
    X(memory_taken_back)                                                                           \
    X(cutoffs_sent)                                                                                \
    X(cutoffs_moved)                                                                               \
    X(losses_seen)                                                                                 \
    X(moves_checked)                                                                               \
    X(peers_moved)                                                                                 \
    X(rekeys)                                                                                      \
    X(conns_opened)                                                                                \
    X(conns_accepted)                                                                              \
    X(conns_lost)                                                                                  \
    X(mtu_probes)                                                                                  \
    X(mtu_black_holes)                                                                             \
    X(versions_sent)                                                                               \
    X(retries_sent)                                                                                \
    X(tokens_taken)                                                                                \
    X(early_sent)                                                                                  \
    X(early_taken)                                                                                 \
    X(early_refused)                                                                               \
    X(no_session_sent)                                                                             \
    X(no_session_rcvd)                                                                             \
    X(frames_lost)                                                                                 \
    X(drop_malformed)                                                                              \
    X(drop_version)                                                                                \
    X(drop_port)                                                                                   \
    X(drop_no_session)                                                                             \
    X(drop_no_keys)                                                                                \
    X(drop_epoch)                                                                                  \
    X(drop_auth)                                                                                   \
    X(drop_replay)                                                                                 \
    X(drop_duplicate)                                                                              \
    X(drop_hint)                                                                                   \
    X(drop_finished)                                                                               \
    X(drop_over_credit)                                                                            \
    X(drop_no_memory)                                                                              \
    X(drop_other_peer)                                                                             \
    X(drop_role)                                                                                   \
    X(drop_await_accept)                                                                           \
    X(drop_too_long)                                                                               \
    X(drop_cookie)                                                                                 \
    X(drop_handshake)                                                                              \
    X(drop_half_open)                                                                              \
    X(drop_burst)                                                                                  \
    X(drop_early)                                                                                  \
    X(drop_frame)

struct smt_stats {
#define SMT_STATS_MEMBER(name) uint64_t name;
    SMT_STATS_TABLE(SMT_STATS_MEMBER)
#undef SMT_STATS_MEMBER
};

#endif
