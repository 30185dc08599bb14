"""Archives that the Linux kernel unpacks into its initramfs: cpio, format "newc".

Source of the format: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.
Every entry belongs to root. Several archives may follow one another, each starting at a multiple of 4 bytes;
a later file replaces an earlier one of the same name, and a directory may be named again.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``path`` relative to the root, without a leading slash; ``mode`` with the type bits."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number, for a device node."""


def directory(path: str, permissions: int = 0o755) -> Entry:
    """A directory; its parents need entries of their own, before it."""
    return Entry(path, stat.S_IFDIR | permissions)


def file(path: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | permissions, data)


def link(path: str, target: str) -> Entry:
    """A symbolic link to *target*."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device node."""
    return Entry(path, stat.S_IFCHR | permissions, device=(major, minor))


def pack(entries: list[Entry], *, time_s: int = 0) -> bytes:
    """The archive of *entries*, in order; its length is a multiple of 4. ``time_s`` is every file's mtime."""
    parts = [_record(number, entry, time_s) for number, entry in enumerate(entries, start=1)]
    return b"".join([*parts, _record(0, Entry(_TRAILER, 0), 0)])


def _record(inode: int, entry: Entry, time_s: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    numbers = (inode, entry.mode, 0, 0, links, time_s, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
