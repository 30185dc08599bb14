"""What makes a bench's comparison unsound, or needs saying: one pure function a rule, over what was compared.

These are the rules that benches share; each bench chooses, and adds its own (``judge`` in its folder). Nothing is left
out because of a finding. The thresholds are ours; each says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from limosa.bench.comparison import LEAST_TWO_STAGE, Comparison
from limosa.bench.programs import different
from limosa.bench.repetitions import Repetition
from limosa.results.account import Finding, gravest_first
from limosa.results.phrases import listed, percent
from limosa.results.statistics import Estimate

STEAL_CAUTION, STEAL_UNSOUND = 0.01, 0.05
"""Shares of this machine's CPU time that the hypervisor below took: a percent is already as much as one wants to
tell apart."""

WIDE = 0.05
"""Half the interval over the median: beyond it, differences of 5 % cannot be told."""

FULL = 0.95
"""The share of the CPUs' time beyond which there was none left for what is measured."""

CLOCK_SHARE, CLOCK_S = 0.05, 5.0
"""By how much the subject's clock may run behind ours: the login and the start of the program are ours alone."""

Rule = Callable[[Comparison], Iterator[Finding]]
Saying = Callable[[Comparison], Iterator[str]]
"""An explanation that follows from the figures, or nothing."""


def findings(compared: Comparison, rules: tuple[Rule, ...]) -> list[Finding]:
    """What was noted while measuring, and what every rule finds; the gravest first."""
    found = [*compared.bench.findings, *(finding for rule in rules for finding in rule(compared))]
    return gravest_first(found)


def different_files(compared: Comparison) -> Iterator[Finding]:
    """All subjects must have run the same program with the same libraries."""
    bench = compared.bench
    having = [subject for subject in bench.subjects if subject.files]
    for subject in having[1:]:
        if unlike := different(having[0].files, subject.files):
            text = f"{subject.label} did not run the same files as {having[0].label}: {', '.join(unlike[:4])} differ."
            yield Finding(rule="different-files", severity="unsound", subject=subject.name, text=text)


def full_machine(compared: Comparison) -> Iterator[Finding]:
    """Client, QEMU and guest share the CPUs, so without an idle moment the figure is what CPU time was left."""
    bench = compared.bench
    shares = [r.busy_share for r in bench.counted if r.busy_share is not None]
    if not shares or median(shares) <= FULL:
        return
    text = (
        f"The CPUs were busy for {percent(median(shares))} of the time (median of the repetitions): what limits these"
    )
    text += " figures is CPU time, the guest's and QEMU's own work included, and other work lowers them directly."
    yield Finding(rule="full-machine", severity="caution", text=text)


def load(compared: Comparison) -> Iterator[Finding]:
    """More processes wanted to run than there are CPUs, before the bench began."""
    bench = compared.bench
    cpus, before = int(bench.machine.get("cpus", 0)), float(bench.machine.get("load_average_before", 0.0))
    if cpus and before > cpus:
        text = f"The machine had a load of {before:.1f} on {cpus} CPUs before the bench began."
        yield Finding(rule="load", severity="caution", text=text)


def governor(compared: Comparison) -> Iterator[Finding]:
    """A frequency governor that follows the load makes the first seconds slower than the later ones."""
    bench = compared.bench
    name = str(bench.machine.get("governor", ""))
    if name not in ("", "performance"):
        text = f"The CPU's frequency follows the load (governor {name}): the clock rate was not the same throughout."
        yield Finding(rule="governor", severity="caution", text=text)


def stolen(compared: Comparison) -> Iterator[Finding]:
    """This machine is a guest itself, and did not get all of its CPU time."""
    bench = compared.bench
    shares = [r.steal_share or 0.0 for r in bench.counted]
    if shares and max(shares) > STEAL_CAUTION:
        yield steal(max(shares), f"in the worst repetition, {percent(median(shares))} in the median one")


def steal(share: float, when: str) -> Finding:
    """What is said of a *share* of CPU time that was stolen."""
    text = f"The hypervisor below this machine took {percent(share)} of its CPU time {when}."
    return Finding(rule="steal", severity="unsound" if share > STEAL_UNSOUND else "caution", text=text)


