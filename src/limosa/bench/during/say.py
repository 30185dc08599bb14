"""Explanations of what a migration did to CPU, throughput and round trips, from the measured figures.

One pure function a rule, over all parts of a run: each figure gets its clause, and the explanation follows once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limosa.bench.during.compare import Measure, Moved, level
from limosa.bench.during.course import Course
from limosa.results.phrases import above, below, interval, listed, percent, sentence, times, unlike
from limosa.units import format_number

LONGER = 1.2
"""An outage is longer than the blackout when it is this many times as long: both are read to some ms only."""

PARTS = ("cpu-given", "cpu-speed")
"""Measures that take another one apart; one rule tells of them."""

EARLY_MS = 200.0
"""A silence apart from the blackout that somebody at a terminal notices."""


def of_migrations(found: list[Moved]) -> list[str]:
    """Every rule's sentences on measures that went through a migration."""
    return [said for rule in RULES for said in rule(found)]


def broke_off(found: list[Moved]) -> Iterator[str]:
    """A part that is not whole says why."""
    for moved in found:
        if moved.part.status != "measured":
            yield sentence(f"{_part(moved)}: {moved.part.status}, {moved.part.reason}")


def brownout(found: list[Moved]) -> Iterator[str]:
    """What the migration cost while it ran: measures that got worse beyond chance."""
    clauses = []
    for moved, measure, course in _told(found):
        ratio, more = course.during_ratio, measure.samples.more_is_better
        if ratio is not None and (below(ratio) if more else above(ratio)):
            change = f"{percent(1 - ratio.value)} lower" if more else f"{format_number(ratio.value, 2)} times as long"
            clauses.append(f"{_what(moved, measure)} was {change} (ratio {ratio.value:.2f}, {interval(ratio)})")
    if clauses:
        yield f"While the guest was moving, {listed(clauses)}."
        yield (
            "What pre-copy does that can cost this: the source reads and sends all memory and marks what the guest"
            " writes meanwhile, on the same CPUs and links that the guest works with. Other work of this machine can"
            " cost the same; --repeat shows what comes back."
        )


def given_and_made(found: list[Moved]) -> Iterator[str]:
    """sysbench's speed apart into the CPU time that the virtual CPU got and what it did in a second of that."""
    clauses = []
    for moved in found:
        ratios = {m.name: m.course.during_ratio for m in moved.measures if m.course is not None}
        whole, share, speed = (ratios.get(name) for name in ("sysbench", "cpu-given", "cpu-speed"))
        if whole is None or share is None or speed is None or moved.starved_at is not None:
            continue
        if not (below(whole) or below(share) or below(speed)):
            continue
        clauses.append(
            f"while moving, the guest's virtual CPU got {times(share)} the CPU time of before, and sysbench did"
            f" {times(speed)} as much in each second of it ({_part(moved)})"
        )
    if clauses:
        yield (
            f"{sentence(listed(clauses))} The first is competition: the migration's threads, and whatever else runs,"
            " want the same CPUs. The second is what the move changes inside: pages are marked as they are written, and"
            " on the target caches are cold and, under emulation, code is translated anew."
        )


def no_brownout(found: list[Moved]) -> Iterator[str]:
    """The interval of the ratio holds 1, and is narrow."""
    for moved, measure, course in _told(found):
        ratio = course.during_ratio
        if ratio is None or ratio.low is None or ratio.high is None:
            continue
        if ratio.low <= 1 <= ratio.high and not unlike(ratio):
            yield (
                f"{_capital(moved, measure)} was the same while the guest was moving (ratio {ratio.value:.2f},"
                f" {interval(ratio)}): what the migration took from it is less than that tells."
            )


def cannot_be_told(found: list[Moved]) -> Iterator[str]:
    """The interval of the ratio holds 1 and is so wide that it says neither."""
    clauses = []
    for moved, measure, course in _told(found):
        ratio = course.during_ratio
        if ratio is None or ratio.low is None or ratio.high is None:
            continue
        if ratio.low <= 1 <= ratio.high and unlike(ratio):
            clauses.append(f"{_what(moved, measure)} (ratio {ratio.value:.2f}, {interval(ratio)})")
    if clauses:
        yield f"Whether the move slowed it cannot be told from these samples: {listed(clauses)}."


def unexpectedly_better(found: list[Moved]) -> Iterator[str]:
    """Better during a migration than before it: that is the machine's doing."""
    clauses = []
    for moved, measure, course in _told(found):
        ratio, more = course.during_ratio, measure.samples.more_is_better
        if ratio is not None and (above(ratio) if more else below(ratio)):
            clauses.append(f"{_what(moved, measure)} (ratio {ratio.value:.2f}, {interval(ratio)})")
    if clauses:
        yield (
            f"Better during the migration than before it: {listed(clauses)}. A move gives nothing. Usual reasons: CPUs"
            " that it keeps awake answer sooner, or this machine had less other work meanwhile."
        )


