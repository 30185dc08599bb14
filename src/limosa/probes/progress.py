"""The probe that writes down each look at ``query-migrate``: an event sink that makes progress.csv."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from limosa.events import Event, MigrationProgressed
from limosa.results.format import PROGRESS_COLUMNS


class ProgressRecorder:
    """Appends a row a look, at once, so that a killed run keeps what it saw. It never raises into the engine.

    Set ``migration`` to the index (from 1) of the migration that is about to begin.
    """

    def __init__(self, path: Path, warn: Callable[[str], None] = lambda _sentence: None) -> None:
        self.migration = 1
        self.problem = ""
        """Why rows are missing, if any are."""
        self._warn = warn
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._fail(error)
        self._write(",".join(PROGRESS_COLUMNS))

    def __call__(self, event: Event) -> None:
        """Write a row if *event* is a look at a migration."""
        if not isinstance(event, MigrationProgressed):
            return
        sizes = (event.total_bytes, event.remaining_bytes, event.transferred_bytes)
        rates = (event.dirty_rate_bytes_per_s, event.throughput_bytes_per_s)
        cells = [*sizes, *(None if rate is None else round(rate) for rate in rates), event.iteration]
        read = ["" if cell is None else str(cell) for cell in cells]
        self._write(",".join([str(event.time_ns), str(self.migration), event.status, *read]))

    def close(self) -> None:
        """Close the file; further events are ignored."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, row: str) -> None:
        if self._fd < 0:
            return
        try:
            os.write(self._fd, row.encode() + b"\n")
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.close()
        self.problem = f"progress.csv is incomplete: {error.strerror}"
        self._warn(self.problem)
