"""What makes a comparison of CPU work unsound, or needs saying."""

from __future__ import annotations

from collections.abc import Iterator

from limosa.bench import soundness
from limosa.bench.comparison import Comparison
from limosa.bench.soundness import FULL, Rule
from limosa.results.account import Finding
from limosa.results.phrases import interval, percent

OTHER_WORK_CPUS = 0.25
"""CPUs that other work kept busy on average: less than a quarter of one leaves room on a machine with a free CPU."""

UNSTEADY = 0.10
"""The baseline's slowest repetition below its fastest: it does the same work each time."""


def beyond_host(compared: Comparison) -> Iterator[Finding]:
    """A guest that is faster than its host by more than chance: virtualisation cannot do that."""
    bench = compared.bench
    for row in compared.rows:
        ratio = row.ratio
        if ratio is None or ratio.value <= 1 or (ratio.low is not None and ratio.low <= 1):
            continue
        text = f"{bench.subject(row.subject).label} was {percent(ratio.value - 1)} faster than the host"
        text += f" (ratio {ratio.value:.2f}, {interval(ratio)}), "
        text += "which virtualisation cannot do: something else differed, such as the clock rate or other work."
        severity = "caution" if ratio.low is None else "unsound"
        yield Finding(rule="beyond-host", severity=severity, subject=row.subject, text=text)  # type: ignore[arg-type]


def busy_machine(compared: Comparison) -> Iterator[Finding]:
    """Other work on the CPUs takes time from what is measured, and not from all alike."""
    bench = compared.bench
    cpus, threads = int(bench.machine.get("cpus", 0)), int(bench.settings.get("threads", 0))
    shares = [r.busy_share for r in bench.counted if r.busy_share is not None]
    if not (cpus and threads and shares):
        return
    other = max(0.0, max(shares) * cpus - min(threads, cpus))
    if other < OTHER_WORK_CPUS:
        return
    full = other + threads > FULL * cpus
    text = f"Other work kept up to {other:.1f} of {cpus} CPUs busy, beside the {threads} that the bench wants"
    text += ": none was left over, so it took time from the measured work." if full else "."
    yield Finding(rule="busy-machine", severity="unsound" if full else "caution", text=text)


def unsteady_baseline(compared: Comparison) -> Iterator[Finding]:
    """The baseline does the same work each time; what varies there is the machine."""
    bench = compared.bench
    for metric in bench.metrics:
        values = [r.value for r in bench.values(bench.baseline, metric.name)]
        if len(values) > 1 and 1 - min(values) / max(values) > UNSTEADY:
            text = f"The host's own speed varied by {percent(1 - min(values) / max(values))} from one repetition to"
            text += " another: the clock rate or other work changed meanwhile."
            yield Finding(rule="unsteady-host", severity="caution", subject=bench.baseline, text=text)


def uneven_seconds(compared: Comparison) -> Iterator[Finding]:
    """A program whose reports came late: they are not of seconds. Its totals, and so its figure, are not touched."""
    bench = compared.bench
    for subject in bench.subjects:
        scales = [float(r.facts.get("seconds_scale", 1)) for r in bench.counted if r.subject == subject.name]
        if scales and min(scales) < 1:
            text = f"{subject.label}: sysbench itself had to wait for a CPU, so its reports were not a second apart;"
            text += f" those of the worst repetition were multiplied by {min(scales):.2f} to fit its total."
            yield Finding(rule="uneven-seconds", severity="caution", subject=subject.name, text=text)


def threads(compared: Comparison) -> Iterator[Finding]:
    """More threads than CPUs measure the scheduler."""
    bench = compared.bench
    cpus, wanted = int(bench.machine.get("cpus", 0)), int(bench.settings.get("threads", 0))
    if cpus and wanted > cpus:
        text = f"{wanted} threads share {cpus} CPUs, in the guest's case below a second scheduler."
        yield Finding(rule="threads", severity="caution", text=text)


RULES: tuple[Rule, ...] = (
    *(soundness.different_files, beyond_host, busy_machine, soundness.stolen, soundness.load, soundness.governor),
    *(unsteady_baseline, soundness.clocks, uneven_seconds, threads, soundness.intervals, soundness.incomplete),
)
