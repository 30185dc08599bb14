/* Interrupt vectors by which user mode asks the supervisor, and the serial port's constants. Read by the assembler too. */
#ifndef GATES_H
#define GATES_H

#define EXCEPTIONS 32
#define GATE_HALT 32          /* stop the processor for good */
#define GATE_SEND 33          /* send at most 16 bytes on COM1 */
#define GATE_RECEIVE 34       /* a byte from COM1, or -1 */
#define GATE_WRITE_PORT_8 35  /* OUT DX, AL */
#define GATE_WRITE_PORT_16 36 /* OUT DX, AX */
#define VECTORS 37

#define COM1 0x3f8
#define COM1_LINE_STATUS 0x3fd
#define COM1_DATA_READY 0x01
#define COM1_TRANSMITTER_EMPTY 0x20

#endif
