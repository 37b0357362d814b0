/* The key file of smt_pcap: lines "client KEYHEX SALTHEX" and "server KEYHEX SALTHEX". */
#ifndef SMT_PCAP_KEYS_H
#define SMT_PCAP_KEYS_H

#include "pcap/inspect.h"

/* Reads both keys that the file has; empty lines and what follows a # are nothing. 0, or SMT_EFILE
 * with a line of text that never shows a key. */
SMT_MUST_CHECK int smt_inspect_keys_read(const char *file, struct smt_inspect_config *config,
                                         char *error_text, size_t error_text_len);

#endif
