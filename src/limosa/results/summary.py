"""The summary of a run, derived from its raw data alone by the rows of ``metrics``, so that it can be made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from limosa.errors import StateError
from limosa.results import rest
from limosa.results.archive import is_written
from limosa.results.clocks import clock_offsets_ms
from limosa.results.format import Clocks, Migration, MigrationSummary, Rest, Summary
from limosa.results.metrics import CLOCKS, METRICS
from limosa.results.observation import Observation, observed_moves, observed_pauses
from limosa.results.raw import RawRun, Reader
from limosa.results.remarks import remarks
from limosa.results.samples import Samples
from limosa.results.single_copy import check_single_copy
from limosa.results.store import RunDirectory


def summarise(run: RunDirectory) -> Summary:
    """Derive the summary; nothing is written. The clocks come from samples and STOP/RESUME, not from elsewhere."""
    raw = Reader(run).raw()
    if not raw.migrations and not raw.pauses and raw.run.status == "running" and is_written(run):
        raise StateError(f"the run {run.id} has no migration yet", hint="wait until it has ended")
    return summary_of(raw)


def summary_of(raw: RawRun) -> Summary:
    """The summary of what was read of a run."""
    observed = zip(raw.migrations, observed_moves(raw.migrations, raw.samples), strict=True)
    migrations = [_row(migration, one) for migration, one in observed]
    pauses = [
        replace(pause, clocks=clocks_of(one))
        for pause, one in zip(raw.pauses, observed_pauses(raw.pauses, raw.samples), strict=True)
    ]
    checks = list(raw.checks)
    copies = check_single_copy(raw.samples.ticks)
    if copies is not None:
        checks = [check for check in checks if check.name != copies.name] + [copies]
    summary = Summary(
        migrations=migrations,
        pauses=pauses,
        checks=checks,
        clock_behind_ms=clock_offsets_ms(raw.samples.ticks),
        **_at_rest(raw),
    )
    return replace(summary, remarks=remarks(raw, summary))


def _row(migration: Migration, observed: Observation) -> MigrationSummary:
    figures: dict[str, Any] = {m.key: m.derive(observed) for m in METRICS if not m.clock}
    return MigrationSummary(
        index=migration.index,
        source=migration.source,
        target=migration.target,
        outcome=migration.outcome,
        clocks=clocks_of(observed),
        **figures,
    )


def clocks_of(observed: Observation) -> Clocks:
    """All clocks of one move or pause."""
    return Clocks(**{metric.key: metric.derive(observed) for metric, _ in CLOCKS})


def _at_rest(raw: RawRun) -> dict[str, Any]:
    samples, noted = raw.samples, raw.environment
    resting = rest.stretches(raw.migrations, raw.pauses, raw.load, samples.ticks, samples.echo, samples.service)
    workload, probes = (noted.workload, noted.probes) if noted else ({}, {})
    rates = rest.rates(workload, probes, raw.load, raw.migrations, resting, samples.ticks, samples.echo)
    return {"rest": at_rest(resting, samples), "rates": rates}


def at_rest(resting: Sequence[rest.Stretch], samples: Samples) -> Rest | None:
    """The longest waits in *resting*, by the formulas of a migration's; None without a stretch."""
    if not resting:
        return None
    waits: dict[str, Any] = {m.key: m.at_rest(samples, resting) for m in METRICS if m.at_rest}
    return Rest(length_s=sum(b - a for a, b in resting) / 1e9, **waits)
