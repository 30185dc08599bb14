"""Files that a promise rests on: what was written is there after the machine lost its power, in its directory too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Replace *path* by *data*, whole or not at all, and on the disk when this returns. Raises OSError."""
    new = _written(path, data)
    try:
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Make *path* with *data*, whole or not at all, and on the disk when this returns; return whether it was not there.

    One that is there is left alone: of several that begin at once, one makes it. Raises OSError.
    """
    new = _written(path, data)
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        new.unlink()
        sync_folder(path.parent)
    return True


def _written(path: Path, data: bytes) -> Path:
    """*data* on the disk beside *path*, under a name that no other process takes. Raises OSError."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    return new


def remove(path: Path) -> None:
    """Remove a file, on the disk when this returns; one that is not there is no error. Raises OSError.

    A directory that stands in its place goes with all that is in it.
    """
    import shutil

    try:
        path.unlink()
    except FileNotFoundError:
        return
    except IsADirectoryError:
        shutil.rmtree(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have what was made, renamed or removed in *folder* on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
