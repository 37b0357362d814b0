/* smt_bw: how much goes through. What it shares with smt_lat is in common/: all but its
 * defaults. */
#include "common/bench.h"

int main(int argc, char **argv)
{
    return bench_main(BENCH_BW, argc, argv);
}
