"""The summary of a run, derived from its raw data alone, so that it can be made again at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limosa.errors import StateError
from limosa.results import rest, store
from limosa.results.clocks import (
    WRONG_RATE,
    clock_offsets_ms,
    clock_rate,
    clocks_behind_ms,
    clocks_of_migrations,
    clocks_of_pauses,
    longest_wait_ms,
)
from limosa.results.format import (
    Check,
    ClientReport,
    Clocks,
    Environment,
    LoadReading,
    Migration,
    MigrationSummary,
    Pause,
    Rate,
    Run,
    Summary,
)
from limosa.results.samples import CpuSamples, Exchanges, Ticks, read_cpu, read_exchanges, read_ticks
from limosa.results.single_copy import check_single_copy
from limosa.results.store import RunDirectory

BEFORE_NS = 10_000_000_000
"""CPU speed "before" a migration is that of at most this long before it, and after the migration before it."""
BUSY_STEAL = 0.05
BUSY_LOAD_PER_CPU = 1.5
SLOW_FIRST = 2.0
"""The first migration is remarked upon when it took this many times the median of the others."""
BEHIND_MS = 1.0
"""A guest's time of day that fell behind by less is within what the clocks tell."""


@dataclass(frozen=True, slots=True)
class RawRun:
    """All that the summary is made of."""

    run: Run
    environment: Environment | None
    migrations: list[Migration]
    pauses: list[Pause]
    load: list[LoadReading]
    checks: list[Check]
    client: ClientReport | None
    ticks: Ticks
    echo: Exchanges
    service: Exchanges
    cpu: CpuSamples


def read_raw(run: RunDirectory) -> RawRun:
    """Read everything. Parts that a run does not have are empty; raises LimosaError for a damaged file."""
    return RawRun(
        run=run.read(store.RUN),
        environment=run.read(store.ENVIRONMENT) if run.has(store.ENVIRONMENT) else None,
        migrations=run.read_or(store.MIGRATIONS, []),
        pauses=run.read_or(store.PAUSES, []),
        load=run.read_or(store.LOAD, []),
        checks=run.read_or(store.CHECKS, []),
        client=run.read(store.CLIENT) if run.has(store.CLIENT) else None,
        ticks=read_ticks(run.samples / "ticks.csv"),
        echo=read_exchanges(run.samples / "echo.csv"),
        service=read_exchanges(run.samples / "service.csv"),
        cpu=read_cpu(run.samples / "cpu.csv"),
    )


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


def cpu_speed(cpu: CpuSamples, ticks: Ticks, begin_ns: int, end_ns: int) -> float | None:
    """Events per second of the loop inside the guest, of turns that ended between two moments of the client's clock.

    Durations are the guest's own, so a pause within a turn does not slow it. None without turns.
    """
    if not len(cpu) or not len(ticks):
        return None
    ended_ns = client_time_ns(ticks, cpu.guest_monotonic_ns + cpu.duration_ns)
    chosen = (ended_ns >= begin_ns) & (ended_ns < end_ns)
    duration_ns = int(cpu.duration_ns[chosen].sum())
    return float(cpu.events[chosen].sum()) * 1e9 / duration_ns if duration_ns > 0 else None


