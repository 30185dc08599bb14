"""The file that a probe's samples are written to while it measures.

Runs in the prober: standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable


class SampleFile:
    """One CSV file, appended to in whole rows; a full disk keeps them in memory, as ``problem`` says."""

    def __init__(self, path: str, columns: Iterable[str]) -> None:
        self.path, self.problem, self._pending = path, "", ",".join(columns) + "\n"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._size = 0
        self.append("")

    def append(self, rows: str) -> None:
        """Write *rows* and what an earlier failure left over."""
        self._pending += rows
        data = self._pending.encode()
        try:
            if os.write(self._fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self.problem = f"{self.path}: {error.strerror}"
            # A torn row would make the file unreadable: go back to the last whole one.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
                os.lseek(self._fd, self._size, os.SEEK_SET)
            return
        self._size += len(data)
        self._pending = self.problem = ""
