"""What a run's directory holds, read: all that its summary is made of."""

from __future__ import annotations

from dataclasses import dataclass

from limosa.results import store
from limosa.results.format import Check, ClientReport, Environment, LoadReading, Migration, Pause, Run
from limosa.results.samples import Samples, read_cpu, read_exchanges, read_ticks
from limosa.results.store import RunDirectory


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
    samples: Samples


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
        samples=Samples(
            ticks=read_ticks(run.samples / "ticks.csv"),
            echo=read_exchanges(run.samples / "echo.csv"),
            service=read_exchanges(run.samples / "service.csv"),
            cpu=read_cpu(run.samples / "cpu.csv"),
        ),
    )
