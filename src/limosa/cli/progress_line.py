"""A look at a migration as one line of text, and where one is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from limosa.events import MigrationProgressed
from limosa.units import format_bytes, format_bytes_per_s, format_duration

if TYPE_CHECKING:
    from limosa.lab.status import MoveStatus


def progress_line(event: MigrationProgressed) -> str:
    """Remaining, throughput, dirty rate, iteration and expected end, in one line; what was not read is not in it."""
    if event.remaining_bytes is None or event.total_bytes is None:
        return f"{event.status}: QEMU has no figures yet" if event.status == "setup" else event.status
    parts = [f"{format_bytes(event.remaining_bytes)} of {format_bytes(event.total_bytes)} remain"]
    if event.throughput_bytes_per_s is not None:
        parts.append(format_bytes_per_s(event.throughput_bytes_per_s))
    if event.dirty_rate_bytes_per_s is not None:
        parts.append(f"dirty {format_bytes_per_s(event.dirty_rate_bytes_per_s)}")
    parts.append(f"iteration {event.iteration}")
    return ", ".join([*parts, *_end(event)])


def move_line(move: MoveStatus) -> str:
    """Where a migration is that another command makes, in one line."""
    since = format_duration(max(0.0, (time.time_ns() - move.since_ns) / 1e9))
    parts = (f"{move.source} → {move.target}", move.method, f"{move.phase} since {since}")
    figures = "" if move.look is None else f": {progress_line(move.look)}"
    return ", ".join(part for part in parts if part) + figures


def _end(event: MigrationProgressed) -> list[str]:
    if event.expected_end_s is not None:
        return [f"end in {format_duration(event.expected_end_s)}"]
    if event.converges is False:
        return ["no end in sight"]
    most_s = event.pass_end_at_most_s
    return [] if most_s is None else [f"this pass ends in at most {format_duration(most_s)}"]
