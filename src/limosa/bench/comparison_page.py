"""What a bench that compares subjects tells: a table with medians, intervals and ratios, a plot with every repetition,
what follows, and what keeps one from relying on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limosa.bench import soundness
from limosa.bench.comparison import Comparison, Row, compare
from limosa.bench.quantity import interval, quantity, scale
from limosa.bench.repetitions import Bench, Metric, read
from limosa.bench.soundness import Rule, Saying
from limosa.results import account
from limosa.results.account import (
    Account,
    Block,
    Dots,
    Findings,
    Middle,
    Pairs,
    Plot,
    Section,
    Sentences,
    Text,
    Verdict,
)
from limosa.results.figures import size
from limosa.results.phrases import capital, listed, sentence
from limosa.results.statistics import Estimate
from limosa.results.store import RunDirectory
from limosa.results.summary_tables import NO_READING, Table
from limosa.units import format_number

MOST_TOLD = 2
"""Ratios in the first sentence: more are for the table."""

Quantities = Mapping[str, tuple[str, str]]
"""Settings that are quantities: by name, how they are called and their unit."""


class ComparisonPage:
    """How one bench's comparisons are told: by its own rules of soundness and its own explanations."""

    def __init__(
        self, rules: tuple[Rule, ...], sayings: tuple[Saying, ...] = (), quantities: Quantities | None = None
    ) -> None:
        self._rules, self._sayings, self._quantities = rules, sayings, quantities or {}

    def of_run(self, run: RunDirectory) -> Account:
        """What there is to say of *run*. Raises LimosaError for a damaged one."""
        return self.of(read(run))

    def of(self, bench: Bench) -> Account:
        """What there is to say of *bench*; everything is computed once."""
        compared = compare(bench)
        found = soundness.findings(compared, self._rules)
        said = [text for saying in self._sayings for text in saying(compared)]
        shown, plot = table(compared), _plot(compared)
        sources = list(dict.fromkeys(reference.source for reference in bench.references))
        rows = [
            {"subject": row.subject, "metric": row.metric.name, "unit": row.metric.unit}
            | {"estimate": row.estimate, "ratio": row.ratio}
            for row in compared.rows
        ]
        figures = {"rows": rows, "subjects": bench.subjects, "settings": bench.settings}
        sections = [_figures(shown, sources), _repetitions(plot)]
        if said:
            sections.append(Section(title="What follows", identity="follows", blocks=[Sentences(said)]))
        if found:
            title = "What to know before comparing"
            sections.append(Section(title=title, identity="findings", blocks=[Findings(found)]))
        pairs = [*self._settings(bench), *_machine(bench), *_subjects(bench)]
        sections.append(Section(title="Circumstances", identity="environment", blocks=[Pairs(pairs, "meanings")]))
        return Account(
            verdict=_verdict(compared, [f.text for f in found if f.severity == "unsound"]),
            table=shown,
            reasons=reasons(bench),
            explanations=said,
            findings=found,
            sources=sources,
            plot=plot,
            sections=sections,
            figures=figures | {"references": bench.references},
            whole=not any(subject.status in ("failed", "partial") for subject in bench.subjects),
        )

    def _settings(self, bench: Bench) -> list[tuple[str, str]]:
        shown = []
        for name, value in bench.settings.items():
            if name in self._quantities:
                label, unit = self._quantities[name]
                shown.append((label, quantity(float(value), unit)))
                continue
            label, form = _SETTINGS.get(name, (capital(name.replace("_", " ")), "{}"))
            shown.append((label, form.format(", ".join(map(str, value)) if isinstance(value, list) else value)))
        return shown


def table(compared: Comparison) -> Table:
    """A row for each metric and subject: median, 95 % interval, ratio to the baseline with its interval, reference."""
    bench = compared.bench
    references = {(r.subject, r.metric): r.value for r in bench.references}
    columns = ["", "median", "95 % interval", "times"]
    columns += [f"of {bench.subject(bench.baseline).label}", "95 % interval"] if bench.baseline else []
    columns += ["reference"] if references else []
    rows = []
    for row in compared.rows:
        if row.estimate is None and row.metric is not bench.metrics[0]:
            continue  # a subject without figures is told once
        cells = [_name(bench, row), *_cells(bench, row)]
        if references:
            value = references.get((row.subject, row.metric.name))
            cells.append(NO_READING if value is None else quantity(value, row.metric.unit))
        rows.append(tuple(cells))
    return Table(bench.title, tuple(columns), tuple(rows))


def _name(bench: Bench, row: Row) -> str:
    label = bench.subject(row.subject).label
    return label if len(bench.metrics) == 1 or row.estimate is None else f"{row.metric.label}: {label}"


def _cells(bench: Bench, row: Row) -> list[str]:
    estimate, unit = row.estimate, row.metric.unit
    if estimate is None:
        return [bench.subject(row.subject).status, *[NO_READING] * (4 if bench.baseline else 2)]
    cells = [quantity(estimate.value, unit), interval(estimate, unit), str(estimate.count)]
    if bench.baseline:
        ratio = row.ratio
        cells += [NO_READING] * 2 if ratio is None else [format_number(ratio.value), interval(ratio, "")]
    return cells


