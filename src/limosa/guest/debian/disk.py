"""The disk: a partition table that BIOS and UEFI both read, and both boot loaders, without root or loop devices.

::

    sector 0        boot.img of GRUB (its first 440 bytes), the partition table behind it
    sector 1 ...    core.img of GRUB, in the gap before the first partition: what a BIOS starts
    1 MiB           partition 1, FAT: EFI/BOOT/BOOTX64.EFI, what UEFI starts
    33 MiB          partition 2, ext4: the system
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limosa.errors import LimosaError
from limosa.guest.micro.packages import run_bound

SECTOR_BYTES = 512
BOOT_CODE_BYTES = 440
"""Behind them in sector 0 are the disk's identifier and the partition table."""
EFI_START_BYTES = 1 << 20
EFI_BYTES = 32 << 20
ROOT_START_BYTES = EFI_START_BYTES + EFI_BYTES
BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the parts of a disk of ``size_bytes`` are."""

    size_bytes: int

    @property
    def root_blocks(self) -> int:
        """The blocks of the system's file system."""
        return (self.size_bytes - ROOT_START_BYTES) // BLOCK_BYTES

    def table(self) -> str:
        """The partition table in the words of sfdisk."""
        sectors = self.root_blocks * (BLOCK_BYTES // SECTOR_BYTES)
        return (
            "label: dos\n"
            f"start={EFI_START_BYTES // SECTOR_BYTES}, size={EFI_BYTES // SECTOR_BYTES}, type=ef\n"
            f"start={ROOT_START_BYTES // SECTOR_BYTES}, size={sectors}, type=83, bootable\n"
        )


async def partition(disk: Path, layout: Layout) -> None:
    """Make the new file *disk*, all of it holes but the partition table."""
    with disk.open("xb") as file:
        file.truncate(layout.size_bytes)
    await run_bound(["sfdisk", "--quiet", str(disk)], stdin=layout.table().encode())


async def make_bootable(disk: Path, boot_image: Path, core_image: Path, efi_program: Path) -> None:
    """Write both boot loaders. LimosaError when one does not fit in its place."""
    core = core_image.read_bytes()
    if len(core) > EFI_START_BYTES - SECTOR_BYTES:
        raise LimosaError(f"the boot loader of {len(core)} bytes does not fit before the first partition")
    efi = disk.with_name("efi.img")
    with efi.open("xb") as file:
        file.truncate(EFI_BYTES)
    await run_bound(["mkfs.vfat", "-n", "EFI", str(efi)])
    await run_bound(["mmd", "-i", str(efi), "::/EFI", "::/EFI/BOOT"])
    await run_bound(["mcopy", "-i", str(efi), str(efi_program), "::/EFI/BOOT/BOOTX64.EFI"])
    with disk.open("r+b") as file:
        file.write(boot_image.read_bytes()[:BOOT_CODE_BYTES])
        file.seek(SECTOR_BYTES)
        file.write(core)
        with efi.open("rb") as partition_file:
            for start in range(EFI_START_BYTES, ROOT_START_BYTES, 1 << 16):
                if any(part := partition_file.read(1 << 16)):  # what is zero stays a hole
                    file.seek(start)
                    file.write(part)
    efi.unlink()
