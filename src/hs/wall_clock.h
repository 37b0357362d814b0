/* The time of day, by which certificates and tickets are judged, as OpenSSL judges them. */
#ifndef SMT_HS_WALL_CLOCK_H
#define SMT_HS_WALL_CLOCK_H

#include <stdint.h>

/* Seconds since 1970. */
int64_t smt_wall_clock(void);

#endif
