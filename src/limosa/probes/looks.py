"""Looks at ``query-migrate`` while a guest moves: an event sink writes them down."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limosa.events import Event, MigrationProgressed
from limosa.probes.pace import Probing
from limosa.probes.pane import Pane, Value
from limosa.probes.probe import Probe

MIB = 1024.0 * 1024.0
RATES = Pane("rates", "Rates", "MiB/s")

COLUMNS = {
    "time_ns": int,
    "migration": int,
    "status": str,
    "total_bytes": int,
    "remaining_bytes": int,
    "transferred_bytes": int,
    "dirty_rate_bytes_per_s": float,
    "throughput_bytes_per_s": float,
    "iteration": int,
}


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """One look at a migration. None: not read."""

    time_ns: int
    migration: int
    status: str
    total_bytes: int | None
    remaining_bytes: int | None
    transferred_bytes: int | None
    dirty_rate_bytes_per_s: float | None
    throughput_bytes_per_s: float | None
    iteration: int | None


class LookProbe(Probe[ProgressRow]):
    """What QEMU says of a migration, look by look."""

    name = "progress"
    columns = COLUMNS
    rows = ProgressRow
    moment = "time_ns"
    of_migrations = True
    series = (
        Value(
            Pane("remaining", "Still to send", "MiB"),
            "blue",
            reading="still to send",
            column="remaining_bytes",
            stretch="migration",
            field="remaining",
            scale=MIB,
            filled=True,
        ),
        Value(
            RATES,
            "blue",
            reading="sent",
            column="throughput_bytes_per_s",
            stretch="migration",
            field="throughput",
            label="sent",
            scale=MIB,
        ),
        Value(
            RATES,
            "orange",
            reading="dirtied",
            column="dirty_rate_bytes_per_s",
            stretch="migration",
            field="dirty",
            label="dirtied by the guest",
            scale=MIB,
            dashed=True,
            unread="How fast the guest dirtied memory: QEMU measures that from pass to pass, over more than a second.",
        ),
        Value(None, "", reading="pass", column="iteration", stretch="migration", field="iteration"),
    )
    subject = "What was still to send and the rates"
    absent = "no sample of query-migrate in this run"

    def described(self, probing: Probing) -> dict[str, object]:
        """As an interval."""
        return {"query-migrate interval ms": probing.progress_interval_ms}


PROBE = LookProbe()


class ProgressRecorder:
    """Appends a row a look, at once, so that a killed run keeps what it saw. It never raises into the engine.

    Set ``migration`` to the index (from 1) of the migration that is about to begin.
    """

    def __init__(self, path: Path, guest: str, warn: Callable[[str], None] = lambda _sentence: None) -> None:
        self.guest = guest
        """Whose migrations are recorded: others of the lab may move meanwhile."""
        self.migration = 1
        self.problem = ""
        """Why rows are missing, if any are."""
        self._warn = warn
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._fail(error)
        self._write(",".join(COLUMNS))

    def __call__(self, event: Event) -> None:
        """Write a row if *event* is a look at a migration of the guest."""
        if not isinstance(event, MigrationProgressed) or event.guest != self.guest:
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
