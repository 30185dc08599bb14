/* A load that writes records to a file and acknowledges each only when it is safe, and the check of that file.
 *
 * Record number s (from 1) is block (s - 1) mod size_blocks of the file, or block s - 1 of a growing one.
 * In native byte order: magic, run, sequence, CLOCK_MONOTONIC ns, CLOCK_REALTIME ns, seed, block size,
 * then the payload, made from seed and sequence, and at last lm64 of all before it. */
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_LEAST 512
#define BLOCK_MOST (1u << 20)

static struct worker worker = WORKER_INIT;
struct disk_file disk_current;
static uint64_t rate_period_ns, seed;
static bool sync_each;
static int file = -1;
static struct disk_record *record; /* one block */
static _Atomic uint64_t written, acknowledged, errors, slowest_ns, last_error;
static atomic_bool failed; /* the last try, so that a part of a record may lie behind the acknowledged ones */

uint64_t disk_checksum(const struct disk_record *block, uint64_t block_bytes)
{
    return lm64_finish(lm64_update(LM64_START, block, block_bytes - sizeof(uint64_t)), block_bytes);
}

uint64_t *disk_checksum_place(struct disk_record *block, uint64_t block_bytes)
{
    return (uint64_t *)((char *)block + block_bytes - sizeof(uint64_t));
}

static void make_record(uint64_t sequence)
{
    uint64_t block_bytes = disk_current.block_bytes;
    record->magic = DISK_MAGIC;
    record->run = disk_current.run;
    record->sequence = sequence;
    record->monotonic_ns = monotonic_ns();
    record->realtime_ns = realtime_ns();
    record->seed = seed;
    record->block_bytes = block_bytes;
    content_fill(record->payload, (block_bytes - sizeof *record) / 8 - 1, mix64(seed) + sequence);
    *disk_checksum_place(record, block_bytes) = disk_checksum(record, block_bytes);
}

/* Only what fdatasync() confirmed is acknowledged (or, with sync off, what write() took). */
static int write_record(uint64_t sequence)
{
    uint64_t index = sequence - 1;
    if (disk_current.size_blocks)
        index %= disk_current.size_blocks;
    make_record(sequence);
    size_t done = 0;
    while (done < disk_current.block_bytes) {
        ssize_t length = pwrite(file, (char *)record + done, disk_current.block_bytes - done,
                                (off_t)(index * disk_current.block_bytes + done));
        if (length < 0 && errno != EINTR)
            return errno;
        done += length > 0 ? (size_t)length : 0;
    }
    atomic_store(&written, sequence);
    return sync_each && fdatasync(file) < 0 ? errno : 0;
}

/* After a failed fdatasync() the kernel may have dropped the data and report success the next time,
 * so the record is written again, not just synchronised again. */
static void step(void)
{
    uint64_t started = monotonic_ns(), sequence = atomic_load(&acknowledged) + 1;
    int failure = write_record(sequence);
    uint64_t took = monotonic_ns() - started;
    if (took > slowest_ns)
        slowest_ns = took;
    atomic_store(&failed, failure != 0);
    if (failure) {
        errors++;
        last_error = (uint64_t)failure;
    } else {
        atomic_store(&acknowledged, sequence);
    }
}

static void *run_disk(void *argument)
{
    struct pace pace;
    pace_start(&pace, rate_period_ns, rate_period_ns);
    for (;;) {
        if (rate_period_ns)
            pace_wait(&pace, argument);
        if (!worker_enter(argument))
            return NULL;
        step();
        worker_leave(argument);
    }
}

static bool open_file(struct call *call, const char *path, uint64_t block_bytes)
{
    void *block = NULL;
    if (posix_memalign(&block, BLOCK_LEAST, block_bytes)) {
        call_fail_errno(call, "taking memory", ENOMEM);
        return false;
    }
    file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) {
        call_fail(call, "machine", "the file %.100s cannot be opened: %s", path, strerror(errno));
        free(block);
        return false;
    }
    free(record);
    record = block;
    return true;
}

