"""What makes a bench's comparison unsound, or needs saying: one pure function a rule, over the bench's data.

Nothing is left out because of a finding. The thresholds are ours; each says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from limosa.bench import comparison
from limosa.bench.format import Bench, Finding, Repetition
from limosa.bench.programs import different
from limosa.results.statistics import Estimate

STEAL_CAUTION, STEAL_UNSOUND = 0.01, 0.05
"""Shares of this machine's CPU time that the hypervisor below took: a percent is already as much as one wants to
tell apart."""

OTHER_WORK_CPUS = 0.25
"""CPUs that other work kept busy on average: less than a quarter of one leaves room on a machine with a free CPU."""

WIDE = 0.05
"""Half the interval over the median: beyond it, differences of 5 % cannot be told."""

UNSTEADY = 0.10
"""The baseline's slowest repetition below its fastest: it does the same work each time."""

CLOCK_SHARE, CLOCK_S = 0.05, 5.0
"""By how much the subject's clock may run behind ours: the login and the start of the program are ours alone."""

Rule = Callable[[Bench], Iterator[Finding]]


def findings(bench: Bench) -> list[Finding]:
    """What was noted while measuring, and what every rule finds; the gravest first."""
    found = [*bench.findings, *(finding for rule in RULES for finding in rule(bench))]
    return sorted(found, key=lambda finding: ("unsound", "caution", "note").index(finding.severity))


def different_files(bench: Bench) -> Iterator[Finding]:
    """All subjects must have run the same program with the same libraries."""
    having = [subject for subject in bench.subjects if subject.files]
    for subject in having[1:]:
        if unlike := different(having[0].files, subject.files):
            text = f"{subject.label} did not run the same files as {having[0].label}: {', '.join(unlike[:4])} differ."
            yield Finding(rule="different-files", severity="unsound", subject=subject.name, text=text)


def beyond_host(bench: Bench) -> Iterator[Finding]:
    """A guest that is faster than its host by more than chance: virtualisation cannot do that."""
    if bench.kind != "bench-cpu":
        return
    for row in comparison.compare(bench):
        ratio = row.ratio
        if ratio is None or ratio.value <= 1 or (ratio.low is not None and ratio.low <= 1):
            continue
        text = f"{bench.subject(row.subject).label} was {ratio.value - 1:.0%} faster than the host{_interval(ratio)}, "
        text += "which virtualisation cannot do: something else differed, such as the clock rate or other work."
        severity = "caution" if ratio.low is None else "unsound"
        yield Finding(rule="beyond-host", severity=severity, subject=row.subject, text=text)  # type: ignore[arg-type]


def busy_machine(bench: Bench) -> Iterator[Finding]:
    """Other work on the CPUs takes time from what is measured, and not from all alike."""
    cpus, threads = int(bench.machine.get("cpus", 0)), int(bench.settings.get("threads", 0))
    shares = [r.busy_share for r in _counted(bench) if r.busy_share is not None]
    if not (cpus and threads and shares):
        return
    other = max(0.0, max(shares) * cpus - min(threads, cpus))
    if other < OTHER_WORK_CPUS:
        return
    full = other + threads > 0.95 * cpus
    text = f"Other work kept up to {other:.1f} of {cpus} CPUs busy, beside the {threads} that the bench wants"
    text += ": none was left over, so it took time from the measured work." if full else "."
    yield Finding(rule="busy-machine", severity="unsound" if full else "caution", text=text)


def load(bench: Bench) -> Iterator[Finding]:
    """More processes wanted to run than there are CPUs, before the bench began."""
    cpus, before = int(bench.machine.get("cpus", 0)), float(bench.machine.get("load_average_before", 0.0))
    if cpus and before > cpus:
        text = f"The machine had a load of {before:.1f} on {cpus} CPUs before the bench began."
        yield Finding(rule="load", severity="caution", text=text)


def governor(bench: Bench) -> Iterator[Finding]:
    """A frequency governor that follows the load makes the first seconds slower than the later ones."""
    name = str(bench.machine.get("governor", ""))
    if name not in ("", "performance"):
        text = f"The CPU's frequency follows the load (governor {name}): the clock rate was not the same throughout."
        yield Finding(rule="governor", severity="caution", text=text)


def stolen(bench: Bench) -> Iterator[Finding]:
    """This machine is a guest itself, and did not get all of its CPU time."""
    share = max((r.steal_share or 0.0 for r in _counted(bench)), default=0.0)
    if share > STEAL_CAUTION:
        severity = "unsound" if share > STEAL_UNSOUND else "caution"
        text = f"The hypervisor below this machine took up to {share:.1%} of its CPU time during a repetition."
        yield Finding(rule="steal", severity=severity, text=text)  # type: ignore[arg-type]


