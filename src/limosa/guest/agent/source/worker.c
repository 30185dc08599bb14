/* A thread that works in steps, and can be held still between two of them. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

bool worker_start(struct call *call, struct worker *worker, void *(*body)(void *))
{
    pthread_attr_t attributes;
    sigset_t all, before;
    atomic_store(&worker->stopping, false);
    atomic_store(&worker->held, false);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024); /* the default would reserve 8 MiB each */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&worker->thread, &attributes, body, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (failure)
        call_fail_errno(call, "starting a thread", failure);
    worker->started = failure == 0;
    return worker->started;
}

void worker_stop(struct worker *worker)
{
    if (!worker->started)
        return;
    atomic_store(&worker->stopping, true);
    pthread_mutex_lock(&worker->lock);
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    worker->started = false;
}

void worker_sleep_until(struct worker *worker, uint64_t monotonic)
{
    struct timespec moment = {(time_t)(monotonic / NS_PER_S), (long)(monotonic % NS_PER_S)};
    pthread_mutex_lock(&worker->lock);
    while (!atomic_load(&worker->stopping)
           && pthread_cond_clockwait(&worker->changed, &worker->lock, CLOCK_MONOTONIC, &moment) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&worker->lock);
}

bool worker_enter(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (atomic_load(&worker->held) && !atomic_load(&worker->stopping))
        pthread_cond_wait(&worker->changed, &worker->lock);
    if (!atomic_load(&worker->stopping))
        return true;
    pthread_mutex_unlock(&worker->lock);
    return false;
}

void worker_leave(struct worker *worker)
{
    pthread_mutex_unlock(&worker->lock);
}

/* The flag is raised before the lock is taken: a thread that never sleeps would otherwise take the
 * lock again and again before us. */
void worker_hold(struct worker *worker)
{
    atomic_store(&worker->held, true);
    pthread_mutex_lock(&worker->lock);
}

void worker_release(struct worker *worker)
{
    atomic_store(&worker->held, false);
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}
