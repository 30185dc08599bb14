"""What ``limosa bench during-migration`` leaves behind.

::

    RUN/                       a run of kind bench-during-migration
      during.json              During: which parts there are, and how each ended
      parts/ID/                one part: a whole run directory of its own, with one migration under one load
        samples/sysbench.csv   arrived_ns,second,events_per_s      cpu
        samples/iperf.csv      arrived_ns,begin_s,end_s,kbits_per_s      receive, send
        samples/vcpu-HOST.csv  arrived_ns,pid,clock_ns,ran_ns,waited_ns      cpu: the virtual CPUs' threads on a host
        samples/cpu.csv, ticks.csv, echo.csv                       as in every run
        samples/load.txt       what the loading program printed, untouched

Rule: figures are never stored, they are computed from the samples by ``limosa.bench.during.compare`` each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from limosa.results.store import Document

KIND = "bench-during-migration"

SYSBENCH_COLUMNS = ("arrived_ns", "second", "events_per_s")
IPERF_COLUMNS = ("arrived_ns", "begin_s", "end_s", "kbits_per_s")

Load = Literal["cpu", "receive", "send", "latency"]

LOADS: dict[str, str] = {
    "cpu": "sysbench in the guest, and a finer loop beside it",
    "receive": "iperf3, client to guest",
    "send": "iperf3, guest to client",
    "latency": "nothing but echoes",
}
"""What the guest is doing while it moves, one part each: CPU and network loads would disturb each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One migration under one load."""

    method: str
    """``precopy``."""
    load: str
    """A key of ``LOADS``."""
    repetition: int = 1
    status: Literal["measured", "partial", "failed"] = "measured"
    """``partial``: samples were kept, but the migration did not complete or the measurement was cut short."""
    reason: str = ""
    """Why it is not ``measured``, one sentence."""
    directory: str = ""
    """Its run directory, relative to the whole run; empty: it did not come that far."""
    begin_ns: int = 0
    """When the load had settled."""
    finish_ns: int = 0
    """When the measurement ended; 0: it was cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class During:
    """The whole file. It is replaced after each part, so that an interrupted bench keeps what it had."""

    format: int = 1
    guest: str
    before_s: float
    after_s: float
    memory_bytes: int
    """Random bytes in the guest's memory, there to be sent."""
    max_bandwidth_bytes_per_s: int | None
    parts: list[Part] = field(default_factory=list)
    complete: bool = False


DURING = Document("during.json", During)
