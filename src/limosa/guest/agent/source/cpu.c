/* CPU speed inside the guest over time: a fixed piece of work at a low duty, timed by the guest's clock. */
#define _GNU_SOURCE
#include "agent.h"

#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define RING 16384      /* 5.4 minutes at one sample each 20 ms */
#define BATCH 480       /* samples in one reply: 5 numbers of at most 20 digits each fit in 64 KiB */
#define PRIMES_BELOW 400 /* one event: trial division of the odd numbers below */
#define CALIBRATION_RUNS 5

struct sample {
    uint64_t start_ns, duration_ns, cpu_ns;
};

static struct worker worker = WORKER_INIT;
static struct sample ring[RING];
static uint64_t last_index; /* of the newest sample; the first one has index 1. Under worker.lock */
static uint64_t interval_ns, loop_events;
static _Atomic uint64_t missed;
static volatile unsigned sink;

/* One event. What is counted is the work, so the compiler must not take any of it away. */
static __attribute__((noinline)) unsigned one_event(unsigned below)
{
    unsigned found = 1; /* 2 */
    for (unsigned candidate = 3; candidate < below; candidate += 2) {
        unsigned divisor = 3;
        while (divisor * divisor <= candidate && candidate % divisor)
            divisor += 2;
        found += divisor * divisor > candidate;
    }
    return found;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}

static struct sample take_sample(uint64_t events)
{
    struct sample sample;
    volatile unsigned below = PRIMES_BELOW;
    uint64_t cpu_ns = thread_cpu_ns();
    sample.start_ns = monotonic_ns();
    for (uint64_t i = 0; i < events; i++)
        sink += one_event(below);
    sample.duration_ns = monotonic_ns() - sample.start_ns;
    sample.cpu_ns = thread_cpu_ns() - cpu_ns;
    return sample;
}

/* The fastest of several runs is the one that was disturbed least. */
static uint64_t calibrate(uint64_t wanted_ns)
{
    uint64_t events = 1, fastest_ns;
    for (;; events *= 2) {
        fastest_ns = UINT64_MAX;
        for (int i = 0; i < CALIBRATION_RUNS; i++) {
            struct sample sample = take_sample(events);
            if (sample.duration_ns < fastest_ns)
                fastest_ns = sample.duration_ns;
        }
        if (fastest_ns * 4 >= wanted_ns || events >= 1ull << 30)
            break;
    }
    uint64_t fitting = (uint64_t)((double)events * (double)wanted_ns / (double)(fastest_ns ? fastest_ns : 1));
    return fitting ? fitting : 1;
}

static void *run_cpu(void *argument)
{
    struct pace pace;
    prctl(PR_SET_TIMERSLACK, 1);
    pace_start(&pace, interval_ns, 0);
    for (;;) {
        atomic_fetch_add(&missed, pace_wait(&pace, argument));
        struct sample sample = take_sample(loop_events);
        if (!worker_enter(argument))
            return NULL;
        last_index++;
        ring[last_index % RING] = sample;
        worker_leave(argument);
    }
}

static void serve_start(struct call *call)
{
    uint64_t interval_ms = arg_u64(call, "interval_ms", 20, 1, 60000);
    uint64_t events = arg_u64(call, "loop_events", 0, 0, 1ull << 40);
    double duty = arg_real(call, "duty", 0.05, 0.001, 0.9);
    if (call->kind)
        return;
    if (worker.started) {
        call_fail(call, "busy", "the CPU is being sampled already: stop that first");
        return;
    }
    interval_ns = interval_ms * NS_PER_MS;
    double wanted_ns = duty * (double)interval_ns;
    loop_events = events ? events : calibrate(wanted_ns < NS_PER_MS ? (uint64_t)wanted_ns : NS_PER_MS);
    last_index = 0;
    missed = 0;
    worker_start(call, &worker, run_cpu);
    json_put_u64(call->reply, "loop_events", loop_events);
    json_put_u64(call->reply, "interval_ms", interval_ms);
}

static void put_sample(struct json_writer *reply, uint64_t index)
{
    const struct sample *sample = &ring[index % RING];
    json_open_list(reply, NULL);
    json_item_u64(reply, index);
    json_item_u64(reply, sample->start_ns);
    json_item_u64(reply, sample->duration_ns);
    json_item_u64(reply, sample->cpu_ns);
    json_item_u64(reply, loop_events);
    json_close_list(reply);
}

static void serve_read(struct call *call)
{
    uint64_t after = arg_u64(call, "after", 0, 0, UINT64_MAX - 1);
    if (call->kind)
        return;
    worker_hold(&worker);
    uint64_t oldest = last_index > RING ? last_index - RING + 1 : 1;
    uint64_t first = after + 1 > oldest ? after + 1 : oldest;
    json_put_bool(call->reply, "running", worker.started);
    json_put_u64(call->reply, "last", last_index);
    json_put_u64(call->reply, "lost", first - (after + 1));
    json_put_u64(call->reply, "missed", missed);
    json_open_list(call->reply, "samples");
    for (uint64_t i = first; i <= last_index && i < first + BATCH; i++)
        put_sample(call->reply, i);
    json_close_list(call->reply);
    worker_release(&worker);
}

static void serve_stop(struct call *call)
{
    worker_stop(&worker);
    json_put_u64(call->reply, "last", last_index);
}

const struct command cpu_commands[] = {
    {"cpu.start", " interval_ms loop_events duty ", serve_start},
    {"cpu.read", " after ", serve_read},
    {"cpu.stop", " ", serve_stop},
    {0}};
