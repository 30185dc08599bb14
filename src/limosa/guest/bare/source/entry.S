/* Entry of the bare guest: from the PVH entry point (32-bit, no paging) to 64-bit user mode.
 *
 * Everything here runs as supervisor. Under nested KVM without hardware support each supervisor instruction
 * is emulated (microseconds), while user mode runs natively; so this file does the least that user mode needs,
 * and all real work, parsing and the report of a fault included, is done in user mode.
 *
 * User mode asks for ports by one UD2 instruction, whose fault is served below. An exception is the only way up
 * that every accelerator tried here got right: the same KVM answers OUT in user mode with a general protection
 * fault whatever IOPL says, INT n with an invalid opcode, and enters SYSCALL's handler still in user mode.
 */

#include "calls.h"

#define GIGANTIC_PAGE_CPUID_BIT 26      /* CPUID 0x80000001 EDX: 1 GiB pages */
#define LONG_MODE_CPUID_BIT     29
#define PRESENT_WRITE_USER      0x07
#define LARGE                   0x80
#define EFER                    0xc0000080
#define EFER_LME                0x100
#define CR0_PE_PG               0x80000001
#define CR4_PAE                 0x20
#define RFLAGS_USER             0x2     /* interrupts stay off */
#define SUPERVISOR_CODE         0x08
#define SUPERVISOR_DATA         0x10
#define USER_DATA               (0x18 | 3)
#define USER_CODE               (0x20 | 3)
#define TASK                    0x28
#define GATE_SUPERVISOR         0x8e00
#define EXCEPTIONS              32
#define INVALID_OPCODE          6
#define UD2_BYTES               2

/* The ELF note by which a PVH loader finds the entry point. */
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 8, 18                /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   pvh_entry

        .section .text.entry, "ax"
        .code32
        .globl  pvh_entry
pvh_entry:
        cld
        movl    $supervisor_stack_end, %esp
        movl    %ebx, %ebp              /* the start info; CPUID overwrites EBX */

        movl    $0x80000001, %eax
        cpuid
        btl     $LONG_MODE_CPUID_BIT, %edx
        jnc     no_long_mode

        movl    $page_directory_pointers + PRESENT_WRITE_USER, page_map
        btl     $GIGANTIC_PAGE_CPUID_BIT, %edx
        jnc     map_with_2_mib_pages

/* 512 entries of 1 GiB. Bits 30 and 31 of the address are in the low half of the entry, the rest above. */
        movl    $page_directory_pointers, %edi
        xorl    %ecx, %ecx
1:      movl    %ecx, %eax
        shll    $30, %eax
        orl     $(PRESENT_WRITE_USER | LARGE), %eax
        movl    %eax, (%edi, %ecx, 8)
        movl    %ecx, %eax
        shrl    $2, %eax
        movl    %eax, 4(%edi, %ecx, 8)
        incl    %ecx
        cmpl    $512, %ecx
        jne     1b
        movl    $0x80, mapped_limit + 4  /* 512 GiB */
        jmp     enter_long_mode

/* Four directories of 512 entries of 2 MiB: the first 4 GiB. */
map_with_2_mib_pages:
        movl    $page_directories + PRESENT_WRITE_USER, %eax
        movl    $page_directory_pointers, %edi
        movl    $4, %ecx
1:      movl    %eax, (%edi)
        addl    $0x1000, %eax
        addl    $8, %edi
        loop    1b
        movl    $(PRESENT_WRITE_USER | LARGE), %eax
        movl    $page_directories, %edi
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $0x200000, %eax
        addl    $8, %edi
        loop    1b
        movl    $1, mapped_limit + 4     /* 4 GiB */

enter_long_mode:
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    $page_map, %eax
        movl    %eax, %cr3
        movl    $EFER, %ecx
        rdmsr
        orl     $EFER_LME, %eax
        wrmsr
        movl    $CR0_PE_PG, %eax
        movl    %eax, %cr0

        movl    $task, %eax             /* the linker cannot split an address over a descriptor */
        movw    %ax, descriptors + TASK + 2
        shrl    $16, %eax
        movb    %al, descriptors + TASK + 4
        movb    %ah, descriptors + TASK + 7
        lgdt    descriptors_pointer
        ljmp    $SUPERVISOR_CODE, $long_mode

/* Without long mode there is nothing to run: say so on the serial line and stop. */
no_long_mode:
        movl    $no_long_mode_text, %esi
        movw    $COM1, %dx
1:      lodsb
        testb   %al, %al
        jz      2f
        outb    %al, %dx
        jmp     1b
2:      hlt
        jmp     2b

        .code64
long_mode:
        movl    $SUPERVISOR_DATA, %eax
        movl    %eax, %ss
        movl    %eax, %ds
        movl    %eax, %es

        movl    $interrupts, %edi
        movl    $stubs, %eax
