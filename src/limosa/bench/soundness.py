"""What makes a bench's comparison unsound, or needs saying: one pure function a rule, over the bench's data.

Nothing is left out because of a finding. The thresholds are ours; each says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

from limosa.bench import comparison
from limosa.bench.comparison import Row
from limosa.bench.during.compare import Moved
from limosa.bench.network import parse as iperf
from limosa.bench.phrases import interval, listed, percent
from limosa.bench.programs import different
from limosa.bench.repetitions import Bench, Finding, Repetition
from limosa.bench.tables import quantity
from limosa.results.rest import SHORT, short, shortfall
from limosa.results.statistics import Estimate

STEAL_CAUTION, STEAL_UNSOUND = 0.01, 0.05
"""Shares of this machine's CPU time that the hypervisor below took: a percent is already as much as one wants to
tell apart."""

OTHER_WORK_CPUS = 0.25
"""CPUs that other work kept busy on average: less than a quarter of one leaves room on a machine with a free CPU."""

WIDE = 0.05
"""Half the interval over the median: beyond it, differences of 5 % cannot be told."""

FULL = 0.95
"""The share of the CPUs' time beyond which there was none left for what is measured."""

LOAD_PER_CPU = 1.5
"""Before a bench of migrations: the guest itself has just started, which is a load of 1."""

UNSTEADY = 0.10
"""The baseline's slowest repetition below its fastest: it does the same work each time."""

CLOCK_SHARE, CLOCK_S = 0.05, 5.0
"""By how much the subject's clock may run behind ours: the login and the start of the program are ours alone."""

Rule = Callable[[Bench], Iterator[Finding]]


def findings(bench: Bench) -> list[Finding]:
    """What was noted while measuring, and what every rule finds; the gravest first."""
    found = [*bench.findings, *(finding for rule in RULES for finding in rule(bench))]
    return _gravest_first(found)


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
        text = f"{bench.subject(row.subject).label} was {percent(ratio.value - 1)} faster than the host"
        text += f" (ratio {ratio.value:.2f}, {interval(ratio)}), "
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
    full = other + threads > FULL * cpus
    text = f"Other work kept up to {other:.1f} of {cpus} CPUs busy, beside the {threads} that the bench wants"
    text += ": none was left over, so it took time from the measured work." if full else "."
    yield Finding(rule="busy-machine", severity="unsound" if full else "caution", text=text)


def full_machine(bench: Bench) -> Iterator[Finding]:
    """Client, QEMU and guest share the CPUs, so without an idle moment the figure is what CPU time was left."""
    shares = [r.busy_share for r in _counted(bench) if r.busy_share is not None]
    if bench.kind == "bench-cpu" or not shares or median(shares) <= FULL:
        return
    text = (
        f"The CPUs were busy for {percent(median(shares))} of the time (median of the repetitions): what limits these"
    )
    text += " figures is CPU time, the guest's and QEMU's own work included, and other work lowers them directly."
    yield Finding(rule="full-machine", severity="caution", text=text)


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
    shares = [r.steal_share or 0.0 for r in _counted(bench)]
    if shares and max(shares) > STEAL_CAUTION:
        yield _steal(max(shares), f"in the worst repetition, {percent(median(shares))} in the median one")


def _steal(share: float, when: str) -> Finding:
    text = f"The hypervisor below this machine took {percent(share)} of its CPU time {when}."
    return Finding(rule="steal", severity="unsound" if share > STEAL_UNSOUND else "caution", text=text)


def unsteady_baseline(bench: Bench) -> Iterator[Finding]:
    """The baseline does the same work each time; what varies there is the machine."""
    for metric in bench.metrics if bench.kind == "bench-cpu" else ():
        values = [r.value for r in bench.values(bench.baseline, metric.name)]
        if len(values) > 1 and 1 - min(values) / max(values) > UNSTEADY:
            text = f"The host's own speed varied by {percent(1 - min(values) / max(values))} from one repetition to"
            text += " another: the clock rate or other work changed meanwhile."
            yield Finding(rule="unsteady-host", severity="caution", subject=bench.baseline, text=text)


def intervals(bench: Bench) -> Iterator[Finding]:
    """No interval, or one too wide to tell; and pairs that the figures do not separate."""
    rows = [row for row in comparison.compare(bench) if row.estimate is not None]
    least = comparison.LEAST_TWO_STAGE
    if few := [row for row in rows if row.estimate and row.estimate.low is None and row.estimate.count < least]:
        count = min(row.estimate.count for row in few if row.estimate)
        text = f"{count} repetition{'s are' if count > 1 else ' is'} too few for a 95 % interval; take {least} or more."
        yield Finding(rule="too-few", severity="caution", text=text)
    halves = [(row, half) for row in rows if row.estimate and (half := _half_width(row.estimate)) and half > WIDE]
    if halves:
        worst, half = max(halves, key=lambda pair: pair[1])
        text = f"{_label(bench, worst)} is known to ±{percent(half)} only"
        if len(halves) > 1:
            text = f"{len(halves)} of {len(rows)} medians are known to no better than ±{percent(WIDE)}; the worst is"
            text += f" that of {_label(bench, worst)}, to ±{percent(half)}"
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


