/* COM1, polled, at 115200 baud. A line is collected in memory and sent in bursts of the transmitter's 16 bytes:
 * each burst is one call and one string instruction, so a hypervisor is asked a few times, not at every byte. */
#include "bare.h"

#define INTERRUPT_ENABLE (COM1 + 1)
#define FIFO_CONTROL (COM1 + 2)
#define LINE_CONTROL (COM1 + 3)
#define MODEM_CONTROL (COM1 + 4)
#define FIFO_BYTES 16u
#define LINE_BYTES 256u

static char line[LINE_BYTES];
static unsigned length;

void serial_open(void)
{
    call(CALL_WRITE_PORT_8, 0, 0, INTERRUPT_ENABLE);
    call(CALL_WRITE_PORT_8, 0, 0x80, LINE_CONTROL); /* the next two writes set the divisor: 1 is 115200 baud */
    call(CALL_WRITE_PORT_8, 0, 1, COM1);
    call(CALL_WRITE_PORT_8, 0, 0, INTERRUPT_ENABLE);
    call(CALL_WRITE_PORT_8, 0, 0x03, LINE_CONTROL);  /* 8 bits, no parity, 1 stop bit */
    call(CALL_WRITE_PORT_8, 0, 0x07, FIFO_CONTROL);  /* FIFOs on and empty */
    call(CALL_WRITE_PORT_8, 0, 0x03, MODEM_CONTROL); /* ready to send and receive */
}

int serial_read(void)
{
    return call(CALL_RECEIVE, 0, 0, 0);
}

static void put_byte(char byte)
{
    if (length < LINE_BYTES)
        line[length++] = byte;
}

void put_text(const char *text)
{
    while (*text)
        put_byte(*text++);
}

static void put_digits(uint64_t value, unsigned base)
{
    char digits[20];
    unsigned count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (count)
        put_byte(digits[--count]);
}

void put_number(const char *name, uint64_t value)
{
    put_text(name);
    put_digits(value, 10);
}

void put_hexadecimal(const char *name, uint64_t value)
{
    put_text(name);
    put_text("0x");
    put_digits(value, 16);
}

void put_end(void)
{
    const char *next = line;

    put_byte('\n');
    while (length) {
        uint64_t burst = length < FIFO_BYTES ? length : FIFO_BYTES;

        length -= burst;
        call(CALL_SEND, next, burst, 0);
        next += burst;
    }
}