def outage_beyond_blackout(found: list[Moved]) -> Iterator[str]:
    """How much longer clients had nothing than the guest stood still."""
    streams: list[str] = []
    echoes: list[str] = []
    for moved in found:
        stood_ms, outage_ms = moved.clocks.stop_resume_ms, moved.outage_ms
        if stood_ms is None or outage_ms is None or moved.part.load == "cpu" or moved.silence_ms == 0:
            continue
        if outage_ms > stood_ms * LONGER and outage_ms - stood_ms > (moved.rest_silence_ms or 0.0):
            said = f"{outage_ms:.0f} ms, where the guest itself stood still for {stood_ms:.0f} ms ({_part(moved)})"
            (streams if moved.silence_ms else echoes).append(said)
    if streams:
        yield (
            f"The stream had a hole of {listed(streams)}. After a blackout the switch has to learn the guest's new"
            " place, and TCP sends what was lost again only when its timer has run out."
        )
    if echoes:
        yield (
            f"No echo came for {listed(echoes)}. After a blackout the switch has to learn the guest's new place, and"
            " the guest's own code can start slowly there, above all under emulation, which translates it anew."
        )


def silent_apart_from_blackout(found: list[Moved]) -> Iterator[str]:
    """A silence during the migration that is not the blackout's: it is the longer one for whoever waits."""
    clauses = []
    for moved in found:
        longest_ms, outage_ms = moved.longest_silence_ms, moved.outage_ms or 0.0
        # As long a silence without a move is no move's doing.
        floor_ms = max(outage_ms, moved.rest_silence_ms or 0.0)
        if longest_ms is not None and longest_ms > floor_ms * LONGER and longest_ms - floor_ms > EARLY_MS:
            clauses.append(f"{longest_ms:.0f} ms ({_part(moved)}; around the blackout {outage_ms:.0f} ms)")
    if clauses:
        text = f"The longest silence was not at the blackout: {listed(clauses)}."
        if any(moved.accel == "tcg" for moved in found):
            text += (
                " Under emulation the usual reason is that a guest stands still as sending begins, while QEMU prepares"
            )
            text += (
                " its dirty log; on a busy machine, also that QEMU had to wait for a CPU (limosa's docs/measuring.md)."
            )
        yield text


def recovery(found: list[Moved]) -> Iterator[str]:
    """When 95 % of the earlier level was back; only where that can be told."""
    unsteady = []
    for moved, measure, course in _told(found):
        if not course.steady:
            unsteady.append(_what(moved, measure))
        elif course.recovered_ms is None:
            ratio = f": it was at {percent(course.after_ratio.value)}" if course.after_ratio else ""
            what = _capital(moved, measure)
            yield f"{what} was not back at 95 % of its earlier level when the measurement ended{ratio}."
        else:
            yield (
                f"{_capital(moved, measure)} was back at 95 % of {level(course.before, measure.unit)}"
                f" {course.recovered_ms / 1000:.1f} s after the migration."
            )
    if unsteady:
        yield (
            f"When it was back cannot be told, because it varied by more than 5 % even before the migration:"
            f" {listed(unsteady)}."
        )


def too_short(found: list[Moved]) -> Iterator[str]:
    """Too few samples fell into the migration for an interval."""
    clauses = []
    for moved, measure, course in _told(found):
        during = course.during
        if during is None or during.low is None:
            clauses.append(f"{_what(moved, measure)} ({0 if during is None else during.count} samples)")
    if clauses:
        yield (
            f"Too few samples fell into the migration for an interval: {listed(clauses)}. A lower --max-bandwidth makes"
            " it last longer."
        )


RULES: tuple[Callable[[list[Moved]], Iterator[str]], ...] = (
    *(broke_off, brownout, given_and_made, no_brownout, unexpectedly_better, cannot_be_told, too_short),
    *(outage_beyond_blackout, silent_apart_from_blackout, recovery),
)


def _told(found: list[Moved]) -> Iterator[tuple[Moved, Measure, Course]]:
    for moved in found:
        for measure in moved.measures:
            if measure.course is not None and measure.name not in PARTS:
                yield moved, measure, measure.course


def _part(moved: Moved) -> str:
    again = f", repetition {moved.part.repetition}" if moved.part.repetition > 1 else ""
    return f"{moved.part.method}, load {moved.part.load}{again}"


def _what(moved: Moved, measure: Measure) -> str:
    again = f", repetition {moved.part.repetition}" if moved.part.repetition > 1 else ""
    return f"{measure.label} ({moved.part.method}{again})"


def _capital(moved: Moved, measure: Measure) -> str:
    text = _what(moved, measure)
    return text if text.startswith("iperf3") else f"{text[:1].upper()}{text[1:]}"
