"""A summary as tables of text: plain rows that a terminal, a report or a CSV file can show."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from limosa.results import figures
from limosa.results.format import MigrationSummary, Pause, Summary
from limosa.results.metrics import BY_KEY, CLOCKS, METRICS, REFERENCE, Metric, Quantity, Reading
from limosa.results.remarks import looks_faster
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
    columns = ("", *(f"{row.index}: {row.source} → {row.target}" for row in moves))
    outcomes = ("outcome", *(row.outcome for row in moves))
    readings = ((metric.label, *(_told(metric, row) for row in moves)) for metric in METRICS)
    return Table("Migrations", columns, (outcomes, *readings))


def _told(metric: Metric, row: MigrationSummary) -> str:
    """A figure, and the share that it is of another where that tells anything of the move."""
    reading = metric.of(row)
    said = spelt(metric.quantity, reading)
    beside = BY_KEY[metric.share_of].of(row) if metric.share_of and not looks_faster(row) else None
    return f"{said} ({reading / beside:.0%})" if reading is not None and beside else said


def calibration_table(summary: Summary) -> Table:
    """Each clock's error (reading minus the time that the guest's own clock lost), the median over the pauses of one
    length. That loss is the reference: for so long no instruction of the guest ran, whatever QEMU's events say."""
    judged = [metric for metric, clock in CLOCKS if clock.of_pauses and metric is not REFERENCE]
    lengths = sorted({pause.requested_ms for pause in summary.pauses})
    rows = []
    for length_ms in lengths:
        pauses = [pause for pause in summary.pauses if pause.requested_ms == length_ms]
        lost_ms = [lost for pause in pauses if (lost := REFERENCE.of(pause.clocks)) is not None]
        errors = [_error(pauses, metric) for metric in judged]
        rows.append(
            (f"{length_ms:g} ms", str(len(pauses)), f"{median(lost_ms):.1f} ms" if lost_ms else NO_READING, *errors)
        )
    names = (metric.label for metric in judged)
    return Table("Errors of the clocks", ("pause", "times", REFERENCE.label, *names), tuple(rows))


def rest_table(summary: Summary) -> Table:
    """The clients' clocks while the guest did not move: what a migration shows beyond it is the migration's."""
    found = summary.rest
    if found is None:
        return Table("At rest", (), ())
    shown = [metric for metric in METRICS if metric.at_rest]
    cells = tuple(spelt(metric.quantity, getattr(found, metric.key)) for metric in shown)
    names = ("", *(metric.label for metric in shown))
    return Table("At rest, the longest", names, ((f"in {found.length_s:.1f} s", *cells),))


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


def spelt(quantity: Quantity, reading: Reading) -> str:
    """A figure as a table of text has it; a dash for no reading."""
    return NO_READING if reading is None else figures.spelt(quantity, reading)


def milliseconds(value: float | None) -> str:
    """A pause as a table of text has it; a dash for no reading."""
    return NO_READING if value is None else figures.milliseconds(value)


def seconds(value: float | None) -> str:
    """A span of *value* ms as a table of text has it; a dash for no reading."""
    return NO_READING if value is None else figures.seconds(value)


def _error(pauses: list[Pause], metric: Metric) -> str:
    read = [(metric.of(pause.clocks), REFERENCE.of(pause.clocks)) for pause in pauses]
    errors_ms = [value - lost for value, lost in read if value is not None and lost is not None]
    return f"{median(errors_ms):+.2f} ms" if errors_ms else NO_READING
