"""The run directory, version 1: names of the files and the types in them. Prose: ``docs/results-format.md``.

::

    RUN/
      run.json            Run             what this is
      spec.json           resolved Lab    what was asked for
      environment.json    Environment     where it was measured
      events.jsonl        one Event a line, as limosa.events.to_json writes it
      migrations.json     list[Migration] one entry per migration, failed ones included
      pauses.json         list[Pause]     calibration only: pauses of known length
      load.json           list[LoadReading] what the guest's workload had done, before and after each migration
      checks.json         list[Check]     did the guest and its clients come through unharmed
      summary.json        Summary         derived from all the above; can be made again
      samples/ticks.csv       sequence,guest_monotonic_ns,guest_realtime_ns,received_ns
      samples/echo.csv        sequence,sent_ns,received_ns          (received_ns empty: no answer)
      samples/service.csv     sequence,sent_ns,received_ns          (TCP request and response)
      samples/cpu.csv         guest_monotonic_ns,duration_ns,events (a fixed loop inside the guest;
                              its CPU time, so that other work in the guest does not count)
      samples/client.json     ClientReport: what the client that took these samples counted
      samples/progress.csv    time_ns,migration,status,total_bytes,remaining_bytes,transferred_bytes,
                              dirty_rate_bytes_per_s,throughput_bytes_per_s,iteration
      report.html, *.png      derived

All ``*_ns`` without ``guest`` are CLOCK_REALTIME of the machine that measures; ``received_ns`` are kernel
receive timestamps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

EVENTS = "events.jsonl"
"""What happened. Whoever writes a run holds the lock on it."""

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured experiment."""

    format: int = FORMAT_VERSION
    id: str
    kind: str
    """demo, migrate, calibrate, ..."""
    lab: str
    guest: str
    started_ns: int
    ended_ns: int | None = None
    status: Literal["running", "completed", "failed", "cancelled"] = "running"
    error: str = ""
    limosa: str
    incomplete: list[str] = field(default_factory=list)
    """What could not be recorded, one sentence each: a disk that filled up, a probe that did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnvironment:
    """A host as it was when the run began."""

    kind: str
    kernel: str
    cpu_model: str
    cpus: int
    memory_bytes: int
    qemu_path: str
    qemu_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """All that a reader needs to judge whether two results may be compared."""

    hosts: dict[str, HostEnvironment]
    accel: Literal["kvm", "tcg"]
    accel_reason: str
    """Why this accelerator: the proof, or what went wrong with KVM."""
    machine: str
    cpu: str
    image: dict[str, Any]
    """The image's provenance: name, build date, package versions, checksums."""
    governor: str = ""
    """The CPU frequency governor of this machine; empty where it has none."""
    load_average_before: float | None = None
    load_average_after: float | None = None
    steal_share: float | None = None
    """Share of CPU time that the hypervisor below this machine took during the run, 0 to 1."""
    cpus_awake: bool = False
    """Whether the CPUs of this machine were kept from sleeping meanwhile, as ``limosa calibrate`` does where it may."""
    probes: dict[str, Any] = field(default_factory=dict)
    """What measured, with its rate: it disturbs what it measures."""
    workload: dict[str, Any] = field(default_factory=dict)
    """What the guest was doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """How long one pause was, by each clock, in ms; None: this clock has no reading."""

    qemu_downtime_ms: float | None = None
    """1: QEMU's own figure in query-migrate; of pre-copy alone."""
    stop_resume_ms: float | None = None
    """2: STOP on the source to RESUME on the target, QMP event timestamps."""
    tick_gap_ms: float | None = None
    """3a: the longest hole in datagrams that the guest sends."""
    echo_gap_ms: float | None = None
    """3b: the longest time without an echo that the client asked for."""
    service_stall_ms: float | None = None
    """4: the longest wait of a TCP request/response client."""
    guest_lost_ms: float | None = None
    """The reference: time that the guest's own clock believes did not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a migration's policy decided under way."""

    time_ns: int
    """When it was journalled, before it was done."""
    action: str
    """``set``, ``post-copy``, ``pause`` or ``cancel``."""
    words: str
    """What was done, in a few words."""
    why: str
    """One sentence."""
    options: dict[str, Any] = field(default_factory=dict)
    """What QEMU was told, by the options' names, in its units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One migration, completed or not."""

    index: int
    """From 1, in order."""
    guest: str
    source: str
    target: str
    outcome: Literal["completed", "failed", "cancelled"]
    error: str = ""
    started_ns: int
    """The verb began."""
    ended_ns: int
    """The verb ended: source gone, journal closed."""
    stop_ns: int | None = None
    resume_ns: int | None = None
    stamped_by: Literal["this machine", "another machine", "two machines", ""] = ""
    """Whose clock ``stop_ns`` and ``resume_ns`` are told by; empty where an older version measured."""
    target_ahead_ns: int | None = None
    """How far the target's clock was ahead of the source's, of two machines; None: not known."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Those that were asked for."""
    plan: dict[str, Any] = field(default_factory=dict)
    """All that was going to be done, as ``limosa.migration.plan`` has it; empty where an older version measured."""
    capabilities_in_force: list[str] | None = None
    """The migration capabilities that were on at the source, as its QEMU said just before it began; None: not known."""
    parameters_in_force: dict[str, Any] | None = None
    """All migration parameters of the source, as its QEMU said just before it began; None: not known."""
    qemu: dict[str, Any] = field(default_factory=dict)
    """The last query-migrate of the source."""
    qemu_target: dict[str, Any] = field(default_factory=dict)
    """Likewise of the target, of a move that went over to post-copy; empty where it was not asked."""
    phases: list[tuple[str, int]] = field(default_factory=list)
    """(phase, time_ns) as journalled."""
    decisions: list[Decision] = field(default_factory=list)
    """What its policy decided, in order."""
    clocks: Clocks = field(default_factory=Clocks)

    @property
    def blackout(self) -> tuple[int, int] | None:
        """STOP and RESUME by the clock that stamps the samples; None: there was none, or another clock told them."""
        if self.stop_ns is None or self.resume_ns is None or self.stamped_by not in ("", "this machine"):
            return None
        return self.stop_ns, self.resume_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A pause of known length, made with QMP ``stop`` and ``cont``."""

    requested_ms: float
    stop_ns: int
    resume_ns: int
    clocks: Clocks = field(default_factory=Clocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """What the guest's workload had done at one moment, as the agent counts it; None: no such work."""

    time_ns: int
    memory_bytes: int | None = None
    """Written by the memory writer since it filled its working set."""
    disk_writes: int | None = None
    """Acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must have survived."""

    name: str
    """disk-writes, memory-checksum, ssh-session, tcp-connection, guest-alive, single-copy"""
    passed: bool
    detail: str
    """One sentence with the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeReport:
    """What one of the client's probes counted; None: that is nothing of this probe's.

    Gaps are raw here; ``clocks`` makes fair figures of the samples.
    """

    count: int | None = None
    """tick: datagrams received."""
    foreign: int | None = None
    """tick: datagrams that were no ticks of this guest."""
    sent: int | None = None
    answered: int | None = None
    late: int | None = None
    """echo: answers that came so late that they were written down as lost."""
    refused: int | None = None
    """echo: sends and receives that the network refused."""
    connections: int | None = None
    """service: connections made; 1 when the first one lived to the end."""
    broken: int | None = None
    """service: connections that broke."""
    connected: bool | None = None
    last_error: str = ""
    kernel_drops: int | None = None
    """Datagrams that the kernel had to drop because the receive buffer was full: not the guest's fault."""
    buffer_bytes: int | None = None
    problem: str = ""
    """Why samples could not be written, if they could not."""
    longest_ms: float | None = None
    """The longest gap (tick, echo) or wait (service) so far; None before the first has ended."""
    since_mark_ms: float | None = None
    """The same since the last mark."""
    silent_ms: float | None = None
    """Since the last arrival; None before the first."""


class ClientReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the client counted, and what it cost: ``cpu_s`` of processor time in ``wall_s``."""

    time_ns: int
    wall_s: float
    cpu_s: float
    wakeups: int
    probes: dict[str, ProbeReport] = {}
    """By the probe's name; one that was not active is not in it."""
    tick: ProbeReport | None = None
    echo: ProbeReport | None = None
    service: ProbeReport | None = None
    """The three as runs have them that were written before the probes had names; ``of`` reads both."""

    def of(self, name: str) -> ProbeReport | None:
        """What the probe of this name counted; None: it was not active."""
        before = {"ticks": self.tick, "echo": self.echo, "service": self.service}
        return self.probes.get(name) or before.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSummary:
    """One row of the table."""

    index: int
    source: str
    target: str
    outcome: str
    duration_ms: float | None = None
    """QEMU's total time. None, as for every figure here: no reading."""
    command_ms: float
    """The whole verb."""
    transferred_bytes: int | None = None
    throughput_bytes_per_s: float | None = None
    iterations: int | None = None
    exposure_ms: float | None = None
    blocktime_ms: float | None = None
    vcpu_blocktime_ms: float | None = None
    clocks: Clocks = field(default_factory=Clocks)
    cpu_before_events_per_s: float | None = None
    cpu_during_events_per_s: float | None = None
    longest_wait_ms: float | None = None
    """The longest that a client waited while the whole migration lasted, not only around the blackout."""
    clock_behind_ms: float | None = None
    """By how much more the guest's CLOCK_REALTIME was behind this machine's after it than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What clients waited while the guest did not move, in ms: what a move shows beyond it is the move's."""

    length_s: float
    """For how long that was looked at, all stretches between migrations together."""
    longest_wait_ms: float | None = None
    """By the TCP service if it gave a reading, else by echoes, else by ticks, as of a migration."""
    tick_gap_ms: float | None = None
    echo_gap_ms: float | None = None
    service_stall_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Something that was to happen at a rate, and the rate at which it did. None: not measured."""

    name: str
    """memory writes, disk writes, ticks, echoes"""
    unit: Literal["bytes/s", "/s"]
    requested: float | None = None
    """None: as fast as it goes."""
    at_rest: float | None = None
    """Reached while the guest did not move."""
    moving: list[float | None] = field(default_factory=list)
    """Reached during each migration, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Derived from the run's data alone."""

    migrations: list[MigrationSummary] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    rest: Rest | None = None
    rates: list[Rate] = field(default_factory=list)
    clock_behind_ms: tuple[float, float] | None = None
    """How far the guest's CLOCK_REALTIME was behind this machine's in the run's first and last second."""
    remarks: list[str] = field(default_factory=list)
    """What a careful reader should know: probes that disturb, first move, busy machine, TCG."""
