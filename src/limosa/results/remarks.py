"""What a careful reader of a run should know: what disturbed it, what is missing, what a figure does not say."""

from __future__ import annotations

import numpy as np

from limosa.results import rest
from limosa.results.clocks import WRONG_RATE, clock_rate
from limosa.results.format import Environment, MigrationSummary, Rate, Summary
from limosa.results.metrics import CLOCKS
from limosa.results.raw import RawRun

BUSY_STEAL = 0.05
BUSY_LOAD_PER_CPU = 1.5
SLOW_FIRST = 2.0
"""The first migration is remarked upon when it took this many times the median of the others."""
BEHIND_MS = 1.0
"""A guest's time of day that fell behind by less is within what the clocks tell."""


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
    if load is not None and load > BUSY_LOAD_PER_CPU * cpus:
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
    on = {"ticks": client.of("ticks"), "echoes": client.of("echo"), "a TCP service": client.of("service")}
    names = [name for name, probe in on.items() if probe is not None]
    rate = clock_rate(raw.samples.ticks)
    if rate is not None and abs(rate - 1) > WRONG_RATE:
        said.append(
            f"The guest's clock ran {rate:.2f} times as fast as the client's: its kernel measured the CPU's counter "
            "wrongly. Whatever the guest timed itself is wrong by that; stop and start the guest."
        )
    if names and raw.migrations:
        said.append(f"Probes were active ({', '.join(names)}): they can slow a migration on a small machine.")
    drops = sum(probe.kernel_drops or 0 for probe in on.values() if probe)
    if drops:
        said.append(f"The client's kernel dropped {drops} datagrams for want of buffer: gaps may be overstated.")
    service = client.of("service")
    if service and service.broken:
        said.append(f"The TCP connection broke {service.broken} times: {service.last_error}.")
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
        exposed = row.exposure_ms is not None
        missing = [
            metric.label
            for metric, _ in CLOCKS
            if metric.of(row) is None and not (exposed and metric.key == "qemu_downtime_ms")
        ]
        if row.exposure_ms is not None:
            said.append(
                f"Migration {row.index} went over to post-copy: for {row.exposure_ms:.0f} ms the loss of either host"
                " would have cost the guest. QEMU's own downtime is not the pause then, and left out."
            )
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
