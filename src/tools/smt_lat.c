/* smt_lat: how long an RPC takes. What it shares with smt_bw is in common/: all but its
 * defaults. */
#include "common/bench.h"

int main(int argc, char **argv)
{
    return bench_main(BENCH_LAT, argc, argv);
}
