"""Raw samples to the rows that are drawn: honest thinning, so that no gap and no spike disappears.

A long series is cut into bins, and each bin keeps its lowest, middle and highest value. Bins are fine around
migrations and pauses and coarse elsewhere. A series that is short enough is drawn sample by sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limosa.probes.pane import Silence, Speed, Trip, Value
from limosa.probes.probe import Probe
from limosa.report.data import RunData, Table

Floats = NDArray[np.float64]
Row = dict[str, Any]

COARSE_BINS = 400
FINE_BINS = 1600
"""Shared by all windows; with five series the page stays under about 2 MB."""
RAW_LIMIT = 1200
FINEST_BIN_S = 0.001
BREAK_FACTOR = 2.5
"""A line is not drawn across a hole this many times wider than the usual distance between its points."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the time axis, in seconds since the run began."""

    start: float
    end: float
    kind: str
    """migration, blackout or pause"""
    label: str = ""


def spans(data: RunData) -> list[Span]:
    """What is shaded: migrations and pauses, and the blackouts in them."""
    found = []
    for migration in data.migrations:
        label = f"{migration.index}: {migration.source} → {migration.target}"
        found.append(Span(data.seconds(migration.started_ns), data.seconds(migration.ended_ns), "migration", label))
        if migration.blackout is not None:
            stop_s, resume_s = map(data.seconds, migration.blackout)
            found.append(Span(stop_s, resume_s, "blackout", label))
    for pause in data.summary.pauses:
        label = f"{pause.requested_ms:g} ms"
        found.append(Span(data.seconds(pause.stop_ns), data.seconds(pause.resume_ns), "pause", label))
    return found


