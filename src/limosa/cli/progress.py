"""A look at a migration as one line of text."""

from __future__ import annotations

from limosa.events import MigrationProgressed
from limosa.units import format_bytes, format_bytes_per_s, format_duration


def progress_line(event: MigrationProgressed) -> str:
    """Remaining, throughput, dirty rate, iteration and expected end, in one line."""
    end = "not at these rates" if event.expected_end_s is None else f"in {format_duration(event.expected_end_s)}"
    return (
        f"{format_bytes(event.remaining_bytes)} of {format_bytes(event.total_bytes)} remain, "
        f"{format_bytes_per_s(event.throughput_bytes_per_s)}, "
        f"dirty {format_bytes_per_s(event.dirty_rate_bytes_per_s)}, "
        f"iteration {event.iteration}, end {end}"
    )
