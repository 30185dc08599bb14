"""Raw samples to the rows that are drawn: honest thinning, so that no gap and no spike disappears.

A long series is cut into bins, and each bin keeps its lowest, middle and highest value. Bins are fine around
migrations and pauses and coarse elsewhere. A series that is short enough is drawn sample by sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        if migration.stop_ns is not None and migration.resume_ns is not None:
            found.append(Span(data.seconds(migration.stop_ns), data.seconds(migration.resume_ns), "blackout", label))
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


def silence(ticks: Table, started_ns: int, limits: Floats) -> list[Row]:
    """For each bin, the longest silence under way in it: t (the bin's start), high in ms.

    The silence at a moment is the distance between the ticks received just before and just after it.
    """
    received = np.sort(ticks["received_ns"][ticks["received_ns"] >= 0])
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


def round_trips(table: Table, started_ns: int, limits: Floats) -> list[Row]:
    """Round trips in ms by the time of sending; unanswered ones are not in it, see ``unanswered``."""
    answered = table["received_ns"] >= 0
    sent, received = table["sent_ns"][answered], table["received_ns"][answered]
    order = np.argsort(sent, kind="stable")
    time = (sent[order] - started_ns) / 1e9
    return envelope(time, np.maximum((received - sent)[order] / 1e6, 0.001), limits)


def unanswered(table: Table, started_ns: int) -> list[Row]:
    """When something was sent that never got an answer; at most 400 marks, spread evenly."""
    times = (table["sent_ns"][table["received_ns"] < 0] - started_ns) / 1e9
    if len(times) > 400:
        times = times[np.linspace(0, len(times) - 1, 400).astype(int)]
    return [{"t": round(float(t), 5)} for t in times]


def cpu_speed(cpu: Table, ticks: Table | None, started_ns: int, limits: Floats) -> list[Row]:
    """Events per second of the guest's fixed loop. The guest's clock is placed on ours by its ticks.

    Without ticks the guest's clock cannot be placed: no rows.
    """
    if ticks is None:
        return []
    heard = ticks["received_ns"] >= 0
    guest, received = ticks["guest_monotonic_ns"][heard], ticks["received_ns"][heard]
    if len(guest) < 2:
        return []
    order = np.argsort(guest, kind="stable")
    base = int(guest[order[0]])
    time = np.interp(
        (cpu["guest_monotonic_ns"] - base).astype(np.float64),
        (guest[order] - base).astype(np.float64),
        (received[order] - started_ns) / 1e9,
        left=np.nan,
        right=np.nan,
    )
    usable = np.isfinite(time) & (cpu["duration_ns"] > 0)
    time, speed = time[usable], cpu["events"][usable] / cpu["duration_ns"][usable] * 1e9
    order = np.argsort(time, kind="stable")
    return envelope(time[order], speed[order], limits)


def progress(table: Table, started_ns: int) -> list[Row]:
    """Each look at query-migrate, in MiB and MiB/s; one segment a migration."""
    mib = 1024.0 * 1024.0
    names = {
        "remaining": "remaining_bytes",
        "dirty": "dirty_rate_bytes_per_s",
        "throughput": "throughput_bytes_per_s",
    }
    rows = []
    for i, time_ns in enumerate(table["time_ns"]):
        row: Row = {
            "t": round((int(time_ns) - started_ns) / 1e9, 5),
            "segment": int(table["migration"][i]),
            "status": str(table["status"][i]),
            "iteration": int(table["iteration"][i]) if table["iteration"][i] >= 0 else None,
        }
        for name, column in names.items():
            value = float(table[column][i]) / mib
            row[name] = _short(value) if np.isfinite(value) else None
        rows.append(row)
    return _thinned(rows)


def _thinned(rows: list[Row], limit: int = 4000) -> list[Row]:
    """Of a very long migration, keep the lowest and the highest of each group of rows."""
    if len(rows) <= limit:
        return rows
    size = -(-len(rows) // (limit // 2))
    kept = []
    for at in range(0, len(rows), size):
        group = rows[at : at + size]
        read = [row for row in group if row["remaining"] is not None] or group[:1]
        extremes = {id(min(read, key=_remaining)), id(max(read, key=_remaining))}
        kept += [row for row in group if id(row) in extremes]
    return kept


def _remaining(row: Row) -> float:
    return float(row["remaining"] or 0.0)
