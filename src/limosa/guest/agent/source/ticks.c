/* Ticks: small UDP datagrams at a steady rate, whose holes show when nothing left the guest.
 *
 * 32 bytes in network order: "LMTK", u16 version, u16 flags (0), u64 sequence from 1, u64 CLOCK_MONOTONIC ns,
 * u64 CLOCK_REALTIME ns, both read just before sending. */
#define _GNU_SOURCE
#include "agent.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_VERSION 1

struct tick {
    char magic[4];
    uint16_t version, flags;
    uint64_t sequence, monotonic_ns, realtime_ns;
};
_Static_assert(sizeof(struct tick) == 32, "the tick has no padding");

static struct worker worker = WORKER_INIT;
static struct sockaddr_storage target;
static socklen_t target_length;
static int sender = -1;
static uint64_t interval_ns;
static _Atomic uint64_t sent, missed, errors;
static atomic_bool real_time;

static void send_tick(uint64_t sequence)
{
    struct tick tick = {.magic = {'L', 'M', 'T', 'K'}, .version = htobe16(TICK_VERSION)};
    tick.sequence = htobe64(sequence);
    tick.monotonic_ns = htobe64(monotonic_ns());
    tick.realtime_ns = htobe64(realtime_ns());
    /* Not connected: an ICMP refusal while the collector restarts must not eat every second tick. */
    if (sendto(sender, &tick, sizeof tick, MSG_DONTWAIT, (struct sockaddr *)&target, target_length)
        == (ssize_t)sizeof tick)
        atomic_store(&sent, sequence);
    else
        atomic_fetch_add(&errors, 1);
}

/* Ticks measure the path out of the guest, not the guest's own scheduler under load, so they go first
 * where that is permitted. */
static void *run_ticks(void *argument)
{
    struct sched_param priority = {.sched_priority = 1};
    struct pace pace;
    prctl(PR_SET_TIMERSLACK, 1);
    atomic_store(&real_time, pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) == 0);
    pace_start(&pace, interval_ns, 0);
    for (;;) {
        uint64_t dropped = pace_wait(&pace, argument);
        if (!worker_enter(argument))
            return NULL;
        worker_leave(argument);
        atomic_fetch_add(&missed, dropped);
        send_tick(atomic_load(&sent) + 1);
    }
}

static bool parse_target(const char *address, uint16_t port)
{
    struct sockaddr_in *four = (struct sockaddr_in *)&target;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&target;
    memset(&target, 0, sizeof target);
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        target_length = sizeof *four;
        return true;
    }
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    target_length = sizeof *six;
    return inet_pton(AF_INET6, address, &six->sin6_addr) == 1;
}

static void serve_start(struct call *call)
{
    const char *address = arg_need_text(call, "address", INET6_ADDRSTRLEN);
    uint16_t port = (uint16_t)arg_need_u64(call, "port", 1, 65535);
    uint64_t interval_us = arg_u64(call, "interval_us", 1000, 100, 10000000);
    if (call->kind)
        return;
    if (worker.started) {
        call_fail(call, "busy", "ticks are being sent already: stop them first");
        return;
    }
    if (!parse_target(address, port)) {
        call_fail(call, "argument", "address has to be an IPv4 or IPv6 address in numbers");
        return;
    }
    sender = socket(target.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sender < 0) {
        call_fail_errno(call, "opening a socket", errno);
        return;
    }
    interval_ns = interval_us * NS_PER_US;
    sent = missed = errors = 0;
    if (!worker_start(call, &worker, run_ticks))
        close(sender);
}

static void serve_status(struct call *call)
{
    json_put_bool(call->reply, "running", worker.started);
    json_put_u64(call->reply, "sent", sent);
    json_put_u64(call->reply, "missed", missed);
    json_put_u64(call->reply, "errors", errors);
    json_put_bool(call->reply, "real_time", real_time);
}

static void serve_stop(struct call *call)
{
    if (worker.started) {
        worker_stop(&worker);
        close(sender);
    }
    serve_status(call);
}

const struct command ticks_commands[] = {
    {"ticks.start", " address port interval_us ", serve_start},
    {"ticks.status", " ", serve_status},
    {"ticks.stop", " ", serve_stop},
    {0}};
