/* The one place of this layer that reads a clock. Nothing is timed by it: it may jump. */
#include "hs/wall_clock.h"

#include <time.h>

int64_t smt_wall_clock(void)
{
    return time(NULL);
}
