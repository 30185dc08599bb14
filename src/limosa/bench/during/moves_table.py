"""The table of a bench of migrations, and how each figure in it is made."""

from __future__ import annotations

from limosa.bench.during.compare import Measure, Moved, level
from limosa.results.statistics import Estimate
from limosa.results.summary_tables import NO_READING, Table, milliseconds, seconds

MEANINGS: dict[str, tuple[str, str]] = {
    "sysbench": (
        "sysbench",
        "Events in each second of the guest's clock, as sysbench prints them, placed where the line arrived over SSH."
        " A line that waits behind the blackout is placed late.",
    ),
    "cpu-given": (
        "CPU time given by the host",
        "For how long the threads of the guest's virtual CPUs ran in each of sysbench's seconds, as the host's"
        " scheduler counts it (/proc/PID/task/TID/schedstat, read four times a second), source and target together."
        " What a hypervisor below takes is left out where the host's kernel accounts for it, else it is inside.",
    ),
    "cpu-speed": (
        "sysbench per CPU second",
        "sysbench's events over that CPU time: what is left when competition for CPUs is taken away. It holds all that"
        " the virtual CPU's thread does beside sysbench, such as emulating devices and translating code.",
    ),
    "cpu-loop": (
        "Loop of the agent",
        "Events over the CPU time that the guest's kernel booked for them, put together to 0.2 s. What the host takes"
        " from the whole guest is booked as the loop's own time, what sysbench beside it takes is not. With TCG code is"
        " translated anew on the target.",
    ),
    "throughput": (
        "Throughput",
        "What iperf3's sender or receiver on this machine counts in 0.1 s, put together to 0.5 s for the levels. iperf3"
        " writes 128 KiB at once, so single intervals are steps.",
    ),
    "round-trip": (
        "Round trip",
        "One UDP echo, 50 a second, stamped by the client's kernel on the way back. A CPU that sleeps between two"
        " echoes answers later than one that a migration keeps awake.",
    ),
}
"""Measure → its name, and how its figure is made and what distorts it."""


def table(found: list[Moved]) -> Table:
    """A row a measure; parts that could not be measured keep theirs."""
    rows = []
    for moved in found:
        name = f"{moved.part.method}, {moved.part.load}"
        if not moved.measures or all(m.course is None for m in moved.measures):
            rows.append((name, moved.part.reason or "not measured", *[NO_READING] * 9))
        for measure in moved.measures:
            if measure.course is not None:
                rows.append(_row(name, moved, measure))
    columns = ("part", "measure", "before", "during", "during / before", "after / before", "outage", "longest silence")
    more = ("silence at rest", "95 % back after", "move took")
    return Table("Before, during and after", (*columns, *more), tuple(rows))


_OF_MOVES = ("outage", "longest silence", "silence at rest", "move took")
"""Columns that are the same for all measures of a move."""


def levels(found: list[Moved]) -> Table:
    """The table without what is told by move: it fits on a page."""
    whole = table(found)
    return _columns(whole, whole.title, [name for name in whole.columns if name not in _OF_MOVES])


def waits(found: list[Moved]) -> Table:
    """What is told by move, a row each."""
    told = _columns(table(found), "How long clients waited", ["part", *_OF_MOVES])
    return Table(told.title, told.columns, tuple(dict.fromkeys(told.rows)))


def _columns(whole: Table, title: str, names: list[str]) -> Table:
    kept = [whole.columns.index(name) for name in names]
    return Table(title, tuple(names), tuple(tuple(row[i] for i in kept) for row in whole.rows))


def _row(name: str, moved: Moved, measure: Measure) -> tuple[str, ...]:
    course, moments = measure.course, moved.moments
    assert course is not None and moments is not None
    back = seconds(course.recovered_ms) if course.recovered_ms is not None else "not within the measurement"
    return (
        name,
        measure.label,
        level(course.before, measure.unit),
        level(course.during, measure.unit),
        ratio(course.during_ratio),
        ratio(course.after_ratio),
        milliseconds(moved.outage_ms),
        milliseconds(moved.longest_silence_ms),
        milliseconds(moved.rest_silence_ms),
        back + ("" if course.steady else " (unsteady before)"),
        seconds((moments.end_ns - moments.start_ns) / 1e6),
    )


def ratio(estimate: Estimate | None) -> str:
    """``0.82 (0.79 to 0.85)``; the interval only where there is one."""
    if estimate is None:
        return NO_READING
    interval = f" ({estimate.low:.2f} to {estimate.high:.2f})" if estimate.low is not None else ""
    return f"{estimate.value:.2f}{interval}"
