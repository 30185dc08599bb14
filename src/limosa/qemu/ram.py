"""The size of a guest's memory, so chosen that a migration under TCG loses no write (decision 0023)."""

from __future__ import annotations

_WORD_OF_PAGES_BYTES = 64 * 4096
_QEMU_RAM_STEP_BYTES = 8192


def ram_bytes(memory_bytes: int, accel: str, *, sound: bool = False) -> int:
    """What QEMU gets for a guest that is to have *memory_bytes*.

    *sound*: every QEMU that may ever run it is known to lose no write with that very size.
    """
    return memory_bytes if sound or accel != "tcg" else migratable_memory_bytes(memory_bytes)


def needs_sound_qemu(size_bytes: int, accel: str) -> bool:
    """Whether a QEMU may be given that much, under that accelerator, only if it is known to lose no write with it."""
    return accel == "tcg" and size_bytes % _WORD_OF_PAGES_BYTES == 0


def migratable_memory_bytes(memory_bytes: int) -> int:
    """*memory_bytes*, or 8 KiB more where that many would lose writes in a migration under TCG.

    Measured with the bare guest (docs/guest-bare.md): under TCG, QEMU 7.2 loses writes to a page that is
    never out of use when the size is a multiple of 256 KiB, and QEMU 10.0 does not. A fix made in between fits:
    the dirty log of a RAM block that is whole words of 64 pages is read by a fast path, which did not tell
    TCG's software TLB of the bits that it cleared. A block that ends inside a word takes another path, which
    is right. QEMU rounds RAM sizes to 8 KiB, hence the step.
    """
    return memory_bytes + _QEMU_RAM_STEP_BYTES if needs_sound_qemu(memory_bytes, "tcg") else memory_bytes
