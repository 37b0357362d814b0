/* Packets outside the records: HANDSHAKE, RETRY, NO_SESSION, VERSION, and CTRL packets. */
#ifndef SMT_CORE_HANDSHAKE_H
#define SMT_CORE_HANDSHAKE_H

#include "base/packet.h"
#include "wire/wire.h"

struct smt_engine;

void smt_handshake_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                           const struct smt_hdr *hdr);
void smt_retry_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                       const struct smt_hdr *hdr);
void smt_no_session_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                            const struct smt_hdr *hdr);
void smt_version_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                         const struct smt_hdr *hdr);
void smt_ctrl_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                      const struct smt_hdr *hdr);

#endif
