/* What the parts of the guest agent share: calls, clocks, pacing, content and threads.
 *
 * The main thread serves the control channel. Each load or probe is one thread of its own that is
 * started and joined by the main thread only, so the parts need few locks. */
#ifndef LIMOSA_AGENT_H
#define LIMOSA_AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

#define AGENT_VERSION 1
#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

/* One request and the reply that grows while it is served. */
struct call {
    const struct json_object *request;
    struct json_writer *reply;
    const char *kind; /* NULL while all is well, else "argument", "state", "busy" or "machine" */
    char error[256];
};

/* The first failure stays; later ones are its consequences. */
void call_fail(struct call *call, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* `what` failed with errno `number`. */
void call_fail_errno(struct call *call, const char *what, int number);

/* Arguments. A wrong type or range fails the call and returns the fallback. */
uint64_t arg_u64(struct call *call, const char *name, uint64_t fallback, uint64_t low, uint64_t high);
uint64_t arg_need_u64(struct call *call, const char *name, uint64_t low, uint64_t high);
double arg_real(struct call *call, const char *name, double fallback, double low, double high);
bool arg_bool(struct call *call, const char *name, bool fallback);
const char *arg_text(struct call *call, const char *name, const char *fallback);
const char *arg_need_text(struct call *call, const char *name, size_t longest);

struct command {
    const char *name;
    const char *arguments; /* the names it knows, each between spaces; any other is refused */
    void (*serve)(struct call *call);
};

/* Serve one request line into `reply`; false when an orderly end was asked for. */
bool command_serve(char *line, struct json_writer *reply);
extern bool command_quit_allowed;

/* Each part lists its commands, ended by an entry without a name. */
extern const struct command ticks_commands[], echo_commands[], memory_commands[], region_commands[],
    disk_commands[], cpu_commands[];

/* clock.c */
uint64_t monotonic_ns(void);
uint64_t realtime_ns(void);
void sleep_until_ns(uint64_t monotonic);

/* Keeps a rate by absolute deadlines. A backlog above `patience_ns` is dropped, not worked off:
 * after the guest was paused there is no burst. */
struct pace {
    uint64_t next_ns, period_ns, patience_ns;
};
void pace_start(struct pace *pace, uint64_t period_ns, uint64_t patience_ns);
struct worker;
/* Sleep until the next moment, or until the worker has to end; returns the whole periods that were dropped. */
uint64_t pace_wait(struct pace *pace, struct worker *worker);

/* content.c */
uint64_t mix64(uint64_t value);
/* Fill `words` with pseudo-random content that is a function of `key` alone. */
void content_fill(uint64_t *words, size_t count, uint64_t key);
bool content_check(const uint64_t *words, size_t count, uint64_t key);
#define LM64_START 0x9ae16a3b2f90404full
uint64_t lm64_update(uint64_t state, const void *bytes, size_t length);
uint64_t lm64_finish(uint64_t state, uint64_t length);

/* worker.c: a thread that works until it is told to stop, and a gate that holds it still. */
struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_bool stopping, held;
    bool started; /* read and written by the main thread only */
};
#define WORKER_INIT {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}
bool worker_start(struct call *call, struct worker *worker, void *(*body)(void *));
void worker_stop(struct worker *worker);
/* Sleep until a moment of CLOCK_MONOTONIC, or until the worker has to end. */
void worker_sleep_until(struct worker *worker, uint64_t monotonic);
/* The thread brackets each step with enter and leave; enter is false once it has to end. */
bool worker_enter(struct worker *worker);
void worker_leave(struct worker *worker);
/* The main thread holds it between two steps. */
void worker_hold(struct worker *worker);
void worker_release(struct worker *worker);

/* memory.c: zeroed memory, or NULL with the call failed where the guest has not that much to spare. */
void *memory_take(struct call *call, uint64_t bytes);

/* zipf.c */
struct zipf {
    double exponent, h_first, h_last, shortcut;
    uint64_t count;
};
void zipf_start(struct zipf *zipf, uint64_t count, double exponent);
/* A rank from 1 (most frequent) to count. */
uint64_t zipf_draw(const struct zipf *zipf, uint64_t *random_state);
uint64_t random_u64(uint64_t *state);
/* A number in [0, 1). */
double random_unit(uint64_t *state);
/* A number in [0, count). */
uint64_t random_below(uint64_t *state, uint64_t count);

/* transport.c */
enum transport_kind { TRANSPORT_PORT, TRANSPORT_STDIO, TRANSPORT_SOCKET };
struct transport {
    enum transport_kind kind;
    const char *path; /* TRANSPORT_SOCKET */
    int listener, in, out, epoll;
    bool torn; /* a reply was cut off, so the next one begins on a new line */
};
int transport_open(struct transport *transport);
/* Wait for bytes. 0: the other side went away (and may come back); -1: the end. */
long transport_read(struct transport *transport, char *bytes, size_t room);
/* Write all of it, or drop it when the other side goes away. */
void transport_write(struct transport *transport, const char *bytes, size_t length);
void transport_close(struct transport *transport);

#endif