def intervals(compared: Comparison) -> Iterator[Finding]:
    """No interval, or one too wide to tell; and pairs that the figures do not separate."""
    bench = compared.bench
    rows = [row for row in compared.rows if row.estimate is not None]
    least = LEAST_TWO_STAGE
    if few := [row for row in rows if row.estimate and row.estimate.low is None and row.estimate.count < least]:
        count = min(row.estimate.count for row in few if row.estimate)
        text = f"{count} repetition{'s are' if count > 1 else ' is'} too few for a 95 % interval; take {least} or more."
        yield Finding(rule="too-few", severity="caution", text=text)
    halves = [(row, half) for row in rows if row.estimate and (half := _half_width(row.estimate)) and half > WIDE]
    if halves:
        worst, half = max(halves, key=lambda pair: pair[1])
        text = f"{compared.label(worst)} is known to ±{percent(half)} only"
        if len(halves) > 1:
            text = f"{len(halves)} of {len(rows)} medians are known to no better than ±{percent(WIDE)}; the worst is"
            text += f" that of {compared.label(worst)}, to ±{percent(half)}"
        text += ": smaller differences cannot be told."
        yield Finding(rule="wide", severity="caution", text=text)
    same = [r for r in rows if (e := r.ratio) and e.low is not None and e.high and e.low <= 1 <= e.high]
    if same:
        by_subject = [
            bench.subject(name).label + ("" if len(bench.metrics) == 1 else f" ({', '.join(labels)})")
            for name in bench.names
            if (labels := [r.metric.label for r in same if r.subject == name])
        ]
        text = f"Cannot be told apart from {bench.subject(bench.baseline).label}: {listed(by_subject)}."
        yield Finding(rule="not-apart", severity="note", text=text)


def clocks(compared: Comparison) -> Iterator[Finding]:
    """A subject whose clock does not agree with ours counts its events in other seconds."""
    bench = compared.bench
    unlike = [repetition for repetition in bench.counted if not _agrees(repetition)]
    if unlike:
        worst = max(unlike, key=lambda r: abs(_wall_s(r) - r.duration_s))
        text = f"{bench.subject(worst.subject).label}: by its own clock a repetition took {worst.duration_s:.1f} s, by"
        text += f" this machine's {_wall_s(worst):.1f} s ({len(unlike)} of {len(bench.counted)} repetitions are like"
        text += " that): either the clocks differ, and its rates are per other seconds, or a busy machine took long to"
        text += " start the program."
        yield Finding(rule="clocks", severity="caution", subject=worst.subject, text=text)


def emulated(compared: Comparison) -> Iterator[Finding]:
    """Without KVM the guest's own kernel is emulated too, and that is most of what a network or a disk costs."""
    bench = compared.bench
    found = [s for s in bench.subjects if s.accel == "tcg" and s.status != "skipped"]
    if not found:
        return
    which = "All guests" if len(found) == len(bench.subjects) else ", ".join(s.label for s in found)
    text = f"{which} ran without KVM ({found[0].accel_reason}): the guest's kernel was emulated as well as the device."
    yield Finding(rule="emulated", severity="caution", text=text)


def incomplete(compared: Comparison) -> Iterator[Finding]:
    """A bench that was stopped has fewer repetitions than were asked for."""
    bench = compared.bench
    if not bench.complete:
        text = "The bench was stopped before its end: what was measured until then is shown."
        yield Finding(rule="incomplete", severity="caution", text=text)


def _wall_s(repetition: Repetition) -> float:
    return (repetition.ended_ns - repetition.started_ns) / 1e9


def _agrees(repetition: Repetition) -> bool:
    behind_s = _wall_s(repetition) - repetition.duration_s
    return -CLOCK_SHARE * repetition.duration_s <= behind_s <= CLOCK_S + CLOCK_SHARE * repetition.duration_s


def _half_width(estimate: Estimate) -> float | None:
    if estimate.low is None or estimate.high is None or estimate.value == 0:
        return None
    return (estimate.high - estimate.low) / 2 / abs(estimate.value)