def client_time_ns(ticks: Ticks, guest_monotonic_ns: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
    """When, on the client's clock, the guest's clock read this: by the offset of the nearest earlier tick.

    Before the first tick, by that tick's offset. Exact to a tick's delay on the way, a fraction of a millisecond.
    """
    order = np.argsort(ticks.guest_monotonic_ns, kind="stable")
    guest_ns, arrived_ns = ticks.guest_monotonic_ns[order], ticks.received_ns[order]
    nearest = np.clip(np.searchsorted(guest_ns, guest_monotonic_ns, side="right") - 1, 0, len(guest_ns) - 1)
    return arrived_ns[nearest] + (guest_monotonic_ns - guest_ns[nearest])


def remarks(raw: RawRun, summary: Summary) -> list[str]:
    """What a careful reader should know, one sentence each."""
    said = [f"The run is incomplete: {sentence}." for sentence in raw.run.incomplete]
    said += _about_environment(raw.environment)
    if raw.pauses and raw.environment and not raw.environment.cpus_awake:
        said.append("The CPUs were let sleep (only root may keep them awake): their waking is in the errors.")
    said += _about_probes(raw)
    said += _about_rates(summary.rates)
    said += _about_migrations(summary.migrations)
    said += _about_time_of_day(summary)
    return said


def _about_environment(environment: Environment | None) -> list[str]:
    if environment is None:
        return ["The environment was not recorded, so this result cannot be compared with others."]
    said = []
    if environment.accel == "tcg":
        said.append(
            "The guest ran under TCG (emulation), where CPU speed and times are far from those under KVM:"
            f" {environment.accel_reason or 'no reason recorded'}."
        )
    cpus = max((host.cpus for host in environment.hosts.values()), default=1)
    # The lab's own QEMUs load the machine too; only the load before them is another's doing.
    load = environment.load_average_before
    if load > BUSY_LOAD_PER_CPU * cpus:
        said.append(f"The machine was busy before the run began: load average {load:.1f} on {cpus} CPUs.")
    if environment.steal_share is not None and environment.steal_share > BUSY_STEAL:
        said.append(f"The hypervisor below took {environment.steal_share:.0%} of the CPU time: times vary with it.")
    if environment.governor not in ("", "performance"):
        said.append(f"The CPU frequency governor is {environment.governor}: speed varies with load.")
    return said


def _about_probes(raw: RawRun) -> list[str]:
    if raw.client is None:
        return ["No client probed the guest: the clients' clocks have no reading."]
    said = []
    client = raw.client
    on = {"ticks": client.tick, "echoes": client.echo, "a TCP service": client.service}
    names = [name for name, probe in on.items() if probe is not None]
    rate = clock_rate(raw.ticks)
    if rate is not None and abs(rate - 1) > WRONG_RATE:
        said.append(
            f"The guest's clock ran {rate:.2f} times as fast as the client's: its kernel measured the CPU's counter "
            "wrongly. Whatever the guest timed itself is wrong by that; stop and start the guest."
        )
    if names and raw.migrations:
        said.append(f"Probes were active ({', '.join(names)}): they can slow a migration on a small machine.")
    drops = sum(probe.kernel_drops for probe in on.values() if probe)
    if drops:
        said.append(f"The client's kernel dropped {drops} datagrams for want of buffer: gaps may be overstated.")
    if client.service and client.service.broken:
        said.append(f"The TCP connection broke {client.service.broken} times: {client.service.last_error}.")
    said += [f"Samples are missing: {probe.problem}." for probe in on.values() if probe and probe.problem]
    return said


def _about_migrations(migrations: list[MigrationSummary]) -> list[str]:
    said = []
    done = [row for row in migrations if row.outcome == "completed"]
    others = [row.duration_ms for row in done if row.index > 1 and row.duration_ms is not None]
    if done and done[0].index == 1 and done[0].duration_ms is not None and others:
        times = done[0].duration_ms / max(float(np.median(others)), 1e-9)
        if times >= SLOW_FIRST:
            said.append(
                f"The first move took {times:.1f} times as long as the others at the median: compare moves 2 and up."
            )
    said += _about_speed([row for row in migrations if looks_faster(row)])
    for row in migrations:
        if row.outcome != "completed":
            said.append(f"Migration {row.index} was {row.outcome}; its row shows what clients saw meanwhile.")
        clocks = row.clocks
        missing = [name for name, value in CLOCK_NAMES.items() if getattr(clocks, value) is None]
        if row.outcome == "completed" and missing:
            said.append(f"Migration {row.index} has no reading of {', '.join(missing)}.")
        if clocks.qemu_downtime_ms is not None and clocks.guest_lost_ms is not None:
            hidden_ms = clocks.guest_lost_ms - clocks.qemu_downtime_ms
            if hidden_ms > max(20.0, 0.5 * clocks.qemu_downtime_ms):
                said.append(
                    f"QEMU's downtime of migration {row.index} leaves out {hidden_ms:.0f} ms that the guest lost."
                )
    return said


def _about_rates(rates: list[Rate]) -> list[str]:
    """What was asked for and did not come: the result is that of what came."""
    return [f"{rest.shortfall(rate)}." for rate in rates if rest.short(rate)]


def _about_time_of_day(summary: Summary) -> list[str]:
    known = [(row.index, row.clock_behind_ms) for row in summary.migrations if row.clock_behind_ms is not None]
    if not any(behind_ms > BEHIND_MS for _, behind_ms in known):
        return []
    each = ", ".join(f"{behind_ms:.0f} ms in migration {index}" for index, behind_ms in known)
    text = f"The guest's time of day fell behind this machine's: by {each}. It stands still while the guest does"
    if summary.clock_behind_ms is not None:
        first_s, last_s = (offset / 1000 for offset in summary.clock_behind_ms)
        text += f"; it was {first_s:.2f} s behind when the run began, and {last_s:.2f} s when it ended"
    return [f"{text}. Limosa does not set it."]


def looks_faster(row: MigrationSummary) -> bool:
    """Whether the guest's CPU loop was no slower during the move than before: then its share tells nothing of it."""
    before, during = row.cpu_before_events_per_s, row.cpu_during_events_per_s
    return before is not None and during is not None and during > before


def _about_speed(rows: list[MigrationSummary]) -> list[str]:
    if not rows:
        return []
    numbers = [str(row.index) for row in rows]
    which, figure = f"migration {numbers[0]}", "That figure says"
    if len(numbers) > 1:
        which, figure = f"migrations {', '.join(numbers[:-1])} and {numbers[-1]}", "Those figures say"
    return [
        f"The guest's CPU loop ran faster during {which} than before. "
        "A move speeds nothing up: what differed was something else, such as a processor that a move keeps awake and "
        f"that sleeps between two turns of the loop at rest. {figure} nothing of the move; bench during-migration "
        "keeps the processor busy."
    ]


CLOCK_NAMES = {
    "QEMU downtime": "qemu_downtime_ms",
    "STOP to RESUME": "stop_resume_ms",
    "tick gap": "tick_gap_ms",
    "echo gap": "echo_gap_ms",
    "service stall": "service_stall_ms",
    "guest lost": "guest_lost_ms",
}
"""The clocks' names for people, in the order in which they are shown, and their fields."""
