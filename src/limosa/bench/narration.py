"""Explanations of a bench that follow from its measured figures: one pure function a rule, a sentence or nothing.

Rule: no sentence without a figure of this run in it, and none where the figure's interval does not bear it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limosa.bench import comparison
from limosa.bench.comparison import Row
from limosa.bench.during import Measure, Moved
from limosa.bench.during import read as read_during
from limosa.bench.during_format import DURING
from limosa.bench.during_table import level
from limosa.bench.format import BENCH, Bench
from limosa.bench.recovery import Course
from limosa.errors import StateError
from limosa.results.statistics import Estimate
from limosa.results.store import RunDirectory

WIDE = 0.10
"""Half an interval over its value: beyond it, a tenth more or less cannot be told."""

EMULATED_NICS = ("e1000", "rtl8139")


def narrate(run: RunDirectory) -> list[str]:
    """What follows from a finished bench. Raises StateError for a run that is no bench."""
    if run.has(DURING):
        return of_migrations(read_during(run)[1])
    if run.has(BENCH):
        return of_bench(run.read(BENCH))
    raise StateError(f"the run {run.id} is no bench", hint="limosa bench makes one")


def of_bench(bench: Bench) -> list[str]:
    """Every rule's sentences on subjects that were compared."""
    rows = comparison.compare(bench)
    return [sentence for rule in BENCH_RULES for sentence in rule(bench, rows)]


def of_migrations(found: list[Moved]) -> list[str]:
    """Every rule's sentences on measures that went through a migration."""
    return [sentence for rule in DURING_RULES for moved in found for sentence in rule(moved)]