def edges(shaded: list[Span], start: float, end: float) -> Floats:
    """The limits of the bins between *start* and *end*, in seconds: fine around what is shaded."""
    parts = [np.linspace(start, end, COARSE_BINS + 1)]
    windows = [(span.start - 0.25, span.end + 0.5) for span in shaded]
    for low, high in windows:
        count = max(40, FINE_BINS // len(windows))
        step = max((high - low) / count, FINEST_BIN_S)
        parts.append(np.arange(low, high, step))
    merged = np.unique(np.concatenate(parts))
    merged = merged[(merged >= start) & (merged <= end)]
    # Two grids laid over each other leave slivers; a bin narrower than the finest is joined to its neighbour.
    wide_enough = np.concatenate([[True], np.diff(merged) >= FINEST_BIN_S / 2])
    return np.append(merged[wide_enough], end + 1e-9)


def envelope(time: Floats, value: Floats, limits: Floats) -> list[Row]:
    """Rows of t, low, middle, high per bin that has samples; *time* sorted. Short series stay as they are."""
    known = np.isfinite(value)
    time, value = time[known], value[known]
    if len(time) <= RAW_LIMIT:
        return _segmented([_row(t, v, v, v) for t, v in zip(time, value, strict=True)])
    place = np.searchsorted(limits, time, side="right")
    order = np.lexsort((value, place))
    place, value = place[order], value[order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    last = np.append(first[1:], len(place)) - 1
    centre = np.add.reduceat(time[order], first) / (last - first + 1)
    rows = [_row(t, value[a], value[(a + b) // 2], value[b]) for t, a, b in zip(centre, first, last, strict=True)]
    return _segmented(rows)


def _row(time: float, low: float, middle: float, high: float) -> Row:
    return {
        "t": round(float(time), 5),
        "low": _short(low),
        "middle": _short(middle),
        "high": _short(high),
    }


def _short(value: float) -> float:
    """Five significant digits: more cannot be seen, and they would double the page."""
    return float(f"{value:.5g}")


def _segmented(rows: list[Row]) -> list[Row]:
    """Number the stretches without a hole, so that no line is drawn where nothing was measured."""
    times = np.array([row["t"] for row in rows])
    if len(times) < 3:
        return [{**row, "segment": 0} for row in rows]
    steps = np.diff(times)
    # The usual distance differs between fine and coarse bins, so it is taken from the neighbourhood.
    usual = np.array([np.median(steps[max(0, i - 8) : i + 9]) for i in range(len(steps))])
    segment = np.concatenate([[0], np.cumsum(steps > np.maximum(usual * BREAK_FACTOR, 0.01))])
    return [{**row, "segment": int(number)} for row, number in zip(rows, segment, strict=True)]


def drawn(
    probe: Probe[Any], samples: Mapping[str, Table], clock: GuestClock | None, started_ns: int, limits: Floats
) -> dict[str, list[Row]]:
    """The rows of what a probe's series draw: under the probe's name, and of what was not answered under another.

    *clock* places the guest's clock; None: it cannot be placed, and nothing that is by the guest's clock is drawn.
    """
    table, found = samples[probe.name], dict[str, list[Row]]()
    for series in probe.series:
        match series:
            case Silence():
                found[probe.name] = silence(table[series.arrived], started_ns, limits)
            case Trip():
                sent, received = table[series.sent], table[series.received]
                found[probe.name] = round_trips(sent, received, started_ns, limits)
                found[unanswered_name(probe)] = unanswered(sent, received, started_ns)
            case Speed():
                done, took, guest = table[series.done], table[series.took], table[series.guest_clock]
                found[probe.name] = speed(done, took, None if clock is None else clock.place(guest, started_ns), limits)
    values = [series for series in probe.series if isinstance(series, Value)]
    if values and probe.moment is not None:
        found[probe.name] = _thinned(looks(table, values, table[probe.moment], started_ns), values[0].field)
    return found


def unanswered_name(probe: Probe[Any]) -> str:
    """Where the rows are of a probe's questions without an answer."""
    return f"{probe.name}-unanswered"


def silence(received: NDArray[Any], started_ns: int, limits: Floats) -> list[Row]:
    """For each bin, the longest silence under way in it: t (the bin's start), high in ms.

    The silence at a moment is the distance between the arrivals just before and just after it.
    """
    received = np.sort(received[received >= 0])
    if len(received) < 2:
        return []
    time = (received - started_ns) / 1e9
    gap_ms = np.append(np.diff(received) / 1e6, 0.0)
    low = np.searchsorted(time, limits[:-1], side="right") - 1
    high = np.searchsorted(time, limits[1:], side="left")
    inside = (limits[1:] > time[0]) & (limits[:-1] < time[-1])
    low, high = np.clip(low[inside], 0, len(gap_ms) - 2), np.clip(high[inside], 1, len(gap_ms) - 1)
    pairs = np.column_stack([low, np.maximum(high, low + 1)]).ravel()
    longest = np.maximum.reduceat(gap_ms, pairs)[::2]
    return [
        {"t": round(float(t), 5), "high": _short(max(g, 0.01))}
        for t, g in zip(limits[:-1][inside], longest, strict=True)
    ]


def round_trips(sent: NDArray[Any], received: NDArray[Any], started_ns: int, limits: Floats) -> list[Row]:
    """Round trips in ms by the time of sending; unanswered ones are not in it, see ``unanswered``."""
    answered = received >= 0
    sent, received = sent[answered], received[answered]
    order = np.argsort(sent, kind="stable")
    time = (sent[order] - started_ns) / 1e9
    return envelope(time, np.maximum((received - sent)[order] / 1e6, 0.001), limits)


def unanswered(sent: NDArray[Any], received: NDArray[Any], started_ns: int) -> list[Row]:
    """When something was sent that never got an answer; at most 400 marks, spread evenly."""
    times = (sent[received < 0] - started_ns) / 1e9
    if len(times) > 400:
        times = times[np.linspace(0, len(times) - 1, 400).astype(int)]
    return [{"t": round(float(t), 5)} for t in times]


class GuestClock:
    """The guest's CLOCK_MONOTONIC, placed on ours by pairs of both: moments in ns, in any order."""

    def __init__(self, guest: NDArray[Any], ours: NDArray[Any]) -> None:
        order = np.argsort(guest, kind="stable")
        self._guest, self._ours = guest[order], ours[order]

    @classmethod
    def of(cls, samples: Mapping[str, Table], probes: Sequence[Probe[Any]]) -> GuestClock | None:
        """From the first probe whose rows pair the clocks; None: no rows of this run do."""
        for probe in probes:
            if probe.guest_clock is not None and probe.name in samples:
                guest, ours = (samples[probe.name][column] for column in probe.guest_clock)
                return cls(guest[ours >= 0], ours[ours >= 0]) if (ours >= 0).sum() >= 2 else None
        return None

    def place(self, guest: NDArray[Any], started_ns: int) -> Floats:
        """These moments in seconds since the run began; nan outside of what the pairs span."""
        base = int(self._guest[0])
        return np.interp(
            (guest - base).astype(np.float64),
            (self._guest - base).astype(np.float64),
            (self._ours - started_ns) / 1e9,
            left=np.nan,
            right=np.nan,
        )


def speed(done: NDArray[Any], took_ns: NDArray[Any], time: Floats | None, limits: Floats) -> list[Row]:
    """What was done per second. *time* is when, in seconds; without it: no rows."""
    if time is None:
        return []
    usable = np.isfinite(time) & (took_ns > 0)
    time, per_s = time[usable], done[usable] / took_ns[usable] * 1e9
    order = np.argsort(time, kind="stable")
    return envelope(time[order], per_s[order], limits)


def looks(table: Table, values: Sequence[Value], moments: NDArray[Any], started_ns: int) -> list[Row]:
    """A row a look, with each value in its field; None: not read. A line has one *stretch* throughout."""
    rows = []
    for i, time_ns in enumerate(moments):
        row: Row = {"t": round((int(time_ns) - started_ns) / 1e9, 5), "segment": int(table[values[0].stretch][i])}
        for value in values:
            row[value.field] = _read(table[value.column][i], value.scale)
        rows.append(row)
    return rows


def _read(cell: Any, scale: float) -> float | None:
    """A cell of a table to scale; nan, and -1 in a column of whole numbers, is what was not read."""
    if isinstance(cell, np.integer):
        return None if cell < 0 else _short(int(cell) / scale)
    return _short(float(cell) / scale) if np.isfinite(cell) else None


def _thinned(rows: list[Row], field: str, limit: int = 4000) -> list[Row]:
    """Of very many rows, keep the one with the lowest and the one with the highest *field* of each group."""
    if len(rows) <= limit:
        return rows
    size = -(-len(rows) // (limit // 2))
    kept = []
    for at in range(0, len(rows), size):
        group = rows[at : at + size]
        read = [row for row in group if row[field] is not None] or group[:1]
        extremes = {id(min(read, key=itemgetter(field))), id(max(read, key=itemgetter(field)))}
        kept += [row for row in group if id(row) in extremes]
    return kept