def unsteady_baseline(bench: Bench) -> Iterator[Finding]:
    """The baseline does the same work each time; what varies there is the machine."""
    for metric in bench.metrics if bench.kind == "bench-cpu" else ():
        values = [r.value for r in bench.values(bench.baseline, metric.name)]
        if len(values) > 1 and 1 - min(values) / max(values) > UNSTEADY:
            text = (
                f"The host's own speed varied by {1 - min(values) / max(values):.0%} from one repetition to another: "
            )
            text += "the clock rate or other work changed meanwhile."
            yield Finding(rule="unsteady-host", severity="caution", subject=bench.baseline, text=text)


def intervals(bench: Bench) -> Iterator[Finding]:
    """No interval, or one too wide to tell; and pairs that the figures do not separate."""
    rows = [row for row in comparison.compare(bench) if row.estimate is not None]
    least = comparison.LEAST_TWO_STAGE
    if few := [row for row in rows if row.estimate and row.estimate.low is None and row.estimate.count < least]:
        count = min(row.estimate.count for row in few if row.estimate)
        text = f"{count} repetition{'s are' if count > 1 else ' is'} too few for a 95 % interval; take {least} or more."
        yield Finding(rule="too-few", severity="caution", text=text)
    for row in rows:
        label = f"{bench.subject(row.subject).label}, {row.metric.label}"
        assert row.estimate is not None
        half = _half_width(row.estimate)
        if half is not None and half > WIDE:
            text = f"{label}: the median is known to ±{half:.0%} only; smaller differences cannot be told."
            yield Finding(rule="wide", severity="caution", subject=row.subject, text=text)
        ratio = row.ratio
        if ratio is not None and ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high:
            text = f"{label}: cannot be told apart from {bench.subject(bench.baseline).label}{_interval(ratio)}."
            yield Finding(rule="not-apart", severity="note", subject=row.subject, text=text)


def clocks(bench: Bench) -> Iterator[Finding]:
    """A subject whose clock does not agree with ours counts its events in other seconds."""
    for subject in bench.subjects:
        mine = [r for r in _counted(bench) if r.subject == subject.name]
        unlike = [r for r in mine if not _agrees(r)]
        if unlike:
            worst = max(unlike, key=lambda r: abs(_wall_s(r) - r.duration_s))
            text = f"{subject.label}: by its own clock a repetition took {worst.duration_s:.1f} s, "
            text += f"by this machine's {_wall_s(worst):.1f} s, so its rates are per other seconds."
            yield Finding(rule="clocks", severity="caution", subject=subject.name, text=text)


def threads(bench: Bench) -> Iterator[Finding]:
    """More threads than CPUs measure the scheduler."""
    cpus, wanted = int(bench.machine.get("cpus", 0)), int(bench.settings.get("threads", 0))
    if cpus and wanted > cpus:
        text = f"{wanted} threads share {cpus} CPUs, in the guest's case below a second scheduler."
        yield Finding(rule="threads", severity="caution", text=text)


def emulated(bench: Bench) -> Iterator[Finding]:
    """Without KVM the guest's own kernel is emulated too, and that is most of what a network or a disk costs."""
    found = [s for s in bench.subjects if s.accel == "tcg" and s.status != "skipped"]
    if bench.kind == "bench-cpu" or not found:
        return
    which = "All guests" if len(found) == len(bench.subjects) else ", ".join(s.label for s in found)
    text = f"{which} ran without KVM ({found[0].accel_reason}): the guest's kernel was emulated as well as the device."
    yield Finding(rule="emulated", severity="caution", text=text)


def incomplete(bench: Bench) -> Iterator[Finding]:
    """A bench that was stopped has fewer repetitions than were asked for."""
    if not bench.complete:
        text = "The bench was stopped before its end: what was measured until then is shown."
        yield Finding(rule="incomplete", severity="caution", text=text)


RULES: tuple[Rule, ...] = (
    *(different_files, beyond_host, busy_machine, stolen, load, governor, unsteady_baseline),
    *(clocks, threads, emulated, intervals, incomplete),
)


def _counted(bench: Bench) -> list[Repetition]:
    return [r for r in bench.repetitions if r.repetition > 0]


def _wall_s(repetition: Repetition) -> float:
    return (repetition.ended_ns - repetition.started_ns) / 1e9


def _agrees(repetition: Repetition) -> bool:
    behind_s = _wall_s(repetition) - repetition.duration_s
    return -CLOCK_SHARE * repetition.duration_s <= behind_s <= CLOCK_S + CLOCK_SHARE * repetition.duration_s


def _half_width(estimate: Estimate) -> float | None:
    if estimate.low is None or estimate.high is None or estimate.value == 0:
        return None
    return (estimate.high - estimate.low) / 2 / abs(estimate.value)


def _interval(ratio: Estimate) -> str:
    return "" if ratio.low is None or ratio.high is None else f" ({ratio.low:.2f} to {ratio.high:.2f} times)"
