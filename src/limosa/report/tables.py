"""The run's tables as CSV, one row a thing, full precision, for spreadsheets and notebooks."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path

from limosa.report import clock_plots
from limosa.report.data import RunData
from limosa.results.format import MigrationSummary

_MIGRATION_COLUMNS = tuple(field.name for field in fields(MigrationSummary) if field.name != "clocks")
"""Every figure of a row; the clocks have a table of their own."""


def tables(data: RunData) -> dict[str, str]:
    """The tables by file name; each has its header even when it has no row."""
    errors = {m.index: m.error for m in data.migrations}
    migrations = [
        [*(getattr(row, column) for column in _MIGRATION_COLUMNS), errors.get(row.index, "")]
        for row in data.summary.migrations
    ]
    readings: list[list[object]] = []
    for row in data.summary.migrations:
        for name in clock_plots.CLOCKS:
            readings.append(
                ["migration", row.index, "", name.removesuffix("_ms"), clock_plots.reading(row.clocks, name)]
            )
    for number, pause in enumerate(data.summary.pauses, 1):
        for name in clock_plots.CLOCKS:
            value = clock_plots.reading(pause.clocks, name)
            readings.append(["pause", number, pause.requested_ms, name.removesuffix("_ms"), value])
    if data.summary.rest is not None:
        for name in ("service_stall", "echo_gap", "tick_gap", "longest_wait"):
            readings.append(["rest", "", "", name, getattr(data.summary.rest, f"{name}_ms")])
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
        "migrations.csv": _csv([*_MIGRATION_COLUMNS, "error"], migrations),
        "clocks.csv": _csv(["of", "index", "requested_ms", "clock", "reading_ms"], readings),
        "rates.csv": _csv(["name", "unit", "requested", "of", "reached"], rates),
        "checks.csv": _csv(["name", "passed", "detail"], checks),
        "samples.csv": _csv(["file", "rows", "columns"], samples),
    }


def _csv(head: list[str], rows: list[list[object]]) -> str:
    """Empty cells stand for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def write(data: RunData, directory: Path) -> list[Path]:
    """Write the tables into *directory*, which is made when it does not exist; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in tables(data).items():
        paths.append(directory / name)
        paths[-1].write_text(text, encoding="utf-8")
    return paths
