"""The guest while it did not move: how long clients waited then, and at what rates its work and the probes went.

Rule: a figure of a move is read beside the same figure at rest. Pure functions from raw samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.probes.whole_numbers import Column
from limosa.results.clocks import MS, SETTLE_NS, usual_hole_ns
from limosa.results.format import LoadReading, Migration, Pause, Rate
from limosa.results.samples import LOST
from limosa.units import format_bytes_per_s, format_number

Stretch = tuple[int, int]
_Counts = npt.NDArray[np.int64]
"""Rows of (ns, how much there had been by then), in the order of time."""

BEGIN_NS = 1000 * MS
"""Left out at the beginning, where nothing else tells when the guest had settled: probes and connections start."""

LEAST_NS = 500 * MS
"""A shorter stretch tells nothing: an echo comes each 50 ms."""

SHORT = 0.95
"""A rate below this share of what was asked for is said to be short of it: what is read is exact to a reading's delay,
some ms in seconds."""


def stretches(
    migrations: Sequence[Migration],
    pauses: Sequence[Pause],
    load: Sequence[LoadReading],
    ticks: Ticks,
    echo: Exchanges,
    service: Exchanges,
) -> list[Stretch]:
    """When the guest was watched and neither moved nor was set to work, stopped or checked, in ns."""
    times = [column for column in (ticks.received_ns, echo.sent_ns, service.sent_ns) if len(column)]
    if not times:
        return []
    begin = load[0].time_ns if load else min(int(column.min()) for column in times) + BEGIN_NS
    end = load[-1].time_ns if len(load) > 1 else max(int(column.max()) for column in times)
    busy = [(m.started_ns, m.ended_ns + SETTLE_NS) for m in migrations]
    busy += [(pause.stop_ns, pause.resume_ns + SETTLE_NS) for pause in pauses]
    found, at = [], begin
    for first, last in [*sorted(busy), (end, end)]:
        if min(first, end) - at >= LEAST_NS:
            found.append((at, min(first, end)))
        at = max(at, last)
    return found


def longest_stall_ms(service: Exchanges, resting: Sequence[Stretch]) -> float | None:
    """The longest wait for an answer in any stretch, less the median wait of that stretch, in ms."""
    return _longest(_stall_ms(service, *stretch) for stretch in resting)


def longest_gap_ms(arrived_ns: Column, resting: Sequence[Stretch]) -> float | None:
    """The longest hole between arrivals in any stretch, less the usual one of that stretch, in ms."""
    heard_ns = arrived_ns[arrived_ns != LOST]
    return _longest(_gap_ms(heard_ns, *stretch) for stretch in resting)


def _longest(waits_ms: Iterable[float | None]) -> float | None:
    return max((wait for wait in waits_ms if wait is not None), default=None)


def _gap_ms(arrived_ns: Column, begin_ns: int, end_ns: int) -> float | None:
    inside = np.sort(arrived_ns[(arrived_ns >= begin_ns) & (arrived_ns <= end_ns)])
    if len(inside) < 3:
        return None
    holes = np.diff(inside)
    return max(0.0, (float(holes.max()) - usual_hole_ns(holes)) / MS)


def _stall_ms(service: Exchanges, begin_ns: int, end_ns: int) -> float | None:
    inside = (service.sent_ns >= begin_ns) & (service.received_ns != LOST) & (service.received_ns <= end_ns)
    if inside.sum() < 3:
        return None
    waits = (service.received_ns - service.sent_ns)[inside]
    return float(waits.max() - np.median(waits)) / MS


def rates(
    workload: Mapping[str, object],
    probes: Mapping[str, object],
    load: Sequence[LoadReading],
    migrations: Sequence[Migration],
    resting: Sequence[Stretch],
    ticks: Ticks,
    echo: Exchanges,
) -> list[Rate]:
    """What was asked of the workload and of the probes, and what came of it."""
    sent = np.column_stack([ticks.received_ns, ticks.sequence])[np.argsort(ticks.received_ns, kind="stable")]
    asked = np.column_stack([echo.sent_ns, echo.sequence])
    moves = [(migration.started_ns, migration.ended_ns) for migration in migrations]
    return [
        *rates_of_work(workload, load, moves, resting),
        *_rate("ticks", "/s", probes.get("ticks per s"), sent, moves, resting),
        *_rate("echoes", "/s", probes.get("echoes per s"), asked, moves, resting),
    ]


def rates_of_work(
    workload: Mapping[str, object], load: Sequence[LoadReading], moves: Sequence[Stretch], resting: Sequence[Stretch]
) -> list[Rate]:
    """What was asked of the workload (as ``Workload.described``), and what came of it."""
    written = [(r.time_ns, r.memory_bytes) for r in load if r.memory_bytes is not None]
    acknowledged = [(r.time_ns, r.disk_writes) for r in load if r.disk_writes is not None]
    memory, disk = workload.get("write_rate_bytes_per_s"), workload.get("disk_writes_per_s")
    return [
        *_rate("memory writes", "bytes/s", memory, np.array(written, np.int64), moves, resting),
        *_rate("disk writes", "/s", disk, np.array(acknowledged, np.int64), moves, resting),
    ]


def _rate(
    name: str,
    unit: Literal["bytes/s", "/s"],
    wanted: object,
    counts: _Counts,
    moves: Sequence[Stretch],
    resting: Sequence[Stretch],
) -> list[Rate]:
    """One rate, or none where nothing was counted."""
    if len(counts) < 2:
        return []
    requested = float(wanted) if isinstance(wanted, int | float) and wanted > 0 else None
    moving = [_per_s(counts, [move]) for move in moves]
    return [Rate(name=name, unit=unit, requested=requested, at_rest=_per_s(counts, resting), moving=moving)]


def _per_s(counts: _Counts, spans: Sequence[Stretch]) -> float | None:
    """The mean rate over those *spans* that the counts cover, a constant one assumed between two of them."""
    time_ns, count = counts[:, 0] - counts[0, 0], counts[:, 1]
    edges = [(a - counts[0, 0], b - counts[0, 0]) for a, b in spans]
    covered = np.array([(max(a, 0), min(b, time_ns[-1])) for a, b in edges if a < time_ns[-1] and b > 0 and b > a])
    if not len(covered):
        return None
    done = np.interp(covered[:, 1], time_ns, count) - np.interp(covered[:, 0], time_ns, count)
    return float(done.sum()) / (float((covered[:, 1] - covered[:, 0]).sum()) / 1e9)


def short(rate: Rate) -> bool:
    """Whether less came, while the guest did not move, than was asked for."""
    return rate.requested is not None and rate.at_rest is not None and rate.at_rest < SHORT * rate.requested


def name_of(rate: Rate) -> str:
    """The name at the beginning of a sentence."""
    return f"{rate.name[:1].upper()}{rate.name[1:]}"


def worded(rate: Rate, value: float | None) -> str:
    """A value of *rate* with its unit; a dash for no reading."""
    if value is None:
        return "-"
    return format_bytes_per_s(value, digits=3) if rate.unit == "bytes/s" else f"{format_number(value)}/s"


def shortfall(rate: Rate) -> str:
    """``Memory writes: 200 MiB/s asked for, 154 MiB/s reached at rest``."""
    return f"{name_of(rate)}: {worded(rate, rate.requested)} asked for, {worded(rate, rate.at_rest)} reached at rest"
