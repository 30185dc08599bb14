"""What a bench leaves behind: ``bench.json`` in a run directory of kind ``bench-cpu``, ``bench-network``, ...

::

    RUN/
      run.json, events.jsonl   as in every run (limosa.results.format)
      spec.json                resolved Lab, where one lab served the whole bench
      environment.json         Environment, where one guest was measured
      bench.json               Bench without its repetitions: subjects, settings, findings
      repetitions.jsonl        a Repetition a line, added as each ends
      samples/seconds.csv      subject,metric,repetition,second,value     per-second values of all repetitions
      samples/NAME.txt|json    what the measuring programs printed, untouched
      report.html, *.png       derived

Rule: nothing here is derived from anything else here. Medians, ratios and intervals are computed from the
repetitions by ``limosa.bench.comparison``, so that they can be computed again. A bench that was interrupted, and a
subject that died, keep what they had. Format 1 had the repetitions in bench.json; ``read`` reads both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from limosa import paths, untrusted
from limosa.errors import LimosaError
from limosa.results.account import Finding
from limosa.results.store import Document, RunDirectory

BENCH_VERSION = 2
REPETITIONS_FILE = "repetitions.jsonl"

SECONDS_FILE = "seconds.csv"
SECONDS_COLUMNS = ("subject", "metric", "repetition", "second", "value")


ROUNDING = 0.005
"""A second's events are printed as a rate, and the second is never exactly one: the sums may differ by this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure that is measured of every subject."""

    name: str
    """Stable, in tables of data: ``cpu-events``, ``tcp-to-guest``."""
    label: str
    """For people: ``prime search``, ``TCP, client to guest``."""
    unit: str
    """``events/s``, ``bit/s``, ``s``, ``IO/s``, ``bytes/s``, ``share``: what plots and tables show is derived."""
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing that is compared: where or with what the same work is done."""

    name: str
    """Stable: ``host``, ``guest-kvm``, ``guest-tcg``, ``virtio-net``, ``e1000``, ``sata-none``, ``precopy`` ..."""
    label: str
    """For people: ``guest with KVM``."""
    status: Literal["measured", "partial", "failed", "skipped"] = "measured"
    """``partial``: some repetitions are missing. ``skipped``: it cannot be had here."""
    reason: str = ""
    """Why it is not ``measured``, as one clause: what failed, or why it cannot be had on this machine."""
    accel: str = ""
    """``kvm`` or ``tcg`` for a guest, ``native`` for the host."""
    accel_reason: str = ""
    """The proof, or what went wrong with KVM."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files that did the work, by name, computed where they ran: ``sysbench``, ``libc.so.6``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Anything else a reader may want: CPU model, machine type, QEMU's version, kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """One value of one metric of one subject."""

    subject: str
    metric: str
    repetition: int
    """From 1. 0: the warm-up, kept and never counted."""
    order: int
    """The place in the bench's whole, randomised order, from 1."""
    value: float
    """In the metric's unit: for a rate, the total over the whole repetition divided by its duration."""
    total: float | None = None
    """What was counted in all, when ``value`` is a rate: events, bits, bytes, I/Os."""
    duration_s: float
    """How long the work took by the subject's own clock."""
    seconds: list[float] = field(default_factory=list)
    """What was counted in each second, in order; the last is what was left of the total. Their sum is ``total``.
    Without a total: the figure of each second."""
    started_ns: int
    """CLOCK_REALTIME of this machine, as all ``*_ns``."""
    ended_ns: int
    busy_share: float | None = None
    """Share of this machine's CPU time that was used meanwhile, the measured work and steal included, 0 to 1."""
    steal_share: float | None = None
    """Share that the hypervisor below this machine took, 0 to 1."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Other figures of this repetition: retransmissions, jitter, latency percentiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A figure from elsewhere, shown beside ours and never compared by a ratio."""

    subject: str
    metric: str
    value: float
    """In the metric's unit."""
    source: str
    """Where it is from, and what is known of how it was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The whole file."""

    format: int = BENCH_VERSION
    kind: str
    """The run's too."""
    title: str
    baseline: str = ""
    """The subject that ratios refer to; empty: none."""
    seed: int
    """Of the randomised order."""
    settings: dict[str, Any]
    """What was asked for: time_s, repeat, threads, ..."""
    machine: dict[str, Any] = field(default_factory=dict)
    """Where: ``cpu_model``, ``cpus``, ``kernel``, ``governor``, ``load_average_before``, ``load_average_after``,
    ``qemu_version``."""
    metrics: list[Metric]
    subjects: list[Subject]
    repetitions: list[Repetition] = field(default_factory=list)
    """In the order in which they ended; kept in a file of their own."""
    references: list[Reference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """Found while measuring (a guest that died); what follows from the figures is found anew each time."""
    complete: bool = False
    """Whether it ran to its end; a bench that was interrupted keeps what it had."""

    def subject(self, name: str) -> Subject:
        """The subject called *name*. Raises KeyError."""
        return {subject.name: subject for subject in self.subjects}[name]

    @property
    def names(self) -> list[str]:
        """The subjects' names, in order."""
        return [subject.name for subject in self.subjects]

    @property
    def counted(self) -> list[Repetition]:
        """All but warm-ups."""
        return [r for r in self.repetitions if r.repetition > 0]

    def values(self, subject: str, metric: str) -> list[Repetition]:
        """The counted repetitions of one metric of one subject."""
        return [r for r in self.counted if (r.subject, r.metric) == (subject, metric)]


BENCH = Document("bench.json", Bench)


def with_rest(seconds: Sequence[float], total: float) -> tuple[float, ...]:
    """*seconds* and what is left of *total*, so that the sum is the total. Raises LimosaError if they are more."""
    rest = total - sum(seconds)
    if rest < -ROUNDING * total:
        raise LimosaError(f"the seconds add up to {sum(seconds):g}, which is more than the total of {total:g}")
    return (*seconds, rest)


def read(run: RunDirectory) -> Bench:
    """The whole bench of *run*. Raises StateError when it has none, LimosaError for a damaged one."""
    bench = run.read(BENCH)
    return replace(bench, repetitions=[*bench.repetitions, *_added(run)])


def _added(run: RunDirectory) -> list[Repetition]:
    """Of a file that was cut off in a line, the whole lines."""
    path = run.path / REPETITIONS_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LimosaError(f"{path} cannot be read: {error.strerror}") from error
    lines = data[: data.rfind(b"\n") + 1].splitlines()
    try:
        return [untrusted.decode(line, type=Repetition) for line in lines]
    except msgspec.MsgspecError as error:
        raise LimosaError(
            f"{path} is damaged: {error}", hint=f"{paths.document('bench.md')} describes the file"
        ) from error


def write(run: RunDirectory, bench: Bench) -> None:
    """Replace bench.json: all but the repetitions. Raises MachineError when it cannot."""
    run.write(BENCH, replace(bench, repetitions=[]))


def append(run: RunDirectory, repetition: Repetition) -> None:
    """Keep one more repetition. Raises MachineError when it cannot."""
    path = run.path / REPETITIONS_FILE
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(repetition) + b"\n")
    except OSError as error:
        raise paths.cannot_write(error, path.parent) from error
