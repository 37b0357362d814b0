/* The lock, the clock and the dice. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "model.h"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static uint64_t dice;

void mm_enter(void)
{
    pthread_mutex_lock(&lock);
}

void mm_leave(void)
{
    pthread_mutex_unlock(&lock);
}

uint64_t mm_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* splitmix64: one seed gives one sequence. */
uint64_t mm_random(void)
{
    if (dice == 0)
        dice = mm_config()->seed * 0x9e3779b97f4a7c15u + 1;
    uint64_t z = dice += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

bool mm_hit(mm_chance chance)
{
    return chance != 0 && (uint32_t)mm_random() <= chance;
}

static struct grave {
    void *object;
    struct grave *next;
} * graves;

void mm_bury(void *object)
{
    struct grave *g = malloc(sizeof(*g));
    if (g == NULL)
        mm_die("model", "out of memory");
    *g = (struct grave){object, graves};
    graves = g;
}

__attribute__((destructor)) static void at_end(void)
{
    if (mm_config_is_read())
        mm_stats_write();
}
