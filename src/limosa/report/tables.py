"""The run's tables as CSV, one row a thing, full precision, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io

from limosa.report.data import RunData
from limosa.results.metrics import CLOCKS, METRICS, Metric

_IDENTITY = ("index", "source", "target", "outcome")


def tables(data: RunData) -> dict[str, str]:
    """The tables by file name; each has its header even when it has no row."""
    figures = [metric for metric in METRICS if not metric.clock]  # the clocks have a table of their own
    errors = {m.index: m.error for m in data.migrations}
    migrations = [
        [*(getattr(row, column) for column in _IDENTITY), *(m.of(row) for m in figures), errors.get(row.index, "")]
        for row in data.summary.migrations
    ]
    readings: list[list[object]] = []
    for row in data.summary.migrations:
        readings += [["migration", row.index, "", _clock(metric), metric.of(row)] for metric, _ in CLOCKS]
    for number, pause in enumerate(data.summary.pauses, 1):
        asked_ms = pause.requested_ms
        readings += [["pause", number, asked_ms, _clock(metric), metric.of(pause.clocks)] for metric, _ in CLOCKS]
    if data.summary.rest is not None:
        at_rest = [metric for metric in reversed(METRICS) if metric.at_rest]
        readings += [["rest", "", "", _clock(metric), getattr(data.summary.rest, metric.key)] for metric in at_rest]
    rates: list[list[object]] = [
        [rate.name, rate.unit, rate.requested, number or "rest", value]
        for rate in data.summary.rates
        for number, value in enumerate([rate.at_rest, *rate.moving])
    ]
    checks: list[list[object]] = [
        [check.name, str(check.passed).lower(), check.detail] for check in data.summary.checks
    ]
    samples: list[list[object]] = [
        [
            str((data.path / "samples" / f"{name}.csv").resolve()),
            len(next(iter(table.values()))),
            " ".join(table),
        ]
        for name, table in data.samples.items()
    ]
    return {
        "migrations.csv": _csv([*_IDENTITY, *(metric.key for metric in figures), "error"], migrations),
        "clocks.csv": _csv(["of", "index", "requested_ms", "clock", "reading_ms"], readings),
        "rates.csv": _csv(["name", "unit", "requested", "of", "reached"], rates),
        "checks.csv": _csv(["name", "passed", "detail"], checks),
        "samples.csv": _csv(["file", "rows", "columns"], samples),
    }


def _clock(metric: Metric) -> str:
    """A clock's name in a table whose one column has the unit."""
    return metric.key.removesuffix(f"_{metric.unit}")


def _csv(head: list[str], rows: list[list[object]]) -> str:
    """Empty cells stand for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
