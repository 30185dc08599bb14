"""A summary as tables of text: plain rows that a terminal, a report or a CSV file can show."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from limosa.results.format import MigrationSummary, Pause, Summary
from limosa.results.summary import CLOCK_NAMES

NO_READING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """``rows`` are as long as ``columns``; the first column holds names, the others are to be aligned right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def migrations_table(summary: Summary) -> Table:
    """One column a migration: a migration has more figures than a terminal has columns."""
    moves = summary.migrations
    figures = {
        "outcome": [row.outcome for row in moves],
        "QEMU total": [milliseconds(row.duration_ms) for row in moves],
        "whole command": [milliseconds(row.command_ms) for row in moves],
        "transferred": [mebibytes(row.transferred_bytes) for row in moves],
        "throughput": [megabits(row.throughput_bytes_per_s) for row in moves],
        "iterations": [str(row.iterations) for row in moves],
        **{name: [milliseconds(getattr(row.clocks, field)) for row in moves] for name, field in CLOCK_NAMES.items()},
        "longest wait": [milliseconds(row.longest_wait_ms) for row in moves],
        "CPU before": [speed(row.cpu_before_events_per_s) for row in moves],
        "CPU during": [speed(row.cpu_during_events_per_s, row) for row in moves],
    }
    columns = ("", *(f"{row.index}: {row.source} → {row.target}" for row in moves))
    return Table("Migrations", columns, tuple((name, *cells) for name, cells in figures.items()))


def calibration_table(summary: Summary) -> Table:
    """Each clock's error (reading minus the time that the guest's own clock lost), the median over the pauses of one
    length. That loss is the reference: for so long no instruction of the guest ran, whatever QEMU's events say."""
    names = {name: field for name, field in CLOCK_NAMES.items() if field not in ("qemu_downtime_ms", "guest_lost_ms")}
    lengths = sorted({pause.requested_ms for pause in summary.pauses})
    rows = []
    for length_ms in lengths:
        pauses = [pause for pause in summary.pauses if pause.requested_ms == length_ms]
        lost_ms = [pause.clocks.guest_lost_ms for pause in pauses if pause.clocks.guest_lost_ms is not None]
        errors = [_error(pauses, field) for field in names.values()]
        rows.append(
            (f"{length_ms:g} ms", str(len(pauses)), milliseconds(median(lost_ms)) if lost_ms else NO_READING, *errors)
        )
    return Table("Errors of the clocks", ("pause", "times", "guest lost", *names), tuple(rows))


def checks_table(summary: Summary) -> Table:
    """What must have survived."""
    rows = tuple((check.name, "ok" if check.passed else "FAILED", check.detail) for check in summary.checks)
    return Table("Checks", ("check", "", "detail"), rows)


def tables(summary: Summary) -> list[Table]:
    """All tables that have rows to show."""
    shown = []
    if summary.migrations:
        shown.append(migrations_table(summary))
    if summary.pauses:
        shown.append(calibration_table(summary))
    if summary.checks:
        shown.append(checks_table(summary))
    return shown


def milliseconds(value: float | None) -> str:
    """``12.3 ms``, ``4.56 s`` from ten seconds on; a dash for no reading."""
    if value is None:
        return NO_READING
    return f"{value / 1000:.2f} s" if value >= 10_000 else f"{value:.1f} ms"


def mebibytes(size_bytes: int) -> str:
    """``123.4 MiB``."""
    return f"{size_bytes / 2**20:.1f} MiB"


def megabits(rate_bytes_per_s: float) -> str:
    """``940 Mbit/s``: links are told in bits."""
    return f"{rate_bytes_per_s * 8 / 1e6:.0f} Mbit/s"


def speed(events_per_s: float | None, row: MigrationSummary | None = None) -> str:
    """``2334/s``; with *row*, the share of the speed before too."""
    if events_per_s is None:
        return NO_READING
    before = row.cpu_before_events_per_s if row else None
    return f"{events_per_s:.0f}/s" + (f" ({events_per_s / before:.0%})" if before else "")


def _error(pauses: list[Pause], field: str) -> str:
    errors_ms = [
        getattr(pause.clocks, field) - pause.clocks.guest_lost_ms
        for pause in pauses
        if getattr(pause.clocks, field) is not None and pause.clocks.guest_lost_ms is not None
    ]
    return f"{median(errors_ms):+.2f} ms" if errors_ms else NO_READING
