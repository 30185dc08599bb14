/* A load that dirties memory at a known rate and in a known pattern, and can prove that no write was lost.
 *
 * Each page begins with its number, a counter and the key of its content; then a constant part (the share
 * `compressibility`), then pseudo-random words made from the key. What the counter has to be is kept in a
 * table apart from the pages, so a page that is sound in itself but too old is found as well. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / 8)
#define HEADER_WORDS 4
#define BODY_WORDS (PAGE_WORDS - HEADER_WORDS)
#define MAGIC 0x4547415041534d4cull /* "LMSAPAGE" in memory */
#define BATCH_NS NS_PER_MS          /* the load is spread so that a batch lasts about this long */
#define PATIENCE_NS (20 * NS_PER_MS)
#define GREEDY_BATCH 64 /* pages between two looks at the gate when there is no rate to keep */
#define HISTORY 16
#define HISTORY_NS (100 * NS_PER_MS)
#define COUNTERS_MOST 4096
#define SPARE_BYTES (16ull << 20) /* left to the rest of the guest */

struct page {
    uint64_t magic, number, counter, key, body[BODY_WORDS];
};
_Static_assert(sizeof(struct page) == PAGE_BYTES, "one page");

enum pattern { SEQUENTIAL, UNIFORM, ZIPF };

static struct worker worker = WORKER_INIT;
static struct page *pages;
static uint32_t *expected; /* the counter of each page */
static uint64_t page_count, constant_words, seed, rate, stride, cursor, random_state;
static enum pattern pattern;
static struct zipf zipf;
static uint64_t started_ns;
static _Atomic uint64_t filled, written, slipped, stopped_ns;
/* Each 100 ms: when, and pages written until then; for the rate over the last second. */
static struct {
    _Atomic uint64_t at_ns, pages;
} history[HISTORY];
static _Atomic uint64_t history_count;

