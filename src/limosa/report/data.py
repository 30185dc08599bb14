"""What a report is made from: a run's directory, whole or damaged. What cannot be read is left out and said."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from limosa import events
from limosa.probes import registry
from limosa.results import format as run_format
from limosa.results import store
from limosa.results.raw import Reader
from limosa.results.samples import Table, has_rows
from limosa.results.store import RunDirectory
from limosa.results.summary import summary_of

__all__ = ["RunData", "Table", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """All that the report is made from."""

    path: Path
    run: run_format.Run
    environment: run_format.Environment | None
    migrations: list[run_format.Migration]
    summary: run_format.Summary
    events: list[events.Event]
    samples: dict[str, Table]
    """By file name without ``.csv``; a missing or empty file is not in it."""
    complaints: list[str] = field(default_factory=list)
    """What could not be read, one sentence each."""

    def seconds(self, time_ns: int) -> float:
        """*time_ns* as seconds since the run began, the time axis of every plot."""
        return (time_ns - self.run.started_ns) / 1e9


def load(path: Path) -> RunData:
    """Read the run directory at *path*.

    Raises StateError when there is no run.json of a known format, LimosaError when that is damaged.
    """
    reader = Reader(RunDirectory.open(path), forgiving=True)
    raw = reader.raw()
    for probe in registry.PROBES:
        if raw.migrations or not probe.of_migrations:
            reader.table(probe.name)
    summary = reader.usual(store.SUMMARY)
    if summary is None:
        reader.complaints.append("The figures are derived anew, because there is no summary.")
        summary = summary_of(raw)
    return RunData(
        path=path,
        run=raw.run,
        environment=raw.environment,
        migrations=raw.migrations,
        summary=summary,
        events=reader.events(),
        samples={name: table for name, table in reader.tables.items() if has_rows(table)},
        complaints=reader.complaints,
    )
