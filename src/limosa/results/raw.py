"""What a run's directory holds, read: the one reader of runs, for the summary and for the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from limosa.errors import LimosaError
from limosa.events import Event
from limosa.probes import registry
from limosa.probes.cpu_loop import CpuSamples
from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.results import store
from limosa.results.format import (
    Check,
    ClientReport,
    Environment,
    LoadReading,
    Migration,
    Pause,
    Run,
)
from limosa.results.samples import Samples, Table, damaged, has_rows, read_table
from limosa.results.store import Document, RunDirectory

T = TypeVar("T")


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


class Reader:
    """Reads one run. A damaged file raises LimosaError, or, *forgiving*, is left out with a complaint.

    Forgiving, it also complains of what a run usually has and this one has not. Only run.json has to be readable.
    """

    def __init__(self, run: RunDirectory, *, forgiving: bool = False) -> None:
        self.run = run
        self.forgiving = forgiving
        self.tables: dict[str, Table] = {}
        """Those that were read, by name."""
        self.complaints: list[str] = []
        """One sentence each, in the order of reading."""

    def raw(self) -> RawRun:
        """What the summary is made of; parts that a run does not have are empty."""
        return RawRun(
            run=self.run.read(store.RUN),
            environment=self.usual(store.ENVIRONMENT),
            migrations=self.usual(store.MIGRATIONS) or [],
            pauses=self.rare(store.PAUSES) or [],
            load=self.rare(store.LOAD) or [],
            checks=self.usual(store.CHECKS) or [],
            client=self.rare(store.CLIENT),
            samples=Samples(
                ticks=Ticks(*self.table("ticks").values()),
                echo=Exchanges(*self.table("echo").values()),
                service=Exchanges(*self.table("service").values()),
                cpu=CpuSamples(*self.table("cpu").values()),
            ),
        )

    def usual(self, document: Document[T]) -> T | None:
        """A file that a run usually has."""
        if self.forgiving and not self.run.has(document):
            self.complaints.append(f"{document.file} is missing.")
        return self.rare(document)

    def rare(self, document: Document[T]) -> T | None:
        """A file that some runs have."""
        if not self.run.has(document):
            return None
        try:
            return self.run.read(document)
        except LimosaError as error:
            if not self.forgiving:
                raise
            self.complaints.append(f"{document.file} cannot be read: {error.__cause__}.")
            return None

    def table(self, name: str) -> Table:
        """What the probe of this name wrote, by its columns; without rows where there is no such file."""
        if name in self.tables:
            return self.tables[name]
        columns = next(probe.columns for probe in registry.PROBES if probe.name == name)
        path, file = self.run.samples / f"{name}.csv", f"samples/{name}.csv"
        found = read_table(path, columns)
        if not self.forgiving and found.problem:
            raise damaged(path, found.problem)
        if found.missing:
            self.complaints.append(f"{file} is missing.")
        if found.torn:
            self.complaints.append(f"{file} ends in the middle of a line, which is left out.")
        if found.bad:
            self.complaints.append(f"{file} has {_lines(found.bad)} that cannot be read.")
        elif found.problem:
            self.complaints.append(f"{file} cannot be read: {found.problem}.")
        elif not found.missing and not has_rows(found.rows):
            self.complaints.append(f"{file} holds no sample.")
        self.tables[name] = found.rows
        return found.rows

    def events(self) -> list[Event]:
        """What happened; lines that cannot be read are left out."""
        try:
            found, bad = store.read_event_lines(self.run)
        except LimosaError:
            self.complaints.append("events.jsonl is missing, so the commands are not known.")
            return []
        if bad:
            self.complaints.append(f"events.jsonl has {_lines(bad)} that cannot be read.")
        return found


def _lines(count: int) -> str:
    return "a line" if count == 1 else f"{count} lines"