1:      movw    %ax, (%rdi)             /* stubs lie below 2 MiB: two 16-bit parts hold the address */
        movw    $SUPERVISOR_CODE, 2(%rdi)
        movw    $GATE_SUPERVISOR, 4(%rdi)
        movl    %eax, %edx
        shrl    $16, %edx
        movw    %dx, 6(%rdi)
        addl    $32, %eax
        addl    $16, %edi
        cmpl    $interrupts + EXCEPTIONS * 16, %edi
        jne     1b
        lidt    interrupts_pointer
        movl    $TASK, %eax
        ltr     %ax

        movl    %ebp, %edi              /* user_main(start info) */
        pushq   $USER_DATA
        pushq   $user_stack_end - 8     /* as after a call: the ABI wants RSP + 8 a multiple of 16 */
        pushq   $RFLAGS_USER
        pushq   $USER_CODE
        pushq   $user_main
        iretq

/* One stub of 32 bytes a vector. The processor pushes an error code by itself for the vectors in the mask. */
        .balign 32
stubs:
        .set    vector, 0
        .rept   EXCEPTIONS
        .balign 32
        .if     vector == INVALID_OPCODE
        cmpq    $call_instruction, (%rsp)
        je      called
        .endif
        .if     ((0x60227d00 >> vector) & 1) == 0
        pushq   $0
        .endif
        pushq   $vector
        jmp     faulted
        .set    vector, vector + 1
        .endr

/* int call(int number, const void *bytes, uint64_t value, uint64_t port), in user mode; see calls.h. */
        .globl  call
call:   movq    %rdx, %r8               /* OUTSB wants DX and RCX */
        movl    %ecx, %edx
        movq    %r8, %rcx
call_instruction:
        ud2
        ret

/* Serve a call: number in EDI, bytes in RSI, value in RCX, port in DX. What it returns is in EAX. */
called: addq    $UD2_BYTES, (%rsp)      /* go on after the UD2 */
        cmpl    $CALL_SEND, %edi
        je      send
        ja      write_port

        movl    $COM1_LINE_STATUS, %edx
        inb     %dx, %al
        testb   $COM1_DATA_READY, %al
        movl    $-1, %eax
        jz      1f
        movl    $COM1, %edx
        xorl    %eax, %eax
        inb     %dx, %al
1:      iretq

send:   movl    $COM1_LINE_STATUS, %edx
1:      inb     %dx, %al
        testb   $COM1_TRANSMITTER_EMPTY, %al
        jz      1b
        movl    $COM1, %edx
        rep outsb
        iretq

write_port:
        movl    %ecx, %eax
        cmpl    $CALL_WRITE_PORT_16, %edi
        je      1f
        ja      halt
        outb    %al, %dx
        iretq
1:      outw    %ax, %dx
        iretq

halt:   cli
        hlt
        jmp     halt

/* An exception: go on in user mode with report_fault(what was pushed), which does not return. */
faulted:
        movq    %cr2, %rax
        pushq   %rax
        movq    %rsp, %rdi
        pushq   $USER_DATA
        pushq   $user_stack_end - 8
        pushq   $RFLAGS_USER
        pushq   $USER_CODE
        pushq   $report_fault
        iretq

        .section .rodata
no_long_mode_text:
        .asciz  "bare: error the processor has no long mode\n"

        .section .data
        .balign 8
descriptors:
        .quad   0
        .quad   0x00af9b000000ffff      /* supervisor code, 64 bit */
        .quad   0x00cf93000000ffff      /* supervisor data */
        .quad   0x00cff3000000ffff      /* user data */
        .quad   0x00affb000000ffff      /* user code, 64 bit */
        .quad   0x0000890000000067, 0   /* task; its address is filled in above */
descriptors_pointer:
        .word   . - descriptors - 1
        .quad   descriptors
interrupts_pointer:
        .word   EXCEPTIONS * 16 - 1
        .quad   interrupts

        .balign 8
task:   .long   0
        .quad   supervisor_stack_end    /* the stack that a fault in user mode switches to */
        .fill   88, 1, 0
        .word   0, 104                  /* no port bitmap: IOPL decides */

        .globl  mapped_limit
        .balign 8
mapped_limit:
        .quad   0                       /* memory below this is mapped */

        .section .bss
        .balign 4096
page_map:                .skip 4096
page_directory_pointers: .skip 4096
page_directories:        .skip 4 * 4096
        .balign 16
interrupts:              .skip EXCEPTIONS * 16
                         .skip 4096
supervisor_stack_end:
                         .skip 16384
user_stack_end:

        .section .note.GNU-stack, "", @progbits
