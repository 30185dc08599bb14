/* What the parts of the bare guest know of each other. All of it runs in user mode. */
#ifndef BARE_H
#define BARE_H

#include <stdint.h>

#include "calls.h"

#define PAGE_BYTES 4096ul
#define LINE_WORDS 8u
#define PAGE_LINES 64u
#define WORKING_SET_START 0x200000ul
#define MAX_RANGES 8u

/* A piece of the working set: contiguous pages of RAM. */
struct range {
    uint64_t address;
    uint64_t pages;
};

/* What the command line asked for, and where the working set lies. */
struct settings {
    int writes; /* mode=write, else mode=primes */
    uint64_t memory_mib;
    uint64_t lines;  /* lines written in each page, 1 to 64 */
    uint64_t report; /* passes or events between two reports */
    uint64_t limit;  /* primes are searched below this number */
    unsigned ranges;
    struct range range[MAX_RANGES];
};

/* primes.c: the one piece that the host program shares. */
uint64_t count_primes(uint64_t limit);

/* entry.S: ask the supervisor for one of the calls in calls.h. */
int call(int number, const void *bytes, uint64_t value, uint64_t port);

/* serial.c */
void serial_open(void);
int serial_read(void); /* a received byte, or -1 */
void put_text(const char *text);
void put_number(const char *name, uint64_t value); /* name, then the value in decimal */
void put_hexadecimal(const char *name, uint64_t value);
void put_end(void); /* end the line and send it */

/* settings.c */
void read_settings(const void *start_info, struct settings *settings);

/* write.c, main.c */
void write_forever(const struct settings *settings) __attribute__((noreturn));
void count_forever(const struct settings *settings) __attribute__((noreturn));
void fail(const char *why) __attribute__((noreturn));
void restart(void) __attribute__((noreturn));
void power_off(void) __attribute__((noreturn));

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((uint64_t)high << 32) | low;
}

#endif
