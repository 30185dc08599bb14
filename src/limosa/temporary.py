"""Folders and locks that are there only for as long as the process that made them.

A killed process leaves them behind, and the kernel lets go of what it had locked. So what bears such a name and whose
lock is free belongs to nobody any more, and the next command that makes one beside it sweeps it. A process id would
tell less: those of another namespace of processes cannot be seen, and are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_END = ".limosa-tmp"
_NAME = re.compile(r"limosa-[a-z0-9]+\.[a-z0-9_]{8}" + re.escape(_END))
"""Of our folders alone. The end is what nobody writes: a name like limosa-backup.20260131 is a person's own."""


@contextmanager
def folder(what: str, within: Path | None = None) -> Iterator[Path]:
    """A new folder of one's own for the length of the block, named for *what* it is: small letters and digits.

    *within* it is hidden, where what is made in it, or the folder itself, can be renamed into place; else it is where
    temporary files are kept. Raises OSError.
    """
    place = Path(tempfile.gettempdir()) if within is None else within
    sweep(within)
    path, descriptor = _made(place, f"{'' if within is None else '.'}limosa-{what}.")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def discard(path: Path) -> None:
    """Have nothing of the name of the folder *path* from now on, and remove it. Raises OSError.

    Under a name of its own, as what a killed command started may still write in it for a moment: deleted in its place
    it would not be gone, and that would get among what is made there next.
    """
    with contextlib.suppress(FileNotFoundError), folder("gone", path.parent) as gone:
        path.rename(gone / path.name)


def sweep(place: Path | None = None) -> None:
    """Remove the folders in *place* (hidden ones), else where temporary files are kept, whose makers are gone."""
    with contextlib.suppress(OSError):
        dot = "" if place is None else "."
        for entry in os.scandir(tempfile.gettempdir() if place is None else place):
            ours = entry.name.startswith(dot) and _NAME.fullmatch(entry.name.removeprefix(dot))
            if ours and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):  # another's, or it has just gone
                    _sweep_one(entry.path)


def _sweep_one(path: str) -> None:
    descriptor = _opened(path)
    try:
        # A file system that knows no locks of folders raises, and nothing is known of its folders then.
        if os.fstat(descriptor).st_uid == os.geteuid() and _lock(descriptor) and _is(descriptor, path):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _made(place: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock, until it is closed."""
    while True:
        path = tempfile.mkdtemp(suffix=_END, prefix=prefix, dir=place)
        try:
            descriptor = _opened(path)
        except FileNotFoundError:  # swept before it was locked
            continue
        try:
            ours = _lock(descriptor) and _is(descriptor, path)
        except OSError:  # no locks of folders there: nobody sweeps it either
            ours = True
        if ours:
            return Path(path), descriptor
        os.close(descriptor)


@contextmanager
def held(lock: Path) -> Iterator[bool]:
    """Whether the *lock* could be taken, for the length of the block; the file is gone when nobody holds it.

    Raises OSError when it cannot be made.
    """
    descriptor = _taken(lock)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            # Before it is let go of: whoever waits for this very file sees that it is no longer the one of that name.
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(descriptor)


def sweep_locks(place: Path) -> None:
    """Remove the files in *place* that were locks and that nobody holds."""
    for lock in place.glob("*.lock"):
        with contextlib.suppress(OSError), held(lock):
            pass


def _taken(lock: Path) -> int | None:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(descriptor):
                os.close(descriptor)
                return None
            if _is(descriptor, lock):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file, if nobody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, path: str | Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
