/* mode=write: write every page of the working set in turn, pass after pass, and check it before each write.
 *
 * A page has 64 lines of 64 bytes, of which `lines` are used, spread evenly. In pass P a line gets
 *     word 0: P     word 1: the page's number     words 2 to 7: a pattern made of page, line, word and P
 * so when pass P visits a line it must hold exactly what pass P - 1 left there. A line that holds anything else
 * is a lost (or a stray, or a torn) write. A page is counted at most once a look, and set right when it is found,
 * so that each loss is reported once.
 */
#include "bare.h"

#define POLL_LINES 65536ul /* look at the serial line after so many lines: 4 MiB at 64 lines a page */
#define SHOWN 32u          /* lost pages printed in one verification or pass; all are counted */

/* Odd constants of high weight: the fractional parts of the golden ratio and of the roots of 2, 3 and 5. */
#define PAGE_FACTOR 0x9e3779b97f4a7c15ul
#define LINE_STEP 0x6a09e667f3bcc909ul
#define WORD_STEP 0xbb67ae8584caa73bul
#define PASS_FACTOR 0x3c6ef372fe94f82bul

struct state {
    const struct settings *settings;
    uint64_t pass;    /* the pass that is being written, from 1 */
    uint64_t written; /* pages of it that are done */
    uint64_t lost;    /* pages found wrong since the start */
    unsigned shown;
    uint64_t step; /* words from one used line to the next */
};

static inline uint64_t pattern(uint64_t seed, unsigned word, uint64_t salt)
{
    return (seed + word * WORD_STEP) ^ salt;
}

/* The bits in which a line differs from what `pass` leaves there: 0 when it is right. */
static inline uint64_t difference(const volatile uint64_t *line, uint64_t page, uint64_t seed, uint64_t pass)
{
    uint64_t salt = pass * PASS_FACTOR;
    uint64_t bits = (line[0] ^ pass) | (line[1] ^ page);

#pragma GCC unroll 8
    for (unsigned word = 2; word < LINE_WORDS; word++)
        bits |= line[word] ^ pattern(seed, word, salt);
    return bits;
}

static inline void fill(volatile uint64_t *line, uint64_t page, uint64_t seed, uint64_t pass)
{
    uint64_t salt = pass * PASS_FACTOR;

    line[0] = pass;
    line[1] = page;
#pragma GCC unroll 8
    for (unsigned word = 2; word < LINE_WORDS; word++)
        line[word] = pattern(seed, word, salt);
}

/* Print a line that is wrong: the counters, or the first other word that differs. */
static void show_lost(struct state *state, const volatile uint64_t *line, uint64_t page, uint64_t index,
                      uint64_t seed, uint64_t pass)
{
    unsigned word = 0;
    uint64_t expected = pass, found = line[0];

    if (state->shown++ >= SHOWN)
        return;
    while (found == expected && ++word < LINE_WORDS) {
        expected = word == 1 ? page : pattern(seed, word, pass * PASS_FACTOR);
        found = line[word];
    }
    put_number("bare: LOST page=", page);
    put_number(" line=", index);
    put_number(" word=", word);
    put_number(" expected=", expected);
    put_number(" found=", found);
    put_end();
}

/* Check a page against `expected` (0: not written yet, so nothing to check) and leave it as `pass` would. */
static inline void visit(struct state *state, uint64_t address, uint64_t page, uint64_t expected, uint64_t pass)
{
    volatile uint64_t *line = (volatile uint64_t *)address;
    uint64_t seed = page * PAGE_FACTOR, lines = state->settings->lines, wrong = 0;

    for (uint64_t index = 0; index < lines; index++, line += state->step, seed += LINE_STEP) {
        if (expected && __builtin_expect(difference(line, page, seed, expected) != 0, 0)) {
            if (!wrong++)
                show_lost(state, line, page, index * state->step / LINE_WORDS, seed, expected);
            fill(line, page, seed, expected);
        }
        if (pass != expected)
            fill(line, page, seed, pass);
    }
    state->lost += wrong != 0;
}

/* Look at the whole working set: pages that this pass has done hold its number, the others that of the last. */
static void verify(struct state *state)
{
    uint64_t page = 0, before = state->lost;

    state->shown = 0;
    for (unsigned i = 0; i < state->settings->ranges; i++) {
        const struct range *range = &state->settings->range[i];

        for (uint64_t n = 0; n < range->pages; n++, page++) {
            uint64_t expected = page < state->written ? state->pass : state->pass - 1;

            visit(state, range->address + n * PAGE_BYTES, page, expected, expected);
        }
    }
    put_number("bare: verified pages=", page);
    put_number(" pass=", state->pass);
    put_number(" lost=", state->lost - before);
    put_number(" total=", state->lost);
    put_end();
    state->shown = 0;
}

static void report(const struct state *state, const char *start)
{
    put_number(start, state->pass);
    put_number(" page=", state->written);
    put_number(" lost=", state->lost);
    put_number(" tsc=", read_tsc());
    put_end();
}

static void answer(struct state *state)
{
    switch (serial_read()) {
    case 'v':
        verify(state);
        break;
    case 's':
        report(state, "bare: status mode=write pass=");
        break;
    case 'r':
        restart();
    case 'q':
        power_off();
    }
}

static void write_pass(struct state *state)
{
    uint64_t poll_pages = POLL_LINES / state->settings->lines, until_poll = poll_pages;

    state->written = 0;
    state->shown = 0;
    for (unsigned i = 0; i < state->settings->ranges; i++) {
        const struct range *range = &state->settings->range[i];

        for (uint64_t n = 0; n < range->pages; n++) {
            visit(state, range->address + n * PAGE_BYTES, state->written, state->pass - 1, state->pass);
            state->written++;
            if (--until_poll == 0) {
                until_poll = poll_pages;
                answer(state);
            }
        }
    }
    answer(state);
}

void write_forever(const struct settings *settings)
{
    struct state state = {.settings = settings};

    state.step = PAGE_LINES / settings->lines * LINE_WORDS;
    for (state.pass = 1;; state.pass++) {
        write_pass(&state);
        if (state.pass % settings->report == 0)
            report(&state, "bare: pass ");
    }
}
