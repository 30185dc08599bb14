/* What the loader handed over: the command line and the memory map of the PVH start info.
 * Layout: xen/include/public/arch-x86/hvm/start_info.h, version 1. */
#include "bare.h"

#define START_INFO_MAGIC 0x336ec578u
#define MEMORY_RAM 1u
#define MIB_PAGES 256ul

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t modules;
    uint64_t module_list;
    uint64_t command_line;
    uint64_t acpi_root;
    uint64_t memory_map;
    uint32_t memory_map_entries;
    uint32_t reserved;
};

struct memory_map_entry {
    uint64_t address;
    uint64_t bytes;
    uint32_t type;
    uint32_t reserved;
};

extern uint64_t mapped_limit;

/* The text after `name` if `word` begins with it, else null. */
static const char *after(const char *word, const char *name)
{
    while (*name)
        if (*word++ != *name++)
            return 0;
    return word;
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;

    if (*text < '0' || *text > '9')
        fail("a number is missing on the command line");
    while (*text >= '0' && *text <= '9' && value < 1ul << 40)
        value = value * 10 + (uint64_t)(*text++ - '0');
    if (*text && *text != ' ')
        fail("a number on the command line is wrong");
    return value;
}

static void read_word(const char *word, struct settings *settings)
{
    const char *value;

    if ((value = after(word, "mode=write")) && (*value == 0 || *value == ' '))
        settings->writes = 1;
    else if ((value = after(word, "mode=primes")) && (*value == 0 || *value == ' '))
        settings->writes = 0;
    else if ((value = after(word, "memory_mib=")))
        settings->memory_mib = number(value);
    else if ((value = after(word, "lines=")))
        settings->lines = number(value);
    else if ((value = after(word, "report=")))
        settings->report = number(value);
    else if ((value = after(word, "limit=")))
        settings->limit = number(value);
    else
        fail("a word of the command line is unknown");
}

/* Take RAM from the map, from 2 MiB on, until the working set is whole. */
static void place(const struct start_info *info, struct settings *settings)
{
    const struct memory_map_entry *entry = (const void *)info->memory_map;
    uint64_t wanted = settings->memory_mib * MIB_PAGES;

    if (info->version < 1 || !info->memory_map)
        fail("the loader gave no memory map");
    for (uint32_t i = 0; i < info->memory_map_entries && wanted && settings->ranges < MAX_RANGES; i++, entry++) {
        uint64_t start = entry->address, end = entry->address + entry->bytes;
        struct range *range = &settings->range[settings->ranges];

        if (entry->type != MEMORY_RAM)
            continue;
        start = start < WORKING_SET_START ? WORKING_SET_START : (start + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
        end = (end > mapped_limit ? mapped_limit : end) & ~(PAGE_BYTES - 1);
        if (end <= start)
            continue;
        range->address = start;
        range->pages = (end - start) / PAGE_BYTES;
        if (range->pages > wanted)
            range->pages = wanted;
        wanted -= range->pages;
        settings->ranges++;
    }
    if (wanted)
        fail("the working set is larger than the memory");
}

void read_settings(const void *start_info, struct settings *settings)
{
    const struct start_info *info = start_info;
    const char *word = (const char *)info->command_line;

    if (info->magic != START_INFO_MAGIC)
        fail("the loader gave no PVH start info");
    settings->writes = -1;
    settings->memory_mib = 64;
    settings->lines = PAGE_LINES;
    settings->limit = 10000;
    while (word && *word) {
        if (*word != ' ')
            read_word(word, settings);
        while (*word && *word != ' ')
            word++;
        while (*word == ' ')
            word++;
    }
    if (settings->writes < 0)
        fail("the command line names no mode");
    if (!settings->memory_mib || !settings->lines || settings->lines > PAGE_LINES || settings->limit < 3)
        fail("a number on the command line is out of range");
    if (!settings->report) /* a report for each GiB that was written, or each 100 events */
        settings->report = !settings->writes ? 100 : settings->memory_mib < 1024 ? 1024 / settings->memory_mib : 1;
    if (settings->writes)
        place(info, settings);
}
