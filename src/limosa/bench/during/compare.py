"""What a migration did to CPU, throughput and round trips: computed from the samples of a run, each time anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from limosa.bench.during.course import Course, Moments, Series, course, joined, series, silence_ms
from limosa.bench.during.cpu_time import LEAST_CPUS, given, per_cpu_second, tracks
from limosa.bench.during.parse import read_iperf, read_loop, read_round_trips, read_sysbench
from limosa.bench.during.parts import DURING, During, Part
from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.results import rest, store
from limosa.results.format import Clocks, Environment, Migration, Rate
from limosa.results.samples import Samples, read_exchanges, read_ticks
from limosa.results.statistics import Estimate
from limosa.results.store import RunDirectory
from limosa.results.summary import at_rest, summarise
from limosa.results.summary_tables import NO_READING
from limosa.units import format_number

MS = 1_000_000
NEAR_NS = 2_000 * MS
"""A silence this long after the guest runs again may still be the move's doing: TCP waits before it tries again."""

STREAMS = {"receive": "throughput, client to guest", "send": "throughput, guest to client"}
"""Loads that are a stream of bytes, and what their measure is called."""

SLOW_WINDOW_NS = 3000 * MS
"""Samples of a second each: fewer than three have no median worth the name."""

JOINED_NS = 500 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure of one part: its samples and what became of it."""

    name: str
    """``sysbench``, ``cpu-given``, ``cpu-speed``, ``cpu-loop``, ``throughput``, ``round-trip``."""
    label: str
    unit: str
    """``events/s``, ``CPU s/s``, ``events`` (a CPU second), ``bit/s``, ``ms``."""
    samples: Series
    window_ns: int
    """The moving window of the recovery."""
    course: Course | None
    """None: the migration never began, so that there is no before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One part, read again: what moved how, and every measure of it."""

    part: Part
    moments: Moments | None
    migration: Migration | None
    clocks: Clocks
    measures: list[Measure]
    """Echoes that were never answered."""
    silence_ms: float | None = None
    """For a throughput: the longest time without a byte around the blackout; resolution is one interval."""
    longest_silence_ms: float | None = None
    """From the migration's begin to 2 s after its end: the longest time without a byte, an echo or (under the load
    ``cpu``) a tick. A guest can fall silent when sending begins, long before the blackout."""
    rest_silence_ms: float | None = None
    """The longest such silence before the migration and from 2 s after it: what there is without a move."""
    rates: list[Rate] = field(default_factory=list)
    """At which rates the guest was to send ticks and the client echoes, and at which they did."""
    environment: Environment | None = None
    """Where it was measured; None: it did not come that far."""

    @property
    def accel(self) -> str:
        """``kvm`` or ``tcg``; empty: not known."""
        return self.environment.accel if self.environment else ""

    @property
    def starved_at(self) -> float | None:
        """The least of the CPU seconds a second before and during, where that is too little to tell a move's cost."""
        courses = [measure.course for measure in self.measures if measure.name == "cpu-given" and measure.course]
        levels = [e.value for course in courses for e in (course.before, course.during) if e is not None]
        return min(levels) if levels and min(levels) < LEAST_CPUS else None

    @property
    def outage_ms(self) -> float | None:
        """How long clients had nothing: the silence of a stream, else the hole in the echoes, else the guest's own.

        A stream that had bytes in every interval was silent for less than one, and then the guest's clock is finer.
        """
        if self.silence_ms:
            return self.silence_ms
        return next((v for v in (self.clocks.echo_gap_ms, self.clocks.guest_lost_ms) if v is not None), None)


def read(run: RunDirectory) -> tuple[During, list[Moved]]:
    """Everything of a run of this bench. Raises StateError or LimosaError for a run that is none or is damaged."""
    during = run.read(DURING)
    return during, [moved(run.path, part) for part in during.parts]


