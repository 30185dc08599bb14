"""The smallest disk that boots by itself: one sector that ticks on the serial line and writes what it counts.

It counts seconds (by the BIOS' clock), prints each as ``tick N``, and writes the count into the disk's second sector
through the BIOS; so it shows that a disk boots, that it goes on after a move, and where what is written ends up.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SOURCE = r"""
.code16
.globl _start
_start:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %sp
    sti
again:
    incw count
    mov $text, %si
1:  lodsb
    test %al, %al
    jz 2f
    call put
    jmp 1b
2:  mov count, %ax              # the count as four hexadecimal digits
    mov $4, %cx
3:  rol $4, %ax
    push %ax
    and $15, %al
    add $48, %al
    cmp $58, %al
    jb 4f
    add $39, %al
4:  call put
    pop %ax
    loop 3b
    mov $10, %al
    call put
    mov $count, %bx             # write one sector from where the count is
    mov $0x0301, %ax
    mov $0x0002, %cx            # cylinder 0, sector 2
    mov $0x0080, %dx            # head 0, first disk
    int $0x13
    mov 0x46c, %bx              # the BIOS' clock ticks 18.2 times a second
    add $9, %bx
5:  hlt
    cmp %bx, 0x46c
    js 5b
    jmp again
put:
    push %dx
    push %ax
    mov $0x3fd, %dx
6:  in %dx, %al
    test $0x20, %al
    jz 6b
    pop %ax
    mov $0x3f8, %dx
    out %al, %dx
    pop %dx
    ret
text: .asciz "tick "
.org 510
.word 0xaa55
count: .word 0
"""
SIZE_BYTES = 4 << 20


def make(folder: Path) -> Path:
    """Make ``boot.raw`` in *folder*."""
    source, built, flat = folder / "boot.s", folder / "boot.o", folder / "boot.raw"
    source.write_text(_SOURCE)
    subprocess.run(["as", "--32", "-o", built, source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "--oformat", "binary", "-Ttext", "0x7c00", "-o", flat, built], check=True)
    # What is behind the first sector is not loaded: there the count is kept in memory, and lands on the disk.
    os.truncate(flat, 512)
    os.truncate(flat, SIZE_BYTES)
    return flat


def written(disk: Path) -> int:
    """The count that is on the raw disk."""
    with disk.open("rb") as file:
        file.seek(512)
        return int.from_bytes(file.read(2), "little")
