/* The words of a tap specification, for tap.c and its tests. */
#ifndef SMT_DEV_TAP_H
#define SMT_DEV_TAP_H

#include "base/defs.h"

enum { SMT_TAP_CERTAIN = 1000000000 }; /* probabilities are parts of this */

struct smt_tap_spec {
    uint32_t drop, dup, reorder, corrupt;
    uint64_t delay_ns;
    uint64_t seed;
    bool tx, rx;    /* directions with faults */
    char pcap[256]; /* "" = none; "%p" stands for the port */
};

/* "drop=0.05,dup=0.05,reorder=0.2,corrupt=0.01,delay_us=50,seed=7,dir=tx,pcap=FILE", each word
 * optional. SMT_EINVAL with a line of text when malformed. */
SMT_MUST_CHECK int smt_tap_spec_parse(const char *text, char *error_text, size_t error_text_len,
                                      struct smt_tap_spec *out);

#endif
