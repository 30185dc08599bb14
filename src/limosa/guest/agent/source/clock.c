/* The guest's clocks, and a pace kept by absolute deadlines. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t realtime_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

void sleep_until_ns(uint64_t monotonic)
{
    struct timespec moment = {(time_t)(monotonic / NS_PER_S), (long)(monotonic % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL) == EINTR)
        ;
}

void pace_start(struct pace *pace, uint64_t period_ns, uint64_t patience_ns)
{
    pace->period_ns = period_ns ? period_ns : 1;
    pace->patience_ns = patience_ns;
    pace->next_ns = monotonic_ns();
}

/* The next moment is never more than one period away, unless a clock was read that has gone back since
 * (a virtual machine's clock may misbehave as it moves). The look once a second mends that. */
static uint64_t sleep_until_next(struct pace *pace, struct worker *worker)
{
    uint64_t now;
    while ((now = monotonic_ns()) < pace->next_ns && !atomic_load(&worker->stopping)) {
        if (pace->next_ns - now > pace->period_ns)
            pace->next_ns = now + pace->period_ns;
        worker_sleep_until(worker, pace->next_ns - now > NS_PER_S ? now + NS_PER_S : pace->next_ns);
    }
    return now;
}

uint64_t pace_wait(struct pace *pace, struct worker *worker)
{
    uint64_t now = sleep_until_next(pace, worker), dropped = 0;
    uint64_t late_ns = now > pace->next_ns ? now - pace->next_ns : 0;
    if (late_ns >= pace->period_ns && late_ns >= pace->patience_ns) {
        dropped = late_ns / pace->period_ns;
        pace->next_ns += dropped * pace->period_ns;
    }
    pace->next_ns += pace->period_ns;
    return dropped;
}
