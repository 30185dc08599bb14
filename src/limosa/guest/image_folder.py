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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ParamSpec, TypeVar

from limosa import temporary
from limosa.errors import MachineError
from limosa.events import Events
from limosa.tasks import uninterrupted
from limosa.temporary import held, sweep_locks

P = ParamSpec("P")
T = TypeVar("T")

_LOCK_POLL_S = 0.1


@contextlib.asynccontextmanager
async def in_turn(lock: Path, events: Events, occupied: str) -> AsyncIterator[None]:
    """Hold *lock*; whoever comes second waits, and is told once what it is *occupied* with. Raises OSError."""
    told = False
    while True:
        with held(lock) as ours:
            if ours:
                yield
                return
        if not told:
            events.note(f"{occupied}: waiting for it")
            told = True
        await asyncio.sleep(_LOCK_POLL_S)


def locked(images: Path, key: str, events: Events) -> AbstractAsyncContextManager[None]:
    """Hold the lock of one image; whoever comes second waits, and then finds what the first has built."""
    return in_turn(images / f".{key}.lock", events, "another command is building this image")


def sweep(images: Path, own_key: str = "") -> None:
    """Remove what killed builds have left: our own, whose lock we hold, and those whose lock nobody holds."""
    for building in images.glob(".*.building"):
        if building.stem == f".{own_key}":
            discard(building)
            continue
        with contextlib.suppress(OSError), held(building.with_suffix(".lock")) as ours:
            if ours:
                discard(building)
    temporary.sweep(images)
    sweep_locks(images)


def discard(folder: Path) -> None:
    """Have nothing of that name from now on, and remove it. Raises OSError when the name stays taken."""
    try:
        temporary.discard(folder)
    except OSError:  # no room for another name
        shutil.rmtree(folder)


async def in_thread(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """What *work* comes to beside the loop. A cancellation waits for it: a thread goes on, and would write into what
    is swept away, when the lock is somebody else's already.
    """
    return await uninterrupted(asyncio.to_thread(work, *args, **named))


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
