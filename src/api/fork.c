/* Forks: a child must not touch the parent's sockets, keys and records, so each handle remembers
 * the generation it was born in and every public call compares.
 *
 * pthread_atfork runs in the child of fork(); a raw clone() of the process is not seen, nor is
 * vfork(), whose child may only exec. */
#include "api/api.h"

uint32_t smt_fork_generation;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_result;

static void in_child(void)
{
    smt_fork_generation++;
}

static void register_once(void)
{
    once_result = pthread_atfork(NULL, NULL, in_child) == 0 ? 0 : SMT_ESYSTEM;
}

int smt_fork_init(void)
{
    if (pthread_once(&once, register_once) != 0)
        return SMT_ESYSTEM;
    return once_result;
}
