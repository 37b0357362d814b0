/* One received packet on its way from a device to the engine. */
#ifndef SMT_BASE_PACKET_H
#define SMT_BASE_PACKET_H

#include "base/addr.h"

/* Borrowed until the device's next rx call. `data` may be written (opened in place). */
struct smt_pkt {
    uint8_t *data;
    uint32_t len;
    uint16_t ip_id; /* IPv4 identification where the device sees it, else 0 */
    uint8_t ecn;    /* 2 bits; 3 = congestion experienced */
    uint8_t zero;
    const struct smt_addr *from;
};

#endif