def why_emulation_is_slower(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest without KVM, against the host."""
    for row, ratio in _ratios(rows, "guest-tcg"):
        if not _below(ratio):
            continue
        text = f"Without KVM the guest did {_times(ratio)} of the host's work in a second, 1/{1 / ratio.value:.1f}:"
        text += " QEMU translates the guest's instructions into its own, block by block, and looks up every memory"
        text += " address in software; one instruction of the guest becomes several of the host."
        kvm = next(_ratios(rows, "guest-kvm", row.metric.name), None)
        if kvm is not None:
            text += f" With KVM, where the processor runs them itself, it was {_times(kvm[1])}."
        yield text


def kvm_close_to_host(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest with KVM within a tenth below the host."""
    for _, ratio in _ratios(rows, "guest-kvm"):
        if bench.kind == "bench-cpu" and 0.9 <= ratio.value <= 1 and not _unlike(ratio):
            yield (
                f"With KVM the guest reached {_times(ratio)} of the host's speed: its instructions run on the"
                " processor as they are, and only what leaves the guest (timers, devices) costs something."
            )


def kvm_loses(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """The guest with KVM clearly below the host: not what hardware virtualisation does to arithmetic."""
    for _, ratio in _ratios(rows, "guest-kvm"):
        if bench.kind == "bench-cpu" and ratio.value < 0.9 and _below(ratio):
            yield (
                f"With KVM the guest reached only {_times(ratio)} of the host's speed. Where the processor"
                " virtualises, arithmetic loses a few percent at most: here KVM itself runs inside a virtual machine,"
                " or other work took the processor."
            )


def faster_than_host(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """A guest beyond its host: the comparison is unsound."""
    for row in rows:
        ratio = row.ratio
        if bench.kind != "bench-cpu" or ratio is None or ratio.low is None or ratio.low <= 1:
            continue
        label = bench.subject(row.subject).label
        yield (
            f"The {label} came out {ratio.value - 1:.0%} faster than its host ({_interval(ratio)}). Virtualisation"
            " cannot do that, so the comparison is unsound: the clock rate, the program or the machine's other work"
            " differed between the two."
        )


def what_virtio_saves(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """virtio-net against each emulated card, metric by metric."""
    if bench.kind != "bench-network":
        return
    for metric in bench.metrics:
        virtio = bench.values("virtio-net", metric.name)
        for card in EMULATED_NICS:
            emulated = bench.values(card, metric.name)
            if not virtio or not emulated or metric.unit not in ("bit/s", "s"):
                continue
            ratio = comparison.ratio_of_medians(virtio, emulated)
            if ratio is None:
                continue
            more = metric.higher_is_better
            if not (_above(ratio) if more else _below(ratio)):
                continue
            gain = f"{ratio.value:.1f} times the throughput of" if more else f"{ratio.value:.2f} times the wait of"
            yield (
                f"{metric.label}: virtio-net had {gain} {card} ({_interval(ratio)}). {card} is a copy of a real card:"
                " for every packet the guest writes to its registers, and each write stops the guest and wakes QEMU."
                " virtio puts many packets into a ring in shared memory and rings once."
            )


def too_wide(bench: Bench, rows: list[Row]) -> Iterator[str]:
    """A median that is not known well enough."""
    for row in rows:
        estimate = row.estimate
        if estimate is None or estimate.low is None or estimate.high is None or not estimate.value:
            continue
        half = (estimate.high - estimate.low) / 2 / abs(estimate.value)
        if half > WIDE:
            label = bench.subject(row.subject).label
            yield (
                f"{label}, {row.metric.label}: the repetitions scatter so much that the median is known to ±{half:.0%}"
                " only. Repeat more often, or on a machine with nothing else to do."
            )


def brownout(moved: Moved) -> Iterator[str]:
    """What the migration cost while it ran: a measure that got worse beyond chance."""
    for measure, course in _told(moved):
        ratio = course.during_ratio
        if ratio is None or not (_below(ratio) if measure.samples.more_is_better else _above(ratio)):
            continue
        change = f"{1 - ratio.value:.0%} lower" if measure.samples.more_is_better else f"{ratio.value - 1:.0%} longer"
        yield (
            f"{_what(moved, measure)} was {change} while the guest was moving ({_interval(ratio)}): the source reads"
            " and sends all memory and marks what the guest writes meanwhile, on the same CPUs and links that the"
            " guest works with."
        )


def no_brownout(moved: Moved) -> Iterator[str]:
    """The interval of the ratio holds 1, and is narrow."""
    for measure, course in _told(moved):
        ratio = course.during_ratio
        if ratio is None or ratio.low is None or ratio.high is None:
            continue
        if ratio.low <= 1 <= ratio.high and not _unlike(ratio):
            yield (
                f"{_what(moved, measure)} was the same while the guest was moving ({_interval(ratio)}): there was"
                " room for the migration beside it."
            )


def unexpectedly_better(moved: Moved) -> Iterator[str]:
    """Better during a migration than before it: that is the machine's doing."""
    for measure, course in _told(moved):
        ratio = course.during_ratio
        if ratio is not None and (_above(ratio) if measure.samples.more_is_better else _below(ratio)):
            yield (
                f"{_what(moved, measure)} was better during the migration than before ({_interval(ratio)}). A migration"
                " gives nothing: CPUs that were kept awake by it answer sooner, or other work of this machine changed."
            )


def blackout_and_outage(moved: Moved) -> Iterator[str]:
    """How much longer clients had nothing than the guest stood still."""
    stood_ms, outage_ms = moved.clocks.stop_resume_ms, moved.outage_ms
    if stood_ms is None or outage_ms is None or moved.part.load == "cpu" or moved.silence_ms == 0:
        return
    what = "the stream stood still" if moved.silence_ms else "no echo came"
    if outage_ms <= stood_ms * 1.2:
        return
    yield (
        f"{moved.part.method}, {moved.part.load}: the guest stood still for {stood_ms:.0f} ms, and {what} for"
        f" {outage_ms:.0f} ms: after the blackout the network has to learn the new place, and what was lost meanwhile"
        " is sent again only after a wait."
    )


def recovery(moved: Moved) -> Iterator[str]:
    """When 95 % of the earlier level was back; only where that can be told."""
    for measure, course in _told(moved):
        if not course.steady:
            yield (
                f"{_what(moved, measure)} varied by more than 5 % even before the migration, so when it was back"
                " cannot be told on this machine."
            )
        elif course.recovered_ms is None:
            ratio = f", it was at {course.after_ratio.value:.0%}" if course.after_ratio else ""
            yield f"{_what(moved, measure)} was not back at 95 % of its earlier level at the measurement's end{ratio}."
        else:
            yield (
                f"{_what(moved, measure)} was back at 95 % of {level(course.before, measure.unit)}"
                f" {course.recovered_ms / 1000:.1f} s after the migration."
            )


def too_short(moved: Moved) -> Iterator[str]:
    """Too few samples fell into the migration for an interval."""
    for measure, course in _told(moved):
        during = course.during
        if during is None or during.low is None:
            count = 0 if during is None else during.count
            yield (
                f"{_what(moved, measure)}: only {count} samples fell into the migration, too few for an interval."
                " A lower --max-bandwidth makes it last longer."
            )


def broke_off(moved: Moved) -> Iterator[str]:
    """A part that is not whole says why."""
    if moved.part.status != "measured":
        yield f"{moved.part.method}, {moved.part.load}: {moved.part.status}, {moved.part.reason}."


BENCH_RULES: tuple[Callable[[Bench, list[Row]], Iterator[str]], ...] = (
    *(faster_than_host, why_emulation_is_slower, kvm_close_to_host, kvm_loses, what_virtio_saves, too_wide),
)
DURING_RULES: tuple[Callable[[Moved], Iterator[str]], ...] = (
    *(broke_off, brownout, no_brownout, unexpectedly_better, blackout_and_outage, recovery, too_short),
)


def _told(moved: Moved) -> Iterator[tuple[Measure, Course]]:
    return ((measure, measure.course) for measure in moved.measures if measure.course is not None)


def _what(moved: Moved, measure: Measure) -> str:
    return f"{moved.part.method}, {measure.label}"


def _ratios(rows: list[Row], subject: str, metric: str = "") -> Iterator[tuple[Row, Estimate]]:
    found = ((row, row.ratio) for row in rows if row.subject == subject and row.ratio is not None)
    return ((row, ratio) for row, ratio in found if not metric or row.metric.name == metric)


def _below(ratio: Estimate) -> bool:
    """Below 1 by more than chance; without an interval, by more than a tenth."""
    return ratio.high < 1 if ratio.high is not None else ratio.value < 0.9


def _above(ratio: Estimate) -> bool:
    return ratio.low > 1 if ratio.low is not None else ratio.value > 1 / 0.9


def _unlike(ratio: Estimate) -> bool:
    """Known too badly to say "the same"."""
    return ratio.low is None or ratio.high is None or (ratio.high - ratio.low) / 2 > WIDE


def _times(ratio: Estimate) -> str:
    return f"{ratio.value:.0%} ({_interval(ratio)})"


def _interval(ratio: Estimate) -> str:
    if ratio.low is None or ratio.high is None:
        return f"ratio {ratio.value:.2f}, no interval"
    return f"ratio {ratio.value:.2f}, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
