"""Raw samples, read from a run's CSV files into arrays: int64 for times and counts, which no float holds exactly.

There is one way to read a file, ``read_table``, which tells what was wrong with it. The others have arrays from it: a
last line without its line end is left out, since the writer was killed in the middle of it; anything else that does
not parse raises LimosaError, naming the file. ``raw.Reader`` reads damaged runs too.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from limosa import paths
from limosa.errors import LimosaError
from limosa.probes import cpu_loop, exchange, looks, ticks
from limosa.probes.cpu_loop import CpuSamples
from limosa.probes.exchange import Exchanges
from limosa.probes.looks import ProgressRow
from limosa.probes.ticks import Ticks
from limosa.probes.whole_numbers import Column

Table = dict[str, npt.NDArray[Any]]
"""One array a column; a missing value is nan in columns of measures and LOST in columns of times and counts."""
LOST = -1
"""``received_ns`` of a request that was not answered."""


def _nothing() -> Column:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Samples:
    """What was read of a guest during a run; a table without rows where nothing was."""

    ticks: Ticks = field(default_factory=lambda: Ticks(*(_nothing() for _ in ticks.COLUMNS)))
    echo: Exchanges = field(default_factory=lambda: Exchanges(*(_nothing() for _ in exchange.COLUMNS)))
    service: Exchanges = field(default_factory=lambda: Exchanges(*(_nothing() for _ in exchange.COLUMNS)))
    cpu: CpuSamples = field(default_factory=lambda: CpuSamples(*(_nothing() for _ in cpu_loop.COLUMNS)))


def read_ticks(path: Path) -> Ticks:
    """ticks.csv as arrays of int64: numbers, and times in ns. A file that does not exist has no ticks; raises
    LimosaError, naming the file, for one that does not parse.

    Example::

        ticks = read_ticks(result.run / "samples" / "ticks.csv")
        print(len(ticks), np.diff(ticks.received_ns).max(initial=0) / 1e6, "ms was the longest hole")
    """
    return Ticks(*_whole(path, ticks.COLUMNS).values())


def read_exchanges(path: Path) -> Exchanges:
    """echo.csv or service.csv as arrays of int64, times in ns; -1 where no answer came. A file that does not exist has
    no exchanges; raises LimosaError for one that does not parse.

    Example::

        echoes = read_exchanges(result.run / "samples" / "echo.csv")
        print((echoes.received_ns < 0).sum(), "of", len(echoes), "were not answered")
    """
    return Exchanges(*_whole(path, exchange.COLUMNS).values())


def read_cpu(path: Path) -> CpuSamples:
    """cpu.csv as arrays of int64, times in ns. A file that does not exist has no samples; raises LimosaError for one
    that does not parse.

    Example::

        turns = read_cpu(result.run / "samples" / "cpu.csv")
        print(len(turns), "turns of the loop in the guest")
    """
    return CpuSamples(*_whole(path, cpu_loop.COLUMNS).values())


def read_progress(path: Path) -> list[ProgressRow]:
    """progress.csv row by row, None for what was not read; times in ns, sizes in bytes, rates in bytes/s. A file that
    does not exist has no rows; raises LimosaError for one that does not parse.

    Example::

        for look in read_progress(result.run / "samples" / "progress.csv")[:3]:
            print(look.time_ns, look.status, look.remaining_bytes)
    """
    rows = zip(*(column.tolist() for column in _whole(path, looks.COLUMNS).values()), strict=True)
    return [ProgressRow(*map(_read, looks.COLUMNS, row)) for row in rows]


def _read(name: str, value: Any) -> Any:
    """A cell as it is told: None for what was not read, sizes in whole bytes."""
    if value == LOST or value != value:
        return None
    return int(value) if name.endswith("_bytes") else value


def columns(path: Path, names: tuple[str, ...]) -> list[Column]:
    """The columns *names* of a table of whole numbers; a file that does not exist has no rows."""
    return list(_whole(path, dict.fromkeys(names, int)).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTable:
    """What could be read of a table, and what could not."""

    rows: Table
    missing: bool = False
    torn: bool = False
    """Whether it ends in the middle of a line, which is left out."""
    bad: int = 0
    """Lines that do not parse, left out too."""
    problem: str = ""
    """Why there is nothing of it, or what is wrong with the first bad line."""


def read_table(path: Path, columns: Mapping[str, type]) -> ReadTable:
    """Read *columns*, wherever they stand, each of its type, of the table at *path*. Raises nothing."""
    kinds = {name: _kind(name, of) for name, of in columns.items()}
    nothing = {name: _array(kind, []) for name, kind in kinds.items()}
    try:
        data = path.read_bytes().replace(b"\r\n", b"\n")
    except FileNotFoundError:
        return ReadTable(rows=nothing, missing=True)
    except OSError as error:
        return ReadTable(rows=nothing, problem=error.strerror or str(error))
    header, _, body = data.partition(b"\n")
    head = header.decode(errors="replace").split(",")
    if not set(kinds) <= set(head):
        return ReadTable(rows=nothing, problem=f"it has no header with {', '.join(kinds)}")
    whole = body[: body.rfind(b"\n") + 1]
    torn = len(whole) != len(body)
    places = [head.index(name) for name in kinds]
    if whole and set(kinds.values()) == {int} and (fast := _numbers(whole, places)) is not None:
        return ReadTable(rows=dict(zip(kinds, fast, strict=True)), torn=torn)
    return _line_by_line(whole.decode(errors="replace"), kinds, places, torn=torn)


def _numbers(body: bytes, places: list[int]) -> list[Column] | None:
    """Columns of whole numbers, at once; None when a line is no such row."""
    # Only the last cell of a row may be empty here: a request without an answer.
    body = body.replace(b",\n", b",%d\n" % LOST)
    try:
        table = np.loadtxt(io.BytesIO(body), delimiter=",", dtype=np.int64, ndmin=2, comments=None, usecols=places)
    except ValueError:
        return None
    return [np.ascontiguousarray(column) for column in table.T]


def _line_by_line(text: str, kinds: Mapping[str, type], places: list[int], *, torn: bool) -> ReadTable:
    values, bad, problem = [], 0, ""
    for cells in csv.reader(io.StringIO(text)):
        try:
            values.append([_cell(kind, cells[place]) for kind, place in zip(kinds.values(), places, strict=True)])
        except (ValueError, IndexError) as error:
            bad, problem = bad + 1, problem or f"{','.join(cells)}: {error}"
    series = zip(*values, strict=True) if values else ([] for _ in kinds)
    rows = {name: _array(kinds[name], list(column)) for name, column in zip(kinds, series, strict=True)}
    return ReadTable(rows=rows, torn=torn, bad=bad, problem=problem)


def _kind(name: str, of: type) -> type:
    """Sizes may be absent, and are small enough for a float, which tells that by nan."""
    return float if name.endswith("_bytes") else of


def _cell(kind: type, text: str) -> int | float | str:
    if kind is str:
        return text
    if kind is float:
        return float(text) if text else float("nan")
    return int(text) if text else LOST


def _array(kind: type, values: list[Any]) -> npt.NDArray[Any]:
    return np.array(values, dtype=np.str_ if kind is str else np.float64 if kind is float else np.int64)


def _whole(path: Path, columns: Mapping[str, type]) -> Table:
    """A table in which every line parses, but for a torn last one."""
    found = read_table(path, columns)
    if found.problem:
        raise damaged(path, found.problem)
    return found.rows


def has_rows(table: Table) -> bool:
    """Whether there is any sample in it."""
    return len(next(iter(table.values()))) > 0


def damaged(path: Path, reason: str) -> LimosaError:
    """The error of a table that cannot be read."""
    return LimosaError(
        f"{path} cannot be read: {reason}", hint=f"{paths.document('results-format.md')} describes the file"
    )