def reasons(bench: Bench) -> list[str]:
    """A sentence for each subject that is not wholly measured."""
    return [f"{s.label}: {s.status}, because {s.reason}" for s in bench.subjects if s.status != "measured"]


def _verdict(compared: Comparison, unsound: list[str]) -> Verdict:
    """What the page says first: the ratios, and what keeps one from relying on them."""
    bench = compared.bench
    rows = [row for row in compared.rows if row.estimate is not None]
    first = [row for row in rows if row.metric == rows[0].metric]
    ratios = [(bench.subject(row.subject).label, row.ratio.value) for row in first if row.ratio]
    told = listed([f"{label} {format_number(value, 2)} times" for label, value in ratios])
    if len(ratios) > MOST_TOLD:
        values = [value for _, value in ratios]
        told = f"the others from {format_number(min(values), 2)} to {format_number(max(values), 2)} times"
    said = f"{bench.title}: measured." if rows else "No subject could be measured."
    if told:
        label = bench.subject(bench.baseline).label
        said = sentence(f"{first[0].metric.label}: {told} {'the host' if bench.baseline == 'host' else label}")
    return account.verdict(
        said,
        measured=bool(rows),
        whole=all(subject.status in ("measured", "skipped") for subject in bench.subjects) and bench.complete,
        unsound=unsound,
        unsteady=[],
        details=reasons(bench),
        facts=[(quantity(r.estimate.value, r.metric.unit), compared.label(r)) for r in first if r.estimate],
    )


def _figures(shown: Table, sources: list[str]) -> Section:
    note = (
        "Medians over the repetitions with 95 % bootstrap intervals; how each figure is made: limosa's docs/bench.md."
    )
    blocks: list[Block] = [shown, *[Text(f"Reference: {source}.", "small") for source in sources]]
    return Section(title="Figures", identity="figures", blocks=blocks, note=note)


def _repetitions(plot: Plot | None) -> Section:
    if plot is None:
        empty = Text("There is no repetition to draw.", "empty")
        return Section(title="Repetitions", identity="repetitions", blocks=[empty])
    return Section(title="Repetitions", identity="repetitions", blocks=[plot], note=plot.legend)


def _plot(compared: Comparison) -> Plot | None:
    """A pane a metric, a line a subject; None without any repetition."""
    bench = compared.bench
    panes = [pane for metric in bench.metrics if (pane := _pane(compared, metric)) is not None]
    if not panes:
        return None
    legend = "Each point is a repetition, the bar its median's 95 % interval, the tick the median"
    legend += ", the diamond a reference from elsewhere." if bench.references else "."
    return Plot(name="bench", label=bench.title, legend=legend, panes=panes)


def _pane(compared: Comparison, metric: Metric) -> Dots | None:
    bench = compared.bench
    values = {s.label: found for s in bench.subjects if (found := bench.values(s.name, metric.name))}
    if not values:
        return None
    unit, factor = scale(metric.unit, max(r.value for found in values.values() for r in found))
    references = [
        (bench.subject(r.subject).label, r.value / factor) for r in bench.references if r.metric == metric.name
    ]
    return Dots(
        title=metric.label,
        unit=unit,
        subjects=list(values),
        points=[(label, r.value / factor) for label, found in values.items() for r in found],
        middles=[
            _middle(bench.subject(row.subject).label, row.estimate, metric, factor)
            for row in compared.rows
            if row.metric == metric and row.estimate is not None
        ],
        references=[(label, value) for label, value in references if label in values],
    )


def _middle(label: str, estimate: Estimate, metric: Metric, factor: float) -> Middle:
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    said = quantity(estimate.value, metric.unit)
    return Middle(label, estimate.value / factor, low / factor, high / factor, said)


_SETTINGS = {"time_s": ("Time of a repetition", "{} s"), "repeat": ("Repetitions", "{}"), "seed": ("Seed", "{}")}
_MACHINE = {"cpu_model": "CPU", "cpus": "CPUs", "kernel": "Kernel", "governor": "Frequency governor"}


def _machine(bench: Bench) -> list[tuple[str, str]]:
    found = bench.machine
    rows = [(label, str(found[name])) for name, label in _MACHINE.items() if found.get(name)]
    if found.get("memory_bytes"):
        rows.append(("Memory", size(found["memory_bytes"])))
    told = {when: found.get(f"load_average_{when}") for when in ("before", "after")}
    loads = [f"{load} {when}" for when, load in told.items() if load is not None]
    return [*rows, ("Load average", ", ".join(loads))] if loads else rows


def _subjects(bench: Bench) -> list[tuple[str, str]]:
    """The accelerator of each, and the file that did the work: the same one is told once."""
    measured = [s for s in bench.subjects if s.status != "skipped"]
    rows = [(capital(s.label), f"{s.accel}: {s.accel_reason}".removesuffix(": ")) for s in measured if s.accel]
    same: dict[tuple[str, str], list[str]] = {}
    for subject in measured:
        for file, digest in list(subject.files.items())[:1]:
            same.setdefault((Path(file).name, digest), []).append(subject.label)
    return rows + [(f"SHA-256 of {name}", f"{digest} ({', '.join(of)})") for (name, digest), of in same.items()]
