/* Forks: a child must not touch the parent's sockets, keys and records, so each handle remembers
 * the generation it was born in and every public call compares.
 *
 * The generation in force stands in a page that the kernel hands to a child as zeros, so that every
 * way to make one is seen: fork(), and clone() called past the C library, where no handler runs.
 * A child that opens a context of its own begins the next generation. Where the kernel has no such
 * pages, pthread_atfork is all there is. vfork() is not seen: its child may only exec. */
#include "api/api.h"

#include <sys/mman.h>

enum { PAGE_LEN = 4096 };

/* Its own page, and zero from the start: not a word of it comes from the file. */
_Alignas(PAGE_LEN) atomic_uint smt_fork_page[PAGE_LEN / sizeof(atomic_uint)];

static atomic_uint n_generations;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_result;

static void in_child(void)
{
    atomic_store_explicit(&smt_fork_page[0], 0, memory_order_relaxed);
}

static void register_once(void)
{
    once_result = pthread_atfork(NULL, NULL, in_child) == 0 ? 0 : SMT_ESYSTEM;
    (void)madvise(smt_fork_page, sizeof(smt_fork_page), MADV_WIPEONFORK);
}

int smt_fork_init(void)
{
    if (pthread_once(&once, register_once) != 0)
        return SMT_ESYSTEM;
    unsigned none = 0;
    unsigned next = atomic_fetch_add_explicit(&n_generations, 1, memory_order_relaxed) + 1;
    /* Of two threads that come at once one wins; the number of the other stays unused. */
    (void)atomic_compare_exchange_strong_explicit(&smt_fork_page[0], &none, next,
                                                  memory_order_relaxed, memory_order_relaxed);
    return once_result;
}
