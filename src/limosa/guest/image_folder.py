"""How a directory of the image cache is made: by one command at a time, whole or not at all.

::

    <cache>/images/.KEY.lock       held by whoever makes KEY, and gone when nobody does
    <cache>/images/.KEY.building/  being made; left by a killed command, swept by the next
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from limosa.errors import MachineError
from limosa.events import Events
from limosa.temporary import held, sweep_locks

_LOCK_POLL_S = 0.1


@contextlib.asynccontextmanager
async def locked(images: Path, key: str, events: Events) -> AsyncIterator[None]:
    """Hold the lock of one image; whoever comes second waits, and then finds what the first has built."""
    told = False
    while True:
        with held(images / f".{key}.lock") as ours:
            if ours:
                yield
                return
        if not told:
            events.note("another command is building this image: waiting for it")
            told = True
        await asyncio.sleep(_LOCK_POLL_S)


def sweep(images: Path, own_key: str = "") -> None:
    """Remove what killed builds have left: our own, whose lock we hold, and those whose lock nobody holds."""
    for building in images.glob(".*.building"):
        if building.stem == f".{own_key}":
            shutil.rmtree(building, ignore_errors=True)
            continue
        with contextlib.suppress(OSError), held(building.with_suffix(".lock")) as ours:
            if ours:
                shutil.rmtree(building, ignore_errors=True)
    sweep_locks(images)


@contextlib.contextmanager
def space_errors(images: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a sentence for the person."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"no space left for the guest image in {images}",
                hint="free some disk space, or set XDG_CACHE_HOME to a larger disk",
            ) from error
        raise MachineError(
            f"the guest image cannot be kept in {images}: {error.strerror or error}",
            hint="make the directory writable, or set XDG_CACHE_HOME to one that is",
        ) from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have *path* on the disk, not only in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
