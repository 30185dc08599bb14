/* What the writer of records and their check share. */
#ifndef LIMOSA_DISK_H
#define LIMOSA_DISK_H

#include "agent.h"

#define DISK_MAGIC 0x314352534944534cull /* "LSDISRC1" in memory */
#define DISK_PATH_LONGEST 1023

struct disk_record {
    uint64_t magic, run, sequence, monotonic_ns, realtime_ns, seed, block_bytes;
    uint64_t payload[]; /* its last word is the checksum */
};

/* The file that this agent wrote last; `path` is empty before the first. */
struct disk_file {
    char path[DISK_PATH_LONGEST + 1];
    uint64_t block_bytes, size_blocks, run;
};
extern struct disk_file disk_current;

uint64_t disk_checksum(const struct disk_record *block, uint64_t block_bytes);
uint64_t *disk_checksum_place(struct disk_record *block, uint64_t block_bytes);
uint64_t disk_arg_block_bytes(struct call *call, uint64_t fallback);
uint64_t disk_acknowledged(void);
/* Whether the newest record was begun and not acknowledged, as its writing failed. */
bool disk_in_flight(void);
/* Hold the writer still between two records. */
void disk_hold(void);
void disk_release(void);
void disk_serve_verify(struct call *call);

#endif