def clocks(bench: Bench) -> Iterator[Finding]:
    """A subject whose clock does not agree with ours counts its events in other seconds."""
    unlike = [repetition for repetition in _counted(bench) if not _agrees(repetition)]
    if unlike:
        worst = max(unlike, key=lambda r: abs(_wall_s(r) - r.duration_s))
        text = f"{bench.subject(worst.subject).label}: by its own clock a repetition took {worst.duration_s:.1f} s, by"
        text += f" this machine's {_wall_s(worst):.1f} s ({len(unlike)} of {len(_counted(bench))} repetitions are like"
        text += " that): either the clocks differ, and its rates are per other seconds, or a busy machine took long to"
        text += " start the program."
        yield Finding(rule="clocks", severity="caution", subject=worst.subject, text=text)


def uneven_seconds(bench: Bench) -> Iterator[Finding]:
    """A program whose reports came late: they are not of seconds. Its totals, and so its figure, are not touched."""
    for subject in bench.subjects:
        scales = [float(r.facts.get("seconds_scale", 1)) for r in _counted(bench) if r.subject == subject.name]
        if scales and min(scales) < 1:
            text = f"{subject.label}: sysbench itself had to wait for a CPU, so its reports were not a second apart;"
            text += f" those of the worst repetition were multiplied by {min(scales):.2f} to fit its total."
            yield Finding(rule="uneven-seconds", severity="caution", subject=subject.name, text=text)


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


def offered(bench: Bench) -> Iterator[Finding]:
    """Datagrams that went out at a lower rate than they were to: a loss is that of the rate that was sent."""
    wanted = float(bench.settings.get("udp_bits_per_s", 0))
    for name in bench.names:
        sent = [rate for r in bench.values(name, "udp-loss") if (rate := iperf.sent_bits_per_s(r)) is not None]
        if sent and median(sent) < SHORT * wanted:
            text = f"{bench.subject(name).label}: datagrams at {quantity(wanted, 'bit/s')} were asked for, and"
            text += f" {quantity(median(sent), 'bit/s')} were sent: loss and jitter are those of that rate."
            yield Finding(rule="offered", severity="caution", subject=name, text=text)


def incomplete(bench: Bench) -> Iterator[Finding]:
    """A bench that was stopped has fewer repetitions than were asked for."""
    if not bench.complete:
        text = "The bench was stopped before its end: what was measured until then is shown."
        yield Finding(rule="incomplete", severity="caution", text=text)


RULES: tuple[Rule, ...] = (
    *(different_files, beyond_host, busy_machine, full_machine, stolen, load, governor, unsteady_baseline),
    *(clocks, uneven_seconds, threads, emulated, offered, intervals, incomplete),
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


def _label(bench: Bench, row: Row) -> str:
    label = bench.subject(row.subject).label
    return label if len(bench.metrics) == 1 else f"{label}, {row.metric.label}"


def of_migrations(found: list[Moved]) -> list[Finding]:
    """What makes a bench of migrations unsound, or needs saying; the gravest first."""
    known = [environment for moved in found if (environment := moved.environment) is not None]
    said: list[Finding] = []
    share = max((environment.steal_share or 0.0 for environment in known), default=0.0)
    if share > STEAL_CAUTION:
        said.append(_steal(share, "while one of the loads was measured"))
    starved = [found_at for moved in found if (found_at := moved.starved_at) is not None]
    if starved:
        text = "The guest wanted a whole CPU for sysbench, and before or during a move this machine gave it only"
        text += f" {min(starved):.2g} of one: such a speed is that of a queue for CPUs and says little of the move."
        said.append(Finding(rule="starved", severity="unsound", text=text))
    if known:
        first, cpus = known[0], max((host.cpus for host in known[0].hosts.values()), default=1)
        if first.load_average_before > LOAD_PER_CPU * cpus:
            text = f"The machine had a load of {first.load_average_before:.1f} on {cpus} CPUs before the bench began."
            said.append(Finding(rule="load", severity="caution", text=text))
        if first.governor not in ("", "performance"):
            text = f"The CPU's frequency follows the load (governor {first.governor})."
            said.append(Finding(rule="governor", severity="caution", text=text))
        if first.accel == "tcg":
            text = (
                f"The guest ran without KVM ({first.accel_reason}): its CPU, the migration and the client's work share"
            )
            text += " this machine's CPUs, and levels are those of an emulated guest."
            said.append(Finding(rule="emulated", severity="caution", text=text))
    for moved in found:
        if slow := [shortfall(rate) for rate in moved.rates if short(rate)]:
            text = f"{'; '.join(slow)} ({moved.part.method}, {moved.part.load}): silences are read the more coarsely."
            said.append(Finding(rule="short-rate", severity="caution", text=text))
    if known and max(moved.part.repetition for moved in found) == 1:
        text = "Each load went through one migration: the intervals tell the scatter of samples within that move, as if"
        text += " they were independent, and not how moves differ. --repeat shows that."
        said.append(Finding(rule="one-move", severity="note", text=text))
    return _gravest_first(said)


def _gravest_first(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: ("unsound", "caution", "note").index(finding.severity))
