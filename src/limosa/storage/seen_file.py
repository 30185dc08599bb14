"""What a host sees of files: whether they are there, which they are, and whether somebody holds a lock as QEMU does.

Of the standard library alone, as hosts run it. Nothing is written and nothing is locked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from typing import Any

HEAD_BYTES = 64 * 1024

_OFD_GETLK = 36
"""F_OFD_GETLK (fcntl(2))."""
_LOCK = "hhqqi"
"""struct flock, as the machine's C library aligns it."""
_PERMISSIONS, _COUNT = 100, 5
"""Where QEMU locks: a byte for each permission that it holds on an image (block/file-posix.c)."""


def look(path: str, *, head: bool, lock: bool) -> dict[str, Any]:
    """The fields of ``limosa.migration.preflight.facts.File``. *head*: with a digest of how it begins; *lock*: whether
    it is locked."""
    try:
        seen = os.stat(path)  # noqa: PTH116
    except OSError:
        return {"there": False}
    found: dict[str, Any] = {
        "readable": os.access(path, os.R_OK),
        "writable": os.access(path, os.W_OK),
        "device": seen.st_dev,
        "inode": seen.st_ino,
        "size_bytes": seen.st_size,
    }
    if found["readable"] and (head or lock):
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            if head:
                found["head"] = hashlib.sha256(file.read(HEAD_BYTES)).hexdigest()
            if lock:
                found["locked"] = is_locked(file.fileno())
    return found


def is_locked(descriptor: int) -> bool | None:
    """Whether another open file holds a lock where QEMU takes its own; None where this file system cannot tell."""
    asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, _PERMISSIONS, _COUNT, 0)
    try:
        kind = struct.unpack(_LOCK, fcntl.fcntl(descriptor, _OFD_GETLK, asked))[0]
    except OSError:
        return None
    return bool(kind != fcntl.F_UNLCK)
