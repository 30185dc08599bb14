/* Regions of memory that are filled once and never written again: their hash is the same after a migration. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define REGIONS 16
#define NAME_LONGEST 31

struct region {
    char name[NAME_LONGEST + 1];
    uint64_t *words;
    size_t bytes;
};

static struct region regions[REGIONS];

static struct region *find_region(const char *name)
{
    for (size_t i = 0; i < REGIONS; i++)
        if (regions[i].words && strcmp(regions[i].name, name) == 0)
            return &regions[i];
    return NULL;
}

static struct region *need_region(struct call *call)
{
    const char *name = arg_need_text(call, "region", NAME_LONGEST);
    struct region *region = call->kind ? NULL : find_region(name);
    if (!region)
        call_fail(call, "state", "there is no region %s", name);
    return region;
}

static struct region *free_region(struct call *call)
{
    for (size_t i = 0; i < REGIONS; i++)
        if (!regions[i].words)
            return &regions[i];
    call_fail(call, "state", "there are %d regions already: release one", REGIONS);
    return NULL;
}

static void put_checksum(struct call *call, const struct region *region)
{
    uint64_t state = lm64_update(LM64_START, region->words, region->bytes);
    json_put_u64(call->reply, "bytes", region->bytes);
    json_put_text(call->reply, "hash", "lm64");
    json_put_hash(call->reply, "checksum", lm64_finish(state, region->bytes));
}

static void serve_fill(struct call *call)
{
    const char *name = arg_need_text(call, "region", NAME_LONGEST);
    uint64_t bytes = arg_need_u64(call, "bytes", 8, 1ull << 46);
    uint64_t seed = arg_u64(call, "seed", 1, 0, UINT64_MAX);
    if (call->kind)
        return;
    if (find_region(name)) {
        call_fail(call, "busy", "the region %s is there already: release it first", name);
        return;
    }
    struct region *region = free_region(call);
    if (!region)
        return;
    bytes &= ~7ull;
    void *memory = memory_take(call, bytes);
    if (!memory)
        return;
    strcpy(region->name, name);
    region->words = memory;
    region->bytes = bytes;
    content_fill(region->words, bytes / 8, seed);
    put_checksum(call, region);
}

static void serve_checksum(struct call *call)
{
    struct region *region = need_region(call);
    if (region)
        put_checksum(call, region);
}

static void serve_release(struct call *call)
{
    struct region *region = need_region(call);
    if (!region)
        return;
    munmap(region->words, region->bytes);
    region->words = NULL;
}

const struct command region_commands[] = {
    {"region.fill", " region bytes seed ", serve_fill},
    {"region.checksum", " region ", serve_checksum},
    {"region.release", " region ", serve_release},
    {0}};
