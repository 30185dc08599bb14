"""Keeps a bench while it runs: every repetition is on the disk before the next begins, whatever happens then."""

from __future__ import annotations

import csv
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from limosa import paths
from limosa.bench.repetitions import SECONDS_COLUMNS, SECONDS_FILE, Bench, Repetition, append, write
from limosa.events import Events
from limosa.results import environment
from limosa.results.account import Finding
from limosa.results.kept_run import kept
from limosa.results.store import RunDirectory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Watched:
    """When something was done, and what this machine did meanwhile."""

    started_ns: int
    ended_ns: int
    busy_share: float | None
    steal_share: float | None


async def watched(work: Callable[[], Awaitable[T]]) -> tuple[T, Watched]:
    """Do *work* and look at the machine before and after."""
    before, started_ns = environment.read_cpu_times(), time.time_ns()
    done = await work()
    ended_ns, after = time.time_ns(), environment.read_cpu_times()
    busy, steal = environment.busy_share(before, after), environment.steal_share(before, after)
    return done, Watched(started_ns, ended_ns, busy, steal)


def unnumbered(
    subject: str,
    metric: str,
    seen: Watched,
    *,
    value: float,
    duration_s: float,
    total: float | None = None,
    seconds: Sequence[float] = (),
    facts: dict[str, Any] | None = None,
) -> Repetition:
    """A repetition whose number and place in the order are still to be set."""
    return Repetition(
        subject=subject,
        metric=metric,
        repetition=0,
        order=0,
        value=value,
        total=total,
        duration_s=duration_s,
        seconds=list(seconds),
        started_ns=seen.started_ns,
        ended_ns=seen.ended_ns,
        busy_share=seen.busy_share,
        steal_share=seen.steal_share,
        facts=facts or {},
    )


class Ledger:
    """One bench that is being measured. Made by ``recorded``."""

    def __init__(self, run: RunDirectory, bench: Bench) -> None:
        self.run, self.bench = run, bench

    def add(self, repetition: Repetition, raw: str) -> None:
        """Keep one repetition, and *raw*: what the measuring program printed. Raises MachineError when it cannot."""
        name = f"{repetition.subject}-{repetition.metric}-{repetition.repetition}"
        path = self.run.samples / SECONDS_FILE
        try:
            suffix = "json" if raw.startswith("{") else "txt"
            (self.run.samples / f"{name}.{suffix}").write_text(raw)
            fresh = not path.exists()
            with path.open("a", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([SECONDS_COLUMNS] if fresh else [])
                key = (repetition.subject, repetition.metric, repetition.repetition)
                writer.writerows((*key, second, value) for second, value in enumerate(repetition.seconds, start=1))
        except OSError as error:
            raise paths.cannot_write(error, path.parent) from error
        self.bench = replace(self.bench, repetitions=[*self.bench.repetitions, repetition])
        append(self.run, repetition)

    def change(self, subject: str, **fields: Any) -> None:
        """Change what is known of a subject."""
        changed = [replace(s, **fields) if s.name == subject else s for s in self.bench.subjects]
        self.bench = replace(self.bench, subjects=changed)
        self.save()

    def lost(self, subject: str, reason: str) -> None:
        """A subject died, or could not be measured: what it has so far is kept and marked."""
        kept = any(r.subject == subject and r.repetition for r in self.bench.repetitions)
        self.change(subject, status="partial" if kept else "failed", reason=reason)
        finding = Finding(rule="lost", severity="caution", subject=subject, text=f"{subject} was lost: {reason}.")
        self.bench = replace(self.bench, findings=[*self.bench.findings, finding])
        self.save()

    def save(self) -> None:
        """Replace bench.json."""
        write(self.run, self.bench)


def machine() -> dict[str, Any]:
    """What this machine is, for ``Bench.machine``; what it does not tell is not in it."""
    found = environment.read_machine()
    told = {
        "cpu_model": found.cpu_model,
        "cpus": found.cpus,
        "kernel": found.kernel,
        "governor": found.governor,
        "memory_bytes": found.memory_bytes,
        "load_average_before": environment.read_load_average(),
    }
    return {name: value for name, value in told.items() if value is not None}


@asynccontextmanager
async def recorded(bench: Bench, lab: str, events: Events) -> AsyncIterator[Ledger]:
    """A run directory for a bench; however it ends, what was measured so far is kept, and the run says how it ended."""
    run = RunDirectory.create(kind=bench.kind, lab=lab, guest="")
    ledger = Ledger(run, replace(bench, machine={**machine(), **bench.machine}))
    ledger.save()

    def lost() -> list[str]:
        return [f"{s.name}: {s.reason}" for s in ledger.bench.subjects if s.status in ("failed", "partial")]

    async with kept(run, events, lost, told=True):
        try:
            yield ledger
            ledger.bench = replace(ledger.bench, complete=True)
        finally:
            after = {"load_average_after": environment.read_load_average()}
            ledger.bench = replace(ledger.bench, machine={**ledger.bench.machine, **after})
            ledger.save()
