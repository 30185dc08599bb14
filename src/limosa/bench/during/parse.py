"""What the loads print while a guest moves, line by line, and the samples that were kept of it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from limosa.bench.during.course import Series, series
from limosa.bench.during.parts import IPERF_COLUMNS, SYSBENCH_COLUMNS
from limosa.errors import LimosaError
from limosa.results.cpu_speed import client_time_ns
from limosa.results.samples import LOST, read_cpu, read_exchanges, read_ticks
from limosa.results.store import RunDirectory

MS = 1_000_000
BIN_NS = 200 * MS

_SYSBENCH = re.compile(r"^\[ ([0-9]{1,9})s \] thds: \d+ eps: ([0-9]+(?:\.[0-9]+)?)")
_F = r"([0-9]+(?:\.[0-9]+)?)"
_IPERF = re.compile(rf"^\[ *(?:\d+|SUM)\] +{_F}-{_F} +sec +[\d.]+ [KMGT]?Bytes +{_F} Kbits/sec")
_LEAST_INTERVAL_S = 0.01
"""iperf3 ends its list with what is left of the last interval, which can be a millisecond."""


def sysbench_line(line: str) -> tuple[int, float] | None:
    """``[ 3s ] thds: 1 eps: 943.21 lat ...`` as (3, 943.21); None for any other line."""
    found = _SYSBENCH.match(line)
    return (int(found[1]), float(found[2])) if found else None


def iperf_line(line: str) -> tuple[float, float, float] | None:
    """A line of iperf3's list (``-f k``) as (begin_s, end_s, kbit/s); None for others, the final sums included."""
    found = _IPERF.match(line)
    if not found or line.rstrip().endswith(("sender", "receiver")):
        return None
    begin, end = float(found[1]), float(found[2])
    return (begin, end, float(found[3])) if end - begin >= _LEAST_INTERVAL_S else None


def read_sysbench(path: Path) -> Series:
    """sysbench's own reports, each the speed over the time since the one before, placed where its line arrived."""
    rows = _rows(path, SYSBENCH_COLUMNS)
    return series([(int(row[0]) - 1000 * MS, int(row[0]), float(row[2])) for row in rows])


def read_iperf(path: Path) -> Series:
    """iperf3's intervals as bits per second, placed where the line arrived: iperf3 prints as an interval ends."""
    rows = _rows(path, IPERF_COLUMNS)
    intervals = [(int(row[0]), float(row[2]) - float(row[1]), float(row[3])) for row in rows]
    return series([(at - round(took * 1e9), at, rate * 1000) for at, took, rate in intervals])


def read_round_trips(path: Path) -> Series:
    """Echoes as round trips in ms; one that was never answered waited for ever."""
    echoes = read_exchanges(path)
    rows = []
    for sent, received in zip(echoes.sent_ns.tolist(), echoes.received_ns.tolist(), strict=True):
        lost = received == LOST
        rows.append((sent, sent if lost else received, float("inf") if lost else (received - sent) / 1e6))
    return series(rows, more_is_better=False)


def read_loop(own: RunDirectory) -> Series:
    """The agent's fixed loop as events per second of its CPU time, over BIN_NS each, placed on this machine's clock.

    One turn takes a millisecond and mostly fits between two moments at which the virtual CPU is taken away, so the
    median of single turns would not see that; the sum of a few does.
    """
    cpu, ticks = read_cpu(own.samples / "cpu.csv"), read_ticks(own.samples / "ticks.csv")
    if not len(cpu) or not len(ticks):
        return series([])
    begin = client_time_ns(ticks, cpu.guest_monotonic_ns)
    end = client_time_ns(ticks, cpu.guest_monotonic_ns + cpu.duration_ns)
    place = (cpu.guest_monotonic_ns - cpu.guest_monotonic_ns[0]) // BIN_NS
    rows = []
    for bin_ in np.unique(place):
        turns = place == bin_
        took_ns = int(cpu.duration_ns[turns].sum())
        speed = float(cpu.events[turns].sum()) * 1e9 / max(took_ns, 1)
        rows.append((int(begin[turns].min()), int(end[turns].max()), speed))
    return series(rows)


def _rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The whole lines of a file of ours; a last one without its end is left out. A file that is absent has none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    head, _, body = text.partition("\n")
    if head != ",".join(columns):
        raise LimosaError(f"{path} cannot be read: its first line is not {','.join(columns)}")
    found = list(csv.reader(io.StringIO(body[: body.rfind("\n") + 1])))
    for row in found:
        if len(row) != len(columns):
            raise LimosaError(f"{path} cannot be read: a line has {len(row)} cells instead of {len(columns)}")
    return found
