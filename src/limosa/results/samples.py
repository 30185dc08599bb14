"""Raw samples, read from a run's CSV files into arrays of int64. Times are in ns.

A last line without its line end is left out: the writer was killed in the middle of it. Anything else that does not
parse raises LimosaError, naming the file.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from limosa.errors import LimosaError
from limosa.probes.cpu_loop import CpuSamples as CpuSamples
from limosa.probes.exchange import Exchanges as Exchanges
from limosa.probes.looks import ProgressRow as ProgressRow
from limosa.probes.ticks import Ticks as Ticks
from limosa.probes.whole_numbers import Column as Column
from limosa.results.format import CPU_COLUMNS, ECHO_COLUMNS, PROGRESS_COLUMNS, TICKS_COLUMNS

LOST = -1
"""``received_ns`` of a request that was not answered."""


def _nothing() -> Column:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Samples:
    """What was read of a guest during a run; a table without rows where nothing was."""

    ticks: Ticks = field(default_factory=lambda: Ticks(*(_nothing() for _ in TICKS_COLUMNS)))
    echo: Exchanges = field(default_factory=lambda: Exchanges(*(_nothing() for _ in ECHO_COLUMNS)))
    service: Exchanges = field(default_factory=lambda: Exchanges(*(_nothing() for _ in ECHO_COLUMNS)))
    cpu: CpuSamples = field(default_factory=lambda: CpuSamples(*(_nothing() for _ in CPU_COLUMNS)))


def read_ticks(path: Path) -> Ticks:
    """Read ticks.csv; a file that does not exist has no ticks."""
    return Ticks(*columns(path, TICKS_COLUMNS))


def read_exchanges(path: Path) -> Exchanges:
    """Read echo.csv or service.csv; a file that does not exist has no exchanges."""
    return Exchanges(*columns(path, ECHO_COLUMNS))


def read_cpu(path: Path) -> CpuSamples:
    """Read cpu.csv; a file that does not exist has no samples."""
    return CpuSamples(*columns(path, CPU_COLUMNS))


def read_progress(path: Path) -> list[ProgressRow]:
    """Read progress.csv; a file that does not exist has no rows."""
    rows = list(csv.reader(io.StringIO(_body(path, PROGRESS_COLUMNS).decode(errors="replace"))))
    try:
        return [_progress_row(row) for row in rows]
    except ValueError as error:
        raise _damaged(path, str(error)) from error


def _progress_row(row: list[str]) -> ProgressRow:
    time_ns, migration, status, total, remaining, transferred, dirty_rate, throughput, iteration = row
    return ProgressRow(
        time_ns=int(time_ns),
        migration=int(migration),
        status=status,
        total_bytes=int(total) if total else None,
        remaining_bytes=int(remaining) if remaining else None,
        transferred_bytes=int(transferred) if transferred else None,
        dirty_rate_bytes_per_s=float(dirty_rate) if dirty_rate else None,
        throughput_bytes_per_s=float(throughput) if throughput else None,
        iteration=int(iteration) if iteration else None,
    )


def columns(path: Path, names: tuple[str, ...]) -> list[Column]:
    """The columns *names* of a table of whole numbers; a file that does not exist has no rows."""
    body = _body(path, names)
    if not body:
        return [_nothing() for _ in names]
    # Only the last cell of a row may be empty: a request without an answer.
    body = body.replace(b",\n", b",%d\n" % LOST)
    try:
        table = np.loadtxt(io.BytesIO(body), delimiter=",", dtype=np.int64, ndmin=2, comments=None)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if table.shape[1] != len(names):
        raise _damaged(path, f"it has {table.shape[1]} columns instead of {len(names)}")
    return [np.ascontiguousarray(column) for column in table.T]


def _body(path: Path, names: tuple[str, ...]) -> bytes:
    """What follows the header, whole lines only."""
    try:
        data = path.read_bytes().replace(b"\r\n", b"\n")
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    header, _, body = data.partition(b"\n")
    if header.decode(errors="replace") != ",".join(names):
        raise _damaged(path, f"its first line is not {','.join(names)}")
    return body[: body.rfind(b"\n") + 1]


def _damaged(path: Path, reason: str) -> LimosaError:
    return LimosaError(f"{path} cannot be read: {reason}", hint="docs/results-format.md describes the file")
