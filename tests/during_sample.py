"""A sample account of a bench of migrations for tests of the report only: made up, and as wide as a real one."""

from __future__ import annotations

import math

from limosa.bench.during import moves_page
from limosa.bench.during.compare import Measure, Moved
from limosa.bench.during.course import Moments, Series, course, series
from limosa.bench.during.parts import During, Part
from limosa.results.account import Account
from limosa.results.format import Clocks, Migration

S = 10**9
MOMENTS = Moments(
    begin_ns=0, start_ns=20 * S, stop_ns=25 * S, resume_ns=25 * S + S // 10, end_ns=26 * S, finish_ns=56 * S
)
MEASURES = (
    ("cpu", "sysbench", "sysbench", "events/s", 745.0, 1.0),
    ("cpu", "cpu-given", "CPU time given by the host", "CPU s/s", 0.836, 1.0),
    ("cpu", "cpu-speed", "sysbench per CPU second", "events", 891.0, 1.0),
    ("cpu", "cpu-loop", "loop of the agent", "events/s", 618_225.0, 0.2),
    ("receive", "throughput", "throughput, client to guest", "bit/s", 3.633e9, 0.1),
    ("latency", "round-trip", "round trip", "ms", 0.739, 0.02),
)
"""(load, name, label, unit, level, seconds of a sample): what a bench with its usual loads has."""


def account() -> Account:
    """What there is to say of the bench."""
    found = [_moved(load) for load in ("cpu", "receive", "latency")]
    during = During(
        guest="guest1", before_s=20, after_s=30, memory_bytes=256 << 20, max_bandwidth_bytes_per_s=100 << 20,
        parts=[moved.part for moved in found], complete=True,
    )  # fmt: skip
    return moves_page.of(during, found, "")


def _moved(load: str) -> Moved:
    measures = []
    for of, name, label, unit, level, step_s in MEASURES:
        if of == load:
            samples = _samples(level, step_s, more_is_better=unit != "ms")
            measures.append(Measure(name=name, label=label, unit=unit, samples=samples, window_ns=3 * S,
                                    course=course(samples, MOMENTS, 3 * S)))  # fmt: skip
    migration = Migration(
        index=1, guest="guest1", source="host1", target="host2", outcome="completed", error="",
        started_ns=MOMENTS.start_ns, ended_ns=MOMENTS.end_ns, stop_ns=MOMENTS.stop_ns, resume_ns=MOMENTS.resume_ns,
        parameters={}, qemu={"ram": {"transferred": 353_000_000}}, phases=[],
    )  # fmt: skip
    clocks = Clocks(guest_lost_ms=101.0, stop_resume_ms=98.0, qemu_downtime_ms=74.0)
    part = Part(method="precopy", load=load, begin_ns=1, finish_ns=2)
    return Moved(part=part, moments=MOMENTS, migration=migration, clocks=clocks, measures=measures,
                 silence_ms=1176.5, longest_silence_ms=12_216.7, rest_silence_ms=43.4)  # fmt: skip


def _samples(level: float, step_s: float, *, more_is_better: bool) -> Series:
    step = int(step_s * S)
    return series(
        [(at, at + step, level * (1 + 0.2 * math.sin(at / S)) * (0.8 if 20 * S < at < 26 * S else 1))
         for at in range(0, 56 * S, step)],
        more_is_better=more_is_better,
    )  # fmt: skip
