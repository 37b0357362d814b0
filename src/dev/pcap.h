/* Writes packets of a device into a pcap file, with the headers they would have on Ethernet.
 *
 * Nanosecond format; addresses, ports, DSCP/ECN and both checksums are right, MAC addresses are
 * made up. Written in large pieces: what counts must be flushed. */
#ifndef SMT_DEV_PCAP_H
#define SMT_DEV_PCAP_H

#include "base/addr.h"
#include "base/defs.h"

struct smt_pcap;

/* Creates or truncates the file. *out is given (smt_pcap_close). SMT_EFILE, with a line of text. */
SMT_MUST_CHECK int smt_pcap_open(const char *file, char *error_text, size_t error_text_len,
                                 struct smt_pcap **out);

/* One UDP packet of `len` bytes. `time_ns` since 1970; `tos` is the whole traffic class byte. IPv4
 * when `to` and `from` both are, an unspecified address being either. After a failed write nothing
 * more is written; flush says so. */
void smt_pcap_write(struct smt_pcap *p, uint64_t time_ns, const struct smt_addr *from,
                    const struct smt_addr *to, uint8_t tos, const void *data, size_t len);

/* 0 or SMT_EFILE when this or an earlier write failed. */
int smt_pcap_flush(struct smt_pcap *p);

/* Flushes. NULL is allowed. */
void smt_pcap_close(struct smt_pcap *p);

#endif
