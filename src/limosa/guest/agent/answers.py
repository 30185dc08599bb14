"""What the guest agent answers, one frozen type a kind of answer. Sizes in bytes; clocks are the guest's."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hello:
    """Who answers. ``digest`` is the ``source_digest()`` it was built from (empty: built by hand)."""

    version: int
    digest: str
    pid: int
    page_bytes: int
    memory_bytes: int
    cpus: int
    monotonic_ns: int
    realtime_ns: int


@dataclass(frozen=True, slots=True)
class Clock:
    """The guest's CLOCK_MONOTONIC and CLOCK_REALTIME, read one right after the other."""

    monotonic_ns: int
    realtime_ns: int


@dataclass(frozen=True, slots=True)
class TicksStatus:
    """Datagrams ``sent`` (also the last sequence number), moments ``missed``, sends that failed.

    ``real_time`` says whether the sender has a real-time priority, so that load in the guest cannot delay it.
    """

    running: bool
    sent: int
    missed: int
    errors: int
    real_time: bool


@dataclass(frozen=True, slots=True)
class EchoStarted:
    """Where echoes are sent from."""

    port: int


@dataclass(frozen=True, slots=True)
class EchoStatus:
    """Datagrams echoed, TCP bytes echoed, TCP clients ever ``accepted`` and now ``connected``."""

    running: bool
    datagrams: int
    stream_bytes: int
    accepted: int
    connected: int


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The memory writer: ``phase`` is filling, writing or stopped; the rate is over the last second.

    ``slipped`` counts the times that a backlog of more than 20 ms was dropped instead of worked off.
    """

    phase: str
    pages: int
    filled_bytes: int
    bytes_written: int
    rate_bytes_per_s: float
    elapsed_s: float
    slipped: int


@dataclass(frozen=True, slots=True)
class MemoryCounters:
    """How often each of the pages asked for was written."""

    counters: list[int]


@dataclass(frozen=True, slots=True)
class MemoryVerdict:
    """Of ``pages`` checked, how many are ``corrupt``, and how many sound but ``stale``: a lost write."""

    pages: int
    corrupt: int
    stale: int
    first_bad_page: int | None

    @property
    def sound(self) -> bool:
        """Whether every page holds what was written to it last."""
        return self.corrupt == 0 and self.stale == 0


@dataclass(frozen=True, slots=True)
class RegionChecksum:
    """The hash of a region that nobody writes; ``hash`` names the function, ``checksum`` is 16 hex digits."""

    bytes: int
    hash: str
    checksum: str


@dataclass(frozen=True, slots=True)
class DiskStatus:
    """The disk writer: records up to ``acknowledged`` are safe; ``slowest_ms`` is the slowest one."""

    running: bool
    acknowledged: int
    written: int
    errors: int
    last_error: str
    slowest_ms: float


@dataclass(frozen=True, slots=True)
class DiskVerdict:
    """A file of records, read again: each record that should be there is in one of three counts.

    ``records`` are whole, ``missing`` are absent or an older one lies in their place, ``corrupt`` are
    damaged. ``torn`` blocks belong to a record that was never acknowledged. ``direct`` tells that the page
    cache was passed by. ``checksum`` covers the checksums of all sound records in file order.
    """

    records: int
    last_sequence: int
    missing: int
    corrupt: int
    torn: int
    direct: bool
    checksum: str

    @property
    def sound(self) -> bool:
        """Whether no record is lost or damaged."""
        return self.missing == 0 and self.corrupt == 0


@dataclass(frozen=True, slots=True)
class CpuSample:
    """A fixed piece of work, timed: wall time by CLOCK_MONOTONIC, and the thread's own CPU time.

    Where the wall time is longer than the CPU time, another thread of the guest had the CPU. A slow
    or paused virtual CPU lengthens both, where the guest's clock goes on.
    """

    index: int
    monotonic_ns: int
    duration_ns: int
    cpu_ns: int
    events: int

    @property
    def events_per_s(self) -> float:
        """Speed by wall time."""
        return self.events / (max(self.duration_ns, 1) / 1e9)


@dataclass(frozen=True, slots=True)
class CpuStarted:
    """How large the piece of work is that is timed."""

    loop_events: int


@dataclass(frozen=True, slots=True)
class CpuRead:
    """Samples as they come: each the fields of a ``CpuSample`` in their order."""

    running: bool
    last: int
    lost: int
    missed: int
    samples: tuple[tuple[int, int, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class CpuSamples:
    """Samples after the index asked for; ``lost`` were overwritten before, ``last`` is the newest."""

    running: bool
    last: int
    lost: int
    missed: int
    samples: tuple[CpuSample, ...]
