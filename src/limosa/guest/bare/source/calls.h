/* What user mode asks of the supervisor, and the serial port's constants. The assembler reads this too. */
#ifndef CALLS_H
#define CALLS_H

#define CALL_RECEIVE 0       /* returns a byte from COM1, or -1 */
#define CALL_SEND 1          /* send `value` bytes, at most 16, on COM1 */
#define CALL_WRITE_PORT_8 2  /* the low byte of `value` to `port` */
#define CALL_WRITE_PORT_16 3 /* the low 16 bits of it */
#define CALL_HALT 4          /* stop the processor for good */

#define COM1 0x3f8
#define COM1_LINE_STATUS 0x3fd
#define COM1_DATA_READY 0x01
#define COM1_TRANSMITTER_EMPTY 0x20

#endif