def moved(run: Path, part: Part) -> Moved:
    """One part, from its own run directory."""
    if not part.directory:
        return Moved(part=part, moments=None, migration=None, clocks=Clocks(), measures=[])
    own = RunDirectory.open(run / part.directory)
    migrations = own.read_or(store.MIGRATIONS, [])
    migration = migrations[-1] if migrations else None
    found = _all_series(own, part)
    moments = _moments(part, migration, found)
    measures = [
        Measure(
            name=name, label=label, unit=unit, samples=samples, window_ns=window_ns,
            course=_course(name, samples, moments, window_ns) if moments else None,
        )
        for name, label, unit, samples, window_ns in found
    ]  # fmt: skip
    summary = summarise(own).migrations if migration else []
    silence, longest = None, summary[-1].longest_wait_ms if summary else None
    if moments and part.load in STREAMS and measures:
        stream = measures[0].samples
        longest = silence_ms(stream, moments.start_ns, moments.end_ns + NEAR_NS)
        if moments.stop_ns and moments.resume_ns:
            silence = silence_ms(stream, moments.stop_ns, moments.resume_ns + NEAR_NS)
    echoes, ticks = read_exchanges(own.samples / "echo.csv"), read_ticks(own.samples / "ticks.csv")
    resting = _resting(moments) if moments else []
    noted = own.read(store.ENVIRONMENT) if own.has(store.ENVIRONMENT) else None
    return Moved(
        part=part,
        moments=moments,
        migration=migration,
        clocks=summary[-1].clocks if summary else Clocks(),
        measures=measures,
        silence_ms=silence,
        longest_silence_ms=longest,
        rest_silence_ms=_rest_silence_ms(part, measures, resting, ticks, echoes),
        rates=rest.rates({}, noted.probes if noted else {}, [], migrations[-1:], resting, ticks, echoes),
        environment=noted,
    )


def _resting(moments: Moments) -> list[rest.Stretch]:
    """When the load ran and nothing moved."""
    around = [(moments.begin_ns, moments.start_ns), (moments.end_ns + NEAR_NS, moments.finish_ns)]
    return [(begin, end) for begin, end in around if begin < end]


def _rest_silence_ms(
    part: Part, measures: list[Measure], resting: list[rest.Stretch], ticks: Ticks, echoes: Exchanges
) -> float | None:
    if part.load in STREAMS and measures:
        inside = [measures[0].samples.inside(*stretch) for stretch in resting]
        return max((silence_ms(s, int(s.begin_ns[0]), int(s.end_ns[-1])) for s in inside if len(s)), default=None)
    found = at_rest(resting, Samples(ticks=ticks, echo=echoes))
    return found.longest_wait_ms if found else None


def _course(name: str, samples: Series, moments: Moments, window_ns: int) -> Course:
    """Throughput in steps of JOINED_NS, put together phase by phase so that none reaches into another."""
    if name != "throughput":
        return course(samples, moments, window_ns)
    edges = [moments.begin_ns, moments.start_ns, moments.stop_ns, moments.resume_ns, moments.end_ns, moments.finish_ns]
    known = [edge for edge in edges if edge is not None]
    pieces = [joined(samples.inside(a, b), JOINED_NS) for a, b in pairwise(known)]
    rows = [row for piece in pieces for row in zip(piece.begin_ns, piece.end_ns, piece.value, strict=True)]
    return course(series([(int(a), int(b), float(value)) for a, b, value in rows]), moments, window_ns)


_Found = tuple[str, str, str, Series, int]


def _all_series(own: RunDirectory, part: Part) -> list[_Found]:
    found: list[_Found] = []
    if part.load == "cpu":
        work = read_sysbench(own.samples / "sysbench.csv")
        share = given(tracks(own.samples), work)
        found.append(("sysbench", "sysbench", "events/s", work, SLOW_WINDOW_NS))
        if len(share):
            speed = per_cpu_second(work, share)
            found.append(("cpu-given", "CPU time given by the host", "CPU s/s", share, SLOW_WINDOW_NS))
            found.append(("cpu-speed", "sysbench per CPU second", "events", speed, SLOW_WINDOW_NS))
        found.append(("cpu-loop", "loop of the agent", "events/s", read_loop(own), 1000 * MS))
    elif part.load in STREAMS:
        samples = read_iperf(own.samples / "iperf.csv")
        found.append(("throughput", STREAMS[part.load], "bit/s", samples, 2000 * MS))
    else:
        found.append(("round-trip", "round trip", "ms", read_round_trips(own.samples / "echo.csv"), 1000 * MS))
    return found


def _moments(part: Part, migration: Migration | None, found: list[_Found]) -> Moments | None:
    if migration is None or not part.begin_ns:
        return None
    last = max((int(samples.end_ns[-1]) for *_, samples, _ in found if len(samples)), default=migration.ended_ns)
    stop_ns, resume_ns = (migration.blackout if migration.outcome == "completed" else None) or (None, None)
    return Moments(
        begin_ns=part.begin_ns,
        start_ns=migration.started_ns,
        stop_ns=stop_ns,
        resume_ns=resume_ns,
        end_ns=migration.ended_ns,
        finish_ns=part.finish_ns or last,
    )


def level(estimate: Estimate | None, unit: str) -> str:
    """A median with its unit, three digits."""
    if estimate is None:
        return NO_READING
    if unit == "bit/s":
        return f"{format_number(estimate.value / 1e6)} Mbit/s"  # one unit, so that what is side by side compares
    return f"{format_number(estimate.value)} {unit}"