static uint64_t available_bytes(void)
{
    char text[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(text, sizeof text, file))
        if (sscanf(text, "MemAvailable: %llu kB", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024; /* 0: unknown */
}

void *memory_take(struct call *call, uint64_t bytes)
{
    uint64_t available = available_bytes();
    if (available && bytes + SPARE_BYTES > available) {
        call_fail(call, "machine", "%llu bytes are wanted, but the guest has only %llu bytes of memory to spare",
                  (unsigned long long)bytes, (unsigned long long)available);
        return NULL;
    }
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        return memory;
    call_fail_errno(call, "taking memory", errno);
    return NULL;
}

static uint64_t page_key(uint64_t number, uint64_t counter)
{
    return mix64(seed ^ mix64(number)) + counter;
}

static void write_page(uint64_t number, uint32_t counter)
{
    struct page *page = &pages[number];
    expected[number] = counter;
    page->magic = MAGIC;
    page->number = number;
    page->counter = counter;
    page->key = page_key(number, counter);
    content_fill(page->body + constant_words, BODY_WORDS - constant_words, page->key);
}

static uint64_t next_page(void)
{
    if (pattern == UNIFORM)
        return random_below(&random_state, page_count);
    if (pattern == ZIPF) /* ranks are scattered, so that hot pages are not neighbours */
        return (uint64_t)((unsigned __int128)(zipf_draw(&zipf, &random_state) - 1) * stride % page_count);
    uint64_t number = cursor;
    cursor = cursor + 1 < page_count ? cursor + 1 : 0;
    return number;
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* rank * stride mod count is a permutation when the two have no common divisor; near the golden
 * section neighbouring ranks land far apart (Knuth, TAOCP 3, 6.4, multiplicative hashing). */
static uint64_t golden_stride(uint64_t count)
{
    uint64_t wanted = (uint64_t)((double)count * 0.61803398874989485);
    if (wanted < 1)
        wanted = 1;
    while (common_divisor(wanted, count) != 1)
        wanted++;
    return wanted;
}

static void record_history(uint64_t now)
{
    uint64_t count = history_count;
    if (count && now < history[(count - 1) % HISTORY].at_ns + HISTORY_NS)
        return;
    history[count % HISTORY].at_ns = now;
    history[count % HISTORY].pages = written;
    history_count = count + 1;
}

/* Every page once, so that the whole working set is there before the load begins. */
static bool fill_pages(struct worker *self)
{
    while (filled < page_count) {
        if (!worker_enter(self))
            return false;
        for (int i = 0; i < GREEDY_BATCH && filled < page_count; i++) {
            write_page(filled, 0);
            filled++;
        }
        worker_leave(self);
    }
    return true;
}

static void *run_memory(void *argument)
{
    struct pace pace;
    uint64_t pages_per_batch = GREEDY_BATCH;
    if (!fill_pages(argument))
        return NULL;
    started_ns = monotonic_ns();
    record_history(started_ns);
    if (rate) {
        pages_per_batch = rate * BATCH_NS / NS_PER_S / PAGE_BYTES;
        pages_per_batch = pages_per_batch ? pages_per_batch : 1;
        pace_start(&pace, (uint64_t)((double)pages_per_batch * PAGE_BYTES * NS_PER_S / (double)rate), PATIENCE_NS);
    }
    for (;;) {
        if (rate && pace_wait(&pace, argument))
            slipped++;
        if (!worker_enter(argument))
            break;
        for (uint64_t i = 0; i < pages_per_batch; i++) {
            uint64_t number = next_page();
            write_page(number, expected[number] + 1);
        }
        written += pages_per_batch;
        record_history(monotonic_ns());
        worker_leave(argument);
    }
    stopped_ns = monotonic_ns();
    return NULL;
}

static void release_pages(void)
{
    if (!pages)
        return;
    munmap(pages, page_count * PAGE_BYTES);
    munmap(expected, page_count * sizeof *expected);
    pages = NULL;
    expected = NULL;
}

static bool take_pages(struct call *call)
{
    pages = memory_take(call, page_count * PAGE_BYTES);
    if (!pages)
        return false;
    expected = memory_take(call, page_count * sizeof *expected);
    if (expected)
        return true;
    munmap(pages, page_count * PAGE_BYTES);
    pages = NULL;
    return false;
}

static enum pattern arg_pattern(struct call *call)
{
    static const char *const names[] = {"sequential", "uniform", "zipf"};
    const char *name = arg_text(call, "pattern", "uniform");
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0)
            return (enum pattern)i;
    call_fail(call, "argument", "pattern has to be sequential, uniform or zipf");
    return UNIFORM;
}

static void serve_start(struct call *call)
{
    if (worker.started) {
        call_fail(call, "busy", "memory is being written already: stop that first");
        return;
    }
    uint64_t working_set = arg_need_u64(call, "working_set_bytes", PAGE_BYTES, 1ull << 43);
    uint64_t new_rate = arg_u64(call, "rate_bytes_per_s", 0, 0, 1ull << 43);
    enum pattern new_pattern = arg_pattern(call);
    double exponent = arg_real(call, "zipf_s", 1.1, 0.01, 10.0);
    double compressibility = arg_real(call, "compressibility", 0.0, 0.0, 1.0);
    uint64_t new_seed = arg_u64(call, "seed", 1, 0, UINT64_MAX);
    if (call->kind)
        return;
    release_pages();
    page_count = working_set / PAGE_BYTES;
    if (!take_pages(call))
        return;
    rate = new_rate;
    pattern = new_pattern;
    seed = new_seed;
    random_state = mix64(seed);
    constant_words = (uint64_t)(compressibility * BODY_WORDS + 0.5);
    stride = golden_stride(page_count);
    cursor = 0;
    zipf_start(&zipf, page_count, exponent);
    filled = written = slipped = stopped_ns = history_count = 0;
    worker_start(call, &worker, run_memory);
    json_put_u64(call->reply, "pages", page_count);
}

/* The newest entry that is at least a second old, else the oldest one there is. */
static double recent_rate(uint64_t now)
{
    uint64_t count = history_count;
    uint64_t oldest = count > HISTORY - 1 ? count - (HISTORY - 1) : 0, index = oldest;
    if (!count)
        return 0.0;
    while (index + 1 < count && history[(index + 1) % HISTORY].at_ns + NS_PER_S <= now)
        index++;
    uint64_t at_ns = history[index % HISTORY].at_ns, pages_then = history[index % HISTORY].pages;
    if (now <= at_ns)
        return 0.0;
    return (double)(written - pages_then) * PAGE_BYTES / ((double)(now - at_ns) / NS_PER_S);
}

static void serve_status(struct call *call)
{
    bool writing = worker.started && pages && filled == page_count && history_count;
    uint64_t now = monotonic_ns(), end_ns = worker.started ? now : stopped_ns;
    json_put_text(call->reply, "phase", !worker.started ? "stopped" : writing ? "writing" : "filling");
    json_put_u64(call->reply, "pages", pages ? page_count : 0);
    json_put_u64(call->reply, "filled_bytes", filled * PAGE_BYTES);
    json_put_u64(call->reply, "bytes_written", written * PAGE_BYTES);
    json_put_real(call->reply, "rate_bytes_per_s", writing ? recent_rate(now) : 0.0);
    json_put_real(call->reply, "elapsed_s",
                  history_count && end_ns > started_ns ? (double)(end_ns - started_ns) / NS_PER_S : 0.0);
    json_put_u64(call->reply, "slipped", slipped);
}

static void serve_stop(struct call *call)
{
    bool release = arg_bool(call, "release", false);
    if (call->kind)
        return;
    worker_stop(&worker);
    if (release)
        release_pages();
    serve_status(call);
}

struct verdict {
    uint64_t corrupt, stale, first_bad;
    bool any;
};

static void check_page(uint64_t number, struct verdict *verdict)
{
    const struct page *page = &pages[number];
    uint64_t key = page_key(number, page->counter), nonzero = 0;
    for (uint64_t i = 0; i < constant_words; i++)
        nonzero |= page->body[i];
    bool sound = page->magic == MAGIC && page->number == number && page->key == key && !nonzero
                 && content_check(page->body + constant_words, BODY_WORDS - constant_words, key);
    if (sound && page->counter == expected[number])
        return;
    if (sound)
        verdict->stale++;
    else
        verdict->corrupt++;
    if (!verdict->any)
        verdict->first_bad = number;
    verdict->any = true;
}

static bool need_pages(struct call *call)
{
    if (!pages)
        call_fail(call, "state", "there is no working set: start writing first");
    return pages != NULL;
}

static void serve_verify(struct call *call)
{
    struct verdict verdict = {0};
    if (!need_pages(call))
        return;
    worker_hold(&worker);
    uint64_t checked = filled;
    for (uint64_t number = 0; number < checked; number++)
        check_page(number, &verdict);
    worker_release(&worker);
    json_put_u64(call->reply, "pages", checked);
    json_put_u64(call->reply, "corrupt", verdict.corrupt);
    json_put_u64(call->reply, "stale", verdict.stale);
    if (verdict.any)
        json_put_u64(call->reply, "first_bad_page", verdict.first_bad);
    else
        json_put_null(call->reply, "first_bad_page");
}

static void serve_counters(struct call *call)
{
    uint64_t first = arg_u64(call, "first", 0, 0, UINT64_MAX);
    uint64_t count = arg_u64(call, "count", COUNTERS_MOST, 1, COUNTERS_MOST);
    if (call->kind || !need_pages(call))
        return;
    worker_hold(&worker);
    json_open_list(call->reply, "counters");
    for (uint64_t i = first; i < page_count && i - first < count; i++)
        json_item_u64(call->reply, expected[i]);
    json_close_list(call->reply);
    worker_release(&worker);
}

/* Fault injection, so that verify itself can be tested: a flipped bit, or a page as it was a write ago. */
static void serve_corrupt(struct call *call)
{
    if (!need_pages(call))
        return;
    uint64_t number = arg_need_u64(call, "page", 0, page_count - 1);
    const char *how = arg_text(call, "how", "flip");
    bool flip = strcmp(how, "flip") == 0;
    if (!flip && strcmp(how, "stale") != 0)
        call_fail(call, "argument", "how has to be flip or stale");
    if (call->kind)
        return;
    worker_hold(&worker);
    if (flip) {
        pages[number].body[BODY_WORDS / 2] ^= 1;
    } else if (expected[number]) {
        uint32_t counter = expected[number];
        write_page(number, counter - 1);
        expected[number] = counter;
    } else {
        call_fail(call, "state", "page %llu has not been written since it was filled", (unsigned long long)number);
    }
    worker_release(&worker);
}

const struct command memory_commands[] = {
    {"memory.start", " working_set_bytes rate_bytes_per_s pattern zipf_s compressibility seed ", serve_start},
    {"memory.status", " ", serve_status},
    {"memory.stop", " release ", serve_stop},
    {"memory.verify", " ", serve_verify},
    {"memory.counters", " first count ", serve_counters},
    {"memory.corrupt", " page how ", serve_corrupt},
    {0}};
