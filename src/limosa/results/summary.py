"""The summary of a run, derived from its raw data alone, so that it can be made again at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from limosa.errors import StateError
from limosa.results import rest
from limosa.results.clocks import (
    clock_offsets_ms,
    clocks_behind_ms,
    clocks_of_migrations,
    clocks_of_pauses,
    longest_wait_ms,
)
from limosa.results.cpu_speed import cpu_speed
from limosa.results.format import Clocks, Migration, MigrationSummary, Summary
from limosa.results.raw import RawRun, read_raw
from limosa.results.remarks import remarks
from limosa.results.single_copy import check_single_copy
from limosa.results.store import RunDirectory

BEFORE_NS = 10_000_000_000
"""CPU speed "before" a migration is that of at most this long before it, and after the migration before it."""


def summarise(run: RunDirectory) -> Summary:
    """Derive the summary; nothing is written. The clocks come from samples and STOP/RESUME, not from elsewhere."""
    raw = read_raw(run)
    if not raw.migrations and not raw.pauses and raw.run.status == "running":
        raise StateError(f"the run {run.id} has no migration yet", hint="wait until it has ended")
    clocks = clocks_of_migrations(raw.migrations, raw.ticks, raw.echo, raw.service)
    behind = clocks_behind_ms(raw.migrations, raw.ticks)
    migrations = [_migration_summary(raw, index, *read) for index, read in enumerate(zip(clocks, behind, strict=True))]
    pauses = [
        replace(pause, clocks=read)
        for pause, read in zip(raw.pauses, clocks_of_pauses(raw.pauses, raw.ticks, raw.echo, raw.service), strict=True)
    ]
    checks = list(raw.checks)
    copies = check_single_copy(raw.ticks)
    if copies is not None:
        checks = [check for check in checks if check.name != copies.name] + [copies]
    summary = Summary(
        migrations=migrations,
        pauses=pauses,
        checks=checks,
        clock_behind_ms=clock_offsets_ms(raw.ticks),
        **_at_rest(raw),
    )
    return replace(summary, remarks=remarks(raw, summary))


def _at_rest(raw: RawRun) -> dict[str, Any]:
    samples = (raw.ticks, raw.echo, raw.service)
    resting = rest.stretches(raw.migrations, raw.pauses, raw.load, *samples)
    noted = raw.environment
    workload, probes = (noted.workload, noted.probes) if noted else ({}, {})
    rates = rest.rates(workload, probes, raw.load, raw.migrations, resting, raw.ticks, raw.echo)
    return {"rest": rest.at_rest(resting, *samples), "rates": rates}


def figures_of_qemu(migration: Migration) -> dict[str, Any]:
    """The figures of a row that are QEMU's own; what it did not say is None."""
    ram = migration.qemu.get("ram") or {}
    # No migration takes 0 ms: QEMU 7.2 was seen to say "completed" before it had its figures.
    duration_ms = _number(migration.qemu, "total-time") or None
    transferred_bytes, iterations = _number(ram, "transferred"), _number(ram, "dirty-sync-count")
    known = duration_ms is not None and transferred_bytes is not None
    return {
        "duration_ms": duration_ms,
        "transferred_bytes": None if transferred_bytes is None else int(transferred_bytes),
        "throughput_bytes_per_s": (transferred_bytes or 0) / (duration_ms or 1) * 1000 if known else None,
        "iterations": None if iterations is None else int(iterations),
    }


def _migration_summary(raw: RawRun, place: int, clocks: Clocks, behind_ms: float | None) -> MigrationSummary:
    migration = raw.migrations[place]
    previous_ns = raw.migrations[place - 1].ended_ns if place else 0
    before_ns = max(previous_ns, migration.started_ns - BEFORE_NS)
    # The usual wait that is taken off may differ between the two, and the longest is no shorter than a part of it.
    waits = (longest_wait_ms(migration, raw.ticks, raw.echo, raw.service), clocks.service_stall_ms)
    return MigrationSummary(
        index=migration.index,
        source=migration.source,
        target=migration.target,
        outcome=migration.outcome,
        command_ms=(migration.ended_ns - migration.started_ns) / 1e6,
        clocks=clocks,
        clock_behind_ms=behind_ms,
        **figures_of_qemu(migration),
        cpu_before_events_per_s=cpu_speed(raw.cpu, raw.ticks, before_ns, migration.started_ns),
        cpu_during_events_per_s=cpu_speed(raw.cpu, raw.ticks, migration.started_ns, migration.ended_ns),
        longest_wait_ms=max((wait for wait in waits if wait is not None), default=None),
    )


def _number(container: Mapping[str, Any], key: str) -> float | None:
    value = container.get(key)
    return float(value) if isinstance(value, int | float) else None
