"""Reads a run directory, whole or damaged: what cannot be read is left out and said, never guessed.

Only run.json is required. Each other file may be missing, or torn at its end because the run was killed.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from limosa import events, untrusted
from limosa.errors import StateError
from limosa.results import format as run_format
from limosa.results.raw import RawRun
from limosa.results.samples import Samples
from limosa.results.summary import summary_of

_T = TypeVar("_T")
Column = NDArray[Any]
Table = dict[str, Column]
"""One array a column; a missing value is nan in columns of measures and -1 in columns of times."""

_COLUMNS = {
    "ticks": run_format.TICKS_COLUMNS,
    "echo": run_format.ECHO_COLUMNS,
    "service": run_format.ECHO_COLUMNS,
    "cpu": run_format.CPU_COLUMNS,
    "progress": run_format.PROGRESS_COLUMNS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """All that the report is made from."""

    path: Path
    run: run_format.Run
    environment: run_format.Environment | None
    migrations: list[run_format.Migration]
    summary: run_format.Summary
    events: list[events.Event]
    samples: dict[str, Table]
    """By file name without ``.csv``; a missing or empty file is not in it."""
    lab: dict[str, Any]
    """spec.json as it is: shown, never acted upon."""
    complaints: list[str] = field(default_factory=list)
    """What could not be read, one sentence each."""

    def seconds(self, time_ns: int) -> float:
        """*time_ns* as seconds since the run began, the time axis of every plot."""
        return (time_ns - self.run.started_ns) / 1e9


class _Reader:
    """Reads the files of one run and collects what was wrong with them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complaints: list[str] = []

    def read(self, name: str, kind: type[_T]) -> _T | None:
        try:
            return untrusted.decode((self.path / name).read_bytes(), type=kind)
        except FileNotFoundError:
            self.complaints.append(f"{name} is missing.")
        except (OSError, msgspec.MsgspecError) as error:
            self.complaints.append(f"{name} cannot be read: {error}.")
        return None

    def events(self) -> list[events.Event]:
        try:
            lines = (self.path / "events.jsonl").read_bytes().splitlines()
        except OSError:
            self.complaints.append("events.jsonl is missing, so the commands are not known.")
            return []
        found, bad = [], 0
        for line in lines:
            try:
                event = events.from_json(line.encode() if isinstance(line, str) else line)
                if event is not None:
                    found.append(event)
            except msgspec.MsgspecError:
                bad += 1
        if bad:
            self.complaints.append(f"events.jsonl has {_lines(bad)} that cannot be read.")
        return found

    def table(self, name: str) -> Table | None:
        path = self.path / "samples" / f"{name}.csv"
        wanted = _COLUMNS[name]
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            self.complaints.append(f"samples/{name}.csv is missing.")
            return None
        if text and not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
            self.complaints.append(f"samples/{name}.csv ends in the middle of a line, which is left out.")
        rows = list(csv.reader(text.splitlines()))
        if not rows or not set(wanted) <= set(rows[0]):
            self.complaints.append(f"samples/{name}.csv has no header with {', '.join(wanted)}.")
            return None
        places = [rows[0].index(column) for column in wanted]
        values, bad = [], 0
        for row in rows[1:]:
            try:
                values.append([_cell(wanted[i], row[place]) for i, place in enumerate(places)])
            except (ValueError, IndexError):
                bad += 1
        if bad:
            self.complaints.append(f"samples/{name}.csv has {_lines(bad)} that cannot be read.")
        if not values:
            self.complaints.append(f"samples/{name}.csv holds no sample.")
            return None
        return {
            column: _array(column, series) for column, series in zip(wanted, zip(*values, strict=True), strict=True)
        }


def _lines(count: int) -> str:
    return "a line" if count == 1 else f"{count} lines"


def _cell(column: str, text: str) -> int | float | str:
    if column == "status":
        return text
    if column.endswith("_ns") or column in ("sequence", "migration", "iteration"):
        return int(text) if text else -1
    return float(text) if text else float("nan")


def _array(column: str, series: tuple[Any, ...]) -> Column:
    if column == "status":
        return np.array(series, dtype=np.str_)
    # Times in ns since 1970 need 61 bits: a float64 would round them to 256 ns.
    exact = column.endswith("_ns") or column in ("sequence", "migration", "iteration")
    return np.array(series, dtype=np.int64 if exact else np.float64)


def load(path: Path) -> RunData:
    """Read the run directory at *path*.

    Raises StateError when there is no readable run.json of a known format.
    """
    reader = _Reader(path)
    run = reader.read("run.json", run_format.Run)
    if run is None:
        raise StateError(
            f"{path} is not a run directory: {reader.complaints[0]}",
            hint="give a directory that limosa demo, migrate or calibrate wrote",
        )
    if run.format > run_format.FORMAT_VERSION:
        raise StateError(
            f"{path} has format {run.format}; this Limosa reads up to {run_format.FORMAT_VERSION}.",
            hint=f"use Limosa {run.limosa} or newer",
        )
    migrations = reader.read("migrations.json", list[run_format.Migration]) or []
    pauses: list[run_format.Pause] = []
    if (path / "pauses.json").exists():
        pauses = reader.read("pauses.json", list[run_format.Pause]) or []
    checks = reader.read("checks.json", list[run_format.Check]) or []
    summary = reader.read("summary.json", run_format.Summary)
    if summary is None:
        reader.complaints.append("The table is made from QEMU's own figures, because there is no summary.")
        raw = RawRun(run, None, migrations, pauses, [], checks, None, Samples())
        summary = replace(summary_of(raw), pauses=pauses, remarks=[])
    tables = {name: reader.table(name) for name in _COLUMNS if name != "progress" or migrations}
    return RunData(
        path=path,
        run=run,
        environment=reader.read("environment.json", run_format.Environment),
        migrations=migrations,
        summary=summary,
        events=reader.events(),
        samples={name: table for name, table in tables.items() if table is not None},
        lab=reader.read("spec.json", dict[str, Any]) or {},
        complaints=reader.complaints,
    )
