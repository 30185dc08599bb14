"""What a bench leaves behind: ``bench.json`` in a run directory of kind ``bench-cpu``, ``bench-network``, ...

::

    RUN/
      run.json, events.jsonl   as in every run (limosa.results.format)
      spec.json                resolved Lab, where one lab served the whole bench
      environment.json         Environment, where one guest was measured
      bench.json               Bench: subjects, every repetition, findings. Replaced whole after each repetition
      samples/seconds.csv      subject,metric,repetition,second,value     per-second values of all repetitions
      samples/NAME.txt|json    what the measuring programs printed, untouched
      report.html, *.png       derived

Rule: nothing here is derived from anything else here. Medians, ratios and intervals are computed from the
repetitions by ``limosa.bench.comparison``, so that they can be computed again. A bench that was interrupted, and a
subject that died, keep what they had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from limosa.results.store import Document

BENCH_VERSION = 1

SECONDS_FILE = "seconds.csv"
SECONDS_COLUMNS = ("subject", "metric", "repetition", "second", "value")

Kind = Literal["bench-cpu", "bench-network", "bench-disk", "bench-during-migration"]


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
class Finding:
    """Something that makes the comparison unsound, or that a careful reader must know."""

    rule: str
    """Stable name of the rule that found it: ``beyond-host``, ``busy-machine``, ``steal``, ``governor``, ..."""
    severity: Literal["unsound", "caution", "note"]
    """``unsound``: do not compare. ``caution``: the figures stand, with reservations. ``note``: good to know."""
    text: str
    """One or two sentences with the figures."""
    subject: str = ""
    """The subject that it is about; empty: the whole bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The whole file."""

    format: int = BENCH_VERSION
    kind: str
    """One of ``Kind``; also the run's."""
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
    """In the order in which they ended."""
    references: list[Reference] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """Found while measuring (a guest that died); what follows from the figures is found by ``soundness`` each time."""
    complete: bool = False
    """Whether it ran to its end; a bench that was interrupted keeps what it had."""

    def subject(self, name: str) -> Subject:
        """The subject called *name*. Raises KeyError."""
        return {subject.name: subject for subject in self.subjects}[name]

    @property
    def names(self) -> list[str]:
        """The subjects' names, in order."""
        return [subject.name for subject in self.subjects]

    def values(self, subject: str, metric: str) -> list[Repetition]:
        """The counted repetitions (no warm-up) of one metric of one subject."""
        found = [r for r in self.repetitions if r.repetition > 0]
        return [r for r in found if (r.subject, r.metric) == (subject, metric)]


BENCH = Document("bench.json", Bench)