/* The directory entry has to be safe too, or acknowledged records could vanish with their file. */
static void sync_directory(struct call *call, const char *path)
{
    char directory[DISK_PATH_LONGEST + 1];
    strcpy(directory, path);
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory ? 1 : 0] = '\0';
    int opened = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened < 0 || fsync(opened) < 0)
        call_fail_errno(call, "synchronising the file's directory", errno);
    if (opened >= 0)
        close(opened);
}

uint64_t disk_arg_block_bytes(struct call *call, uint64_t fallback)
{
    uint64_t block_bytes = arg_u64(call, "block_bytes", fallback, BLOCK_LEAST, BLOCK_MOST);
    if (block_bytes % BLOCK_LEAST)
        call_fail(call, "argument", "block_bytes has to be a multiple of %d", BLOCK_LEAST);
    return block_bytes;
}

static void serve_start(struct call *call)
{
    const char *path = arg_need_text(call, "path", DISK_PATH_LONGEST);
    double rate = arg_real(call, "rate_per_s", 50.0, 0.0, 1e6);
    uint64_t block_bytes = disk_arg_block_bytes(call, 4096);
    uint64_t size_blocks = arg_u64(call, "size_blocks", 16384, 0, 1ull << 24);
    uint64_t new_seed = arg_u64(call, "seed", 1, 0, UINT64_MAX);
    bool new_sync = arg_bool(call, "sync", true);
    if (!call->kind && size_blocks == 1)
        call_fail(call, "argument", "size_blocks has to be 0 (grow) or at least 2: one block is always in the making");
    if (!call->kind && worker.started)
        call_fail(call, "busy", "a file is being written already: stop that first");
    if (call->kind || !open_file(call, path, block_bytes))
        return;
    if (new_sync)
        sync_directory(call, path);
    if (call->kind) {
        close(file);
        return;
    }
    strcpy(disk_current.path, path);
    disk_current.block_bytes = block_bytes;
    disk_current.size_blocks = size_blocks;
    disk_current.run = mix64(realtime_ns() ^ (uint64_t)getpid() << 40);
    seed = new_seed;
    sync_each = new_sync;
    rate_period_ns = rate > 0.0 ? (uint64_t)(NS_PER_S / rate) : 0;
    written = acknowledged = errors = slowest_ns = last_error = 0;
    failed = false;
    if (!worker_start(call, &worker, run_disk))
        close(file);
}

uint64_t disk_acknowledged(void)
{
    return atomic_load(&acknowledged);
}

bool disk_in_flight(void)
{
    return atomic_load(&failed);
}

void disk_hold(void)
{
    worker_hold(&worker);
}

void disk_release(void)
{
    worker_release(&worker);
}

static void serve_status(struct call *call)
{
    json_put_bool(call->reply, "running", worker.started);
    json_put_u64(call->reply, "acknowledged", acknowledged);
    json_put_u64(call->reply, "written", written);
    json_put_u64(call->reply, "errors", errors);
    json_put_text(call->reply, "last_error", last_error ? strerror((int)last_error) : "");
    json_put_real(call->reply, "slowest_ms", (double)slowest_ns / NS_PER_MS);
}

static void serve_stop(struct call *call)
{
    const char *remove = arg_text(call, "remove", "");
    if (call->kind)
        return;
    if (worker.started) {
        worker_stop(&worker);
        close(file);
    }
    /* Nobody's file but our own: a path that was not written is not removed. */
    if (*remove && strcmp(remove, disk_current.path) == 0 && unlink(remove) < 0 && errno != ENOENT)
        call_fail(call, "machine", "the file %.100s cannot be removed: %s", remove, strerror(errno));
    serve_status(call);
}

const struct command disk_commands[] = {
    {"disk.start", " path rate_per_s block_bytes size_blocks seed sync ", serve_start},
    {"disk.status", " ", serve_status},
    {"disk.stop", " remove ", serve_stop},
    {"disk.verify", " path block_bytes acknowledged ", disk_serve_verify},
    {0}};
