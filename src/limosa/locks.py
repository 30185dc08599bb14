"""Whether somebody holds the lock of a file. The kernel lets go of a lock with the process that had it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether somebody has the lock of the file *path* now.

    Raises OSError where nobody can know: without the file, or on a file system that knows no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return is_taken(descriptor)
    finally:
        os.close(descriptor)


def is_taken(descriptor: int) -> bool:
    """The same of an open file that has no lock of its own. Raises OSError where the file system knows none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
