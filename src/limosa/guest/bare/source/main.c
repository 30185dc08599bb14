/* The bare guest's user mode: say that it is there, do what the command line asks, answer bytes on the serial line.
 *
 * `v` verifies the whole working set, `s` prints a status line, `r` starts the machine anew, `q` stops it.
 */
#include "bare.h"

#define POLL_EVENTS 16u
#define PM1_CONTROL 0x604   /* of ICH9 and PIIX4, where QEMU's firmware places it */
#define SLEEP_NOW 0x2000    /* sleep type 0 is "soft off" in QEMU's ACPI tables */
#define RESET_CONTROL 0xcf9 /* of ICH9 and PIIX3 */
#define RESET_NOW 0x06

struct fault_frame {
    uint64_t address, vector, error, instruction, code_segment, flags, stack;
};

void user_main(const void *start_info) __attribute__((noreturn));
void report_fault(const struct fault_frame *frame) __attribute__((noreturn));

static void halt(void) __attribute__((noreturn));
static void halt(void)
{
    for (;;)
        call(CALL_HALT, 0, 0, 0);
}

void fail(const char *why)
{
    put_text("bare: error ");
    put_text(why);
    put_end();
    halt();
}

void power_off(void)
{
    put_text("bare: stopped");
    put_end();
    call(CALL_WRITE_PORT_16, 0, SLEEP_NOW, PM1_CONTROL);
    halt();
}

void restart(void)
{
    call(CALL_WRITE_PORT_8, 0, RESET_NOW, RESET_CONTROL);
    halt();
}

/* Reads all of the frame before it sends: a fault would push over it. */
void report_fault(const struct fault_frame *frame)
{
    put_number("bare: FAULT vector=", frame->vector);
    put_hexadecimal(" error=", frame->error);
    put_hexadecimal(" instruction=", frame->instruction);
    put_hexadecimal(" address=", frame->address);
    put_end();
    halt();
}

static void report_events(const char *start, uint64_t events, uint64_t primes)
{
    put_number(start, events);
    put_number(" primes=", primes);
    put_number(" tsc=", read_tsc());
    put_end();
}

void count_forever(const struct settings *settings)
{
    uint64_t primes = 0;

    for (uint64_t events = 1;; events++) {
        primes = count_primes(settings->limit);
        if (events % settings->report == 0)
            report_events("bare: events=", events, primes);
        if (events % POLL_EVENTS)
            continue;
        switch (serial_read()) {
        case 's':
            report_events("bare: status mode=primes events=", events, primes);
            break;
        case 'r':
            restart();
        case 'q':
            power_off();
        }
    }
}

void user_main(const void *start_info)
{
    static struct settings settings;

    serial_open();
    read_settings(start_info, &settings);
    put_text(settings.writes ? "bare: ready mode=write" : "bare: ready mode=primes");
    put_number(" memory_mib=", settings.writes ? settings.memory_mib : 0);
    put_number(" lines=", settings.writes ? settings.lines : 0);
    put_number(" report=", settings.report);
    put_number(" limit=", settings.writes ? 0 : settings.limit);
    put_end();
    if (settings.writes)
        write_forever(&settings);
    count_forever(&settings);
}
