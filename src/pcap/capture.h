/* Reads a pcap file packet by packet and takes off what is around the IP payload.
 *
 * Microsecond and nanosecond files of either byte order; Ethernet (with VLAN tags), raw IP and
 * Linux cooked. A file is read whole at opening. pcapng is named and refused. */
#ifndef SMT_PCAP_CAPTURE_H
#define SMT_PCAP_CAPTURE_H

#include "base/addr.h"
#include "base/defs.h"

enum smt_cap_kind {
    SMT_CAP_IP,       /* a whole IP packet */
    SMT_CAP_FRAGMENT, /* one part of one */
    SMT_CAP_CUT,      /* more on the wire than in the file, or shorter than its headers say */
    SMT_CAP_ARP,
    SMT_CAP_OTHER, /* not IP; `protocol` is 0 */
};

struct smt_cap_packet {
    uint64_t number; /* in the file, from 1 */
    uint64_t time_ns;
    enum smt_cap_kind kind;
    struct smt_addr from, to; /* without ports */
    uint8_t protocol;         /* IPv6: the next header */
    uint8_t tos;              /* or traffic class */
    uint16_t ip_id;           /* IPv4 */
    bool dont_fragment;       /* IPv4: DF; IPv6: true */
    uint8_t *data;            /* IP payload, of the capture; may be written */
    uint32_t len;
};

struct smt_capture {
    uint8_t *bytes;
    size_t len, at;
    bool is_swapped, is_nano;
    uint32_t link;
    uint64_t number;
};

/* 0, or SMT_EFILE with a line of text. Closed by smt_capture_close either way. */
SMT_MUST_CHECK int smt_capture_open(struct smt_capture *c, const char *file, char *error_text,
                                    size_t error_text_len);
/* The same of `len` bytes in memory, which are given (smt_mem_alloc); `name` is for the text. */
SMT_MUST_CHECK int smt_capture_of_bytes(struct smt_capture *c, const char *name, uint8_t *bytes,
                                        size_t len, char *error_text, size_t error_text_len);
void smt_capture_close(struct smt_capture *c);

/* 1 and the next packet, 0 at the end, SMT_EMALFORMED when the file ends inside a record. */
SMT_MUST_CHECK int smt_capture_next(struct smt_capture *c, struct smt_cap_packet *out);

#endif
