/* The check of a file of records: is each acknowledged record there, whole, and in its place? */
#define _GNU_SOURCE
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (1u << 20)
#define ALIGNMENT 4096
#define BLOCKS_MOST (1ull << 24)

struct check {
    struct disk_file file; /* run 0: any, as this agent did not write it */
    uint64_t blocks, acknowledged, last, tail_bytes;
    uint64_t *sequences; /* of each block; 0: not sound */
    bool direct, in_flight;
    uint64_t records, missing, corrupt, torn, state;
};

/* From the device, not from the page cache, where the file system can do that. */
static int open_uncached(struct call *call, struct check *check)
{
    int file = open(check->file.path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    check->direct = file >= 0;
    if (file < 0)
        file = open(check->file.path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        call_fail(call, "state", "the file %.100s cannot be read: %s", check->file.path, strerror(errno));
        return -1;
    }
    fdatasync(file); /* only clean pages can be dropped from the cache */
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    return file;
}

static void look_at_block(struct check *check, struct disk_record *block, uint64_t index)
{
    uint64_t block_bytes = check->file.block_bytes;
    uint64_t ring = check->file.size_blocks;
    bool sound = block->magic == DISK_MAGIC && block->block_bytes == block_bytes && block->sequence
                 && *disk_checksum_place(block, block_bytes) == disk_checksum(block, block_bytes);
    if (sound && !check->file.run)
        check->file.run = block->run;
    if (!sound || block->run != check->file.run
        || (ring ? (block->sequence - 1) % ring : block->sequence - 1) != index)
        return;
    check->sequences[index] = block->sequence;
    if (block->sequence > check->last)
        check->last = block->sequence;
    check->state = lm64_update(check->state, disk_checksum_place(block, block_bytes), sizeof(uint64_t));
}

/* A file system may open with O_DIRECT and refuse to read so; then the cache has to serve. */
static ssize_t read_at(struct check *check, int file, void *buffer, size_t length, off_t at)
{
    ssize_t got = pread(file, buffer, length, at);
    if (got >= 0 || errno != EINVAL || !check->direct)
        return got;
    check->direct = false;
    fcntl(file, F_SETFL, 0);
    return pread(file, buffer, length, at);
}

static void read_blocks(struct call *call, struct check *check, int file)
{
    uint64_t block_bytes = check->file.block_bytes, index = 0;
    size_t chunk = READ_BYTES / block_bytes * block_bytes;
    void *buffer = NULL;
    if (posix_memalign(&buffer, ALIGNMENT, chunk)) {
        call_fail_errno(call, "taking memory", ENOMEM);
        return;
    }
    while (index < check->blocks) {
        ssize_t length = read_at(check, file, buffer, chunk, (off_t)(index * block_bytes));
        if (length < 0)
            call_fail(call, "machine", "reading %.100s failed: %s", check->file.path, strerror(errno));
        uint64_t whole = length > 0 ? (uint64_t)length / block_bytes : 0;
        if (!whole)
            break; /* the file became shorter */
        for (uint64_t i = 0; i < whole && index < check->blocks; i++, index++)
            look_at_block(check, (struct disk_record *)((char *)buffer + i * block_bytes), index);
    }
    free(buffer);
}

/* The newest record up to `last` whose place is block `index`. */
static uint64_t wanted_at(const struct check *check, uint64_t index)
{
    uint64_t ring = check->file.size_blocks;
    if (!ring || check->last <= ring)
        return index + 1;
    uint64_t back = (check->last - 1 - index) % ring;
    return check->last - back;
}

/* A record that was never acknowledged may be torn; where it lies is the place behind the last one. */
static bool may_be_torn(const struct check *check, uint64_t index)
{
    uint64_t ring = check->file.size_blocks;
    return check->in_flight && index == (ring ? check->last % ring : check->last);
}

static void judge(struct check *check)
{
    uint64_t ring = check->file.size_blocks;
    if (check->acknowledged > check->last)
        check->last = check->acknowledged;
    uint64_t places = ring && check->last > ring ? ring : check->last;
    check->missing = places > check->blocks ? places - check->blocks : 0;
    for (uint64_t index = 0; index < check->blocks; index++) {
        uint64_t found = check->sequences[index];
        if (found && found == wanted_at(check, index))
            check->records++;
        else if (!found && (index >= places || may_be_torn(check, index)))
            check->torn++;
        else if (found)
            check->missing++; /* an older record: the newer one was lost */
        else
            check->corrupt++;
    }
    check->torn += check->tail_bytes && check->in_flight && check->last == check->blocks;
}

static void run_check(struct call *call, struct check *check)
{
    struct stat status;
    int file = open_uncached(call, check);
    if (file < 0)
        return;
    if (fstat(file, &status) < 0)
        status.st_size = 0;
    check->blocks = (uint64_t)status.st_size / check->file.block_bytes;
    check->tail_bytes = (uint64_t)status.st_size % check->file.block_bytes;
    if (!check->file.run)
        check->file.size_blocks = check->blocks; /* full circle or not yet round: the same places */
    if (check->blocks > BLOCKS_MOST)
        call_fail(call, "state", "the file has more than %llu blocks", BLOCKS_MOST);
    else if (!(check->sequences = calloc(check->blocks + 1, sizeof *check->sequences)))
        call_fail_errno(call, "taking memory", ENOMEM);
    else
        read_blocks(call, check, file);
    close(file);
    if (call->kind)
        return;
    judge(check);
    json_put_u64(call->reply, "records", check->records);
    json_put_u64(call->reply, "last_sequence", check->last);
    json_put_u64(call->reply, "missing", check->missing);
    json_put_u64(call->reply, "corrupt", check->corrupt);
    json_put_u64(call->reply, "torn", check->torn);
    json_put_bool(call->reply, "direct", check->direct);
    json_put_hash(call->reply, "checksum", lm64_finish(check->state, check->records));
}

void disk_serve_verify(struct call *call)
{
    struct check check = {.state = LM64_START};
    const char *path = arg_text(call, "path", disk_current.path);
    if (!call->kind && (!*path || strlen(path) > DISK_PATH_LONGEST))
        call_fail(call, "argument", "path is missing: nothing has been written yet");
    bool own = !call->kind && strcmp(path, disk_current.path) == 0;
    uint64_t block_bytes = disk_arg_block_bytes(call, own ? disk_current.block_bytes : 4096);
    check.acknowledged = arg_u64(call, "acknowledged", 0, 0, BLOCKS_MOST << 24);
    if (call->kind)
        return;
    disk_hold();
    if (own) {
        check.file = disk_current;
        if (disk_acknowledged() > check.acknowledged)
            check.acknowledged = disk_acknowledged();
    } else {
        strcpy(check.file.path, path);
    }
    check.file.block_bytes = block_bytes;
    check.in_flight = !own || disk_in_flight();
    run_check(call, &check);
    disk_release();
    free(check.sequences);
}
