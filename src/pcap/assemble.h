/* Messages from DATA packets: bytes put where they belong, records of smt1 gathered and opened. */
#ifndef SMT_PCAP_ASSEMBLE_H
#define SMT_PCAP_ASSEMBLE_H

#include "pcap/inspect.h"

struct smt_assembly;

SMT_MUST_CHECK int smt_assembly_new(const struct smt_inspect_config *config,
                                    struct smt_assembly **out);
void smt_assembly_free(struct smt_assembly *a);

/* One decoded DATA packet. Writes the rule it breaks into `fault` (left alone when none). 0, or
 * SMT_ENOMEM beyond 1 GiB. */
SMT_MUST_CHECK int smt_assembly_data(struct smt_assembly *a, const struct smt_cap_packet *packet,
                                     const struct smt_homa_pkt *p, char *fault, size_t fault_len);

/* The message of an RPC in one direction, `from` and `to` with ports; NULL when none was seen. */
const struct smt_inspect_message *smt_assembly_find(const struct smt_assembly *a,
                                                    const struct smt_addr *from,
                                                    const struct smt_addr *to, uint64_t id);

const struct smt_inspect_message *smt_assembly_first(const struct smt_assembly *a);

#endif
