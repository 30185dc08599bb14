"""A summary as tables of text: plain rows that a terminal, a report or a CSV file can show."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from limosa.results.format import MigrationSummary, Pause, Summary
from limosa.results.remarks import CLOCK_NAMES, looks_faster
from limosa.results.rest import name_of, worded

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
        "iterations": [NO_READING if row.iterations is None else str(row.iterations) for row in moves],
        **{name: [milliseconds(getattr(row.clocks, field)) for row in moves] for name, field in CLOCK_NAMES.items()},
        "longest wait": [milliseconds(row.longest_wait_ms) for row in moves],
        "time of day behind": [milliseconds(row.clock_behind_ms) for row in moves],
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


def rest_table(summary: Summary) -> Table:
    """The clients' clocks while the guest did not move: what a migration shows beyond it is the migration's."""
    found = summary.rest
    if found is None:
        return Table("At rest", (), ())
    names = {"longest wait": found.longest_wait_ms, "service stall": found.service_stall_ms}
    names |= {"echo gap": found.echo_gap_ms, "tick gap": found.tick_gap_ms}
    cells = tuple(milliseconds(value) for value in names.values())
    return Table("At rest, the longest", ("", *names), ((f"in {found.length_s:.1f} s", *cells),))


def rates_table(summary: Summary) -> Table:
    """What the guest and the probes were asked to do, and what came of it."""
    moves = [f"migration {row.index}" for row in summary.migrations]
    rows = tuple(
        (
            name_of(rate),
            "as fast as it goes" if rate.requested is None else worded(rate, rate.requested),
            worded(rate, rate.at_rest),
            *(worded(rate, value) for value in rate.moving),
        )
        for rate in summary.rates
    )
    return Table("Requested and reached", ("", "requested", "at rest", *moves), rows)


def checks_table(summary: Summary) -> Table:
    """What must have survived."""
    rows = tuple((check.name, "ok" if check.passed else "FAILED", check.detail) for check in summary.checks)
    return Table("Checks", ("check", "", "detail"), rows)


def tables(summary: Summary) -> list[Table]:
    """All tables that have rows to show."""
    shown = []
    if summary.migrations:
        shown.append(migrations_table(summary))
    shown += [table for table in (rest_table(summary), rates_table(summary)) if table.rows]
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


def mebibytes(size_bytes: int | None) -> str:
    """``123.4 MiB``; a dash for no reading."""
    return NO_READING if size_bytes is None else f"{size_bytes / 2**20:.1f} MiB"


def megabits(rate_bytes_per_s: float | None) -> str:
    """``940 Mbit/s``: links are told in bits; a dash for no reading."""
    return NO_READING if rate_bytes_per_s is None else f"{rate_bytes_per_s * 8 / 1e6:.0f} Mbit/s"


def speed(events_per_s: float | None, row: MigrationSummary | None = None) -> str:
    """``2334/s``; with *row*, the share of the speed before too, where that can tell anything of the move."""
    if events_per_s is None:
        return NO_READING
    before = row.cpu_before_events_per_s if row and not looks_faster(row) else None
    return f"{events_per_s:.0f}/s" + (f" ({events_per_s / before:.0%})" if before else "")


def _error(pauses: list[Pause], field: str) -> str:
    errors_ms = [
        getattr(pause.clocks, field) - pause.clocks.guest_lost_ms
        for pause in pauses
        if getattr(pause.clocks, field) is not None and pause.clocks.guest_lost_ms is not None
    ]
    return f"{median(errors_ms):+.2f} ms" if errors_ms else NO_READING
