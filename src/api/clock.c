/* The one clock of the library: monotonic nanoseconds, read once per poll and handed to the engine.
 */
#include "api/api.h"

#include <time.h>

uint64_t smt_api_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}
