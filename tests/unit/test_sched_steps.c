/* What grants and SRPT cost with many messages at once, in steps: calls of functions of heap.c,
 * book.c, grant.c and srpt.c, inlined ones included, which the compiler counts for us
 * (-finstrument-functions). A comparison in the heap is one. Time is not judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sched_load.h"

enum { N_PACKETS = 3000, WARM = 3000 };

static uint64_t n_steps;

void __cyg_profile_func_enter(void *fn, void *from);
void __cyg_profile_func_exit(void *fn, void *from);

void __cyg_profile_func_enter(void *fn, void *from)
{
    n_steps++;
}

void __cyg_profile_func_exit(void *fn, void *from)
{
}

static const uint32_t numbers[] = {10, 100, 1000, 10000, 100000};

/* Steps a packet for each of the numbers of messages. */
static void steps_of(void (*begin)(struct sched_load *l, uint32_t n),
                     void (*packet)(struct sched_load *l), const char *what,
                     double out[SMT_ARRAY_LEN(numbers)])
{
    struct sched_load *l = malloc(sizeof(*l));
    assert_non_null(l);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(numbers); i++) {
        begin(l, numbers[i]);
        for (unsigned k = 0; k < WARM; k++)
            packet(l);
        n_steps = 0;
        for (unsigned k = 0; k < N_PACKETS; k++)
            packet(l);
        out[i] = (double)n_steps / N_PACKETS;
        printf("    %s, %u messages: %.1f steps a packet\n", what, numbers[i], out[i]);
        sched_load_free(l);
    }
    free(l);
}

/* Each tenfold number of messages may add so many steps. Counted from 100 on: with ten nearly all
 * have a place, and nobody competes. */
static void check_growth(const double steps[SMT_ARRAY_LEN(numbers)], double most)
{
    assert_true(steps[0] > 1);
    for (unsigned i = 1; i < SMT_ARRAY_LEN(numbers); i++)
        assert_true(steps[i] <= steps[1] + most * (i - 1));
}

static void grants_grow_with_the_logarithm(void **state)
{
    (void)state;
    double steps[SMT_ARRAY_LEN(numbers)];
    steps_of(sched_load_in, sched_packet_in, "grants", steps);
    check_growth(steps, 30);
}

static void srpt_grows_with_the_logarithm(void **state)
{
    (void)state;
    double steps[SMT_ARRAY_LEN(numbers)];
    steps_of(sched_load_out, sched_packet_out, "srpt", steps);
    check_growth(steps, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants_grow_with_the_logarithm),
        cmocka_unit_test(srpt_grows_with_the_logarithm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
