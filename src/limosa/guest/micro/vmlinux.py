"""The kernel as an ELF file that QEMU starts directly, taken out of the compressed bzImage.

Under emulation the bzImage takes about half a second to unpack itself (docs/guest-micro.md).
QEMU starts an ELF kernel by its PVH entry, of which a note in the file tells. Sources: for the header
Documentation/arch/x86/boot.rst of the Linux kernel, for the note Xen's public/elfnote.h.
"""

from __future__ import annotations

import asyncio
import gzip
import lzma
import struct
from pathlib import Path

from limosa.guest.micro import elf, packages

_SETUP_SECTORS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248
_SECTOR_BYTES = 512
_PVH_ENTRY = ("Xen", 18)
"""XEN_ELFNOTE_PHYS32_ENTRY."""

_ZSTD, _LZ4, _XZ, _GZIP = b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18", b"\xfd7zXZ\0", b"\x1f\x8b"


def payload(image: bytes) -> bytes:
    """The compressed kernel in a bzImage, without the length appended to it. ValueError if none."""
    if image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ValueError("not a Linux bzImage")
    sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * _SECTOR_BYTES + offset
    content = image[start : start + length]
    if not length or len(content) != length:
        raise ValueError("the bzImage is cut off")
    return content if content.startswith(_GZIP) else content[:-4]


async def extract(image: Path, target: Path, unpacked: Path) -> bool:
    """Write the ELF kernel in the bzImage *image* to *target*; False when it holds none that QEMU starts."""
    try:
        content = payload(await asyncio.to_thread(image.read_bytes))
        kernel = await _decompressed(content, unpacked)
        bootable = _PVH_ENTRY in elf.notes(kernel)
    except (ValueError, struct.error, lzma.LZMAError, OSError, EOFError):
        return False
    if bootable:
        await asyncio.to_thread(target.write_bytes, kernel)
    return bootable


async def _decompressed(content: bytes, unpacked: Path) -> bytes:
    if content.startswith(_XZ):
        return await asyncio.to_thread(lzma.decompress, content)
    if content.startswith(_GZIP):
        return await asyncio.to_thread(gzip.decompress, content)
    for magic, tool in ((_ZSTD, "zstd"), (_LZ4, "lz4")):
        if content.startswith(magic):
            return await packages.unpacked_tool(unpacked, tool, "-dcq", stdin=content)
    raise ValueError("the kernel is compressed in an unknown way")
