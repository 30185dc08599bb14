"""The report of a bench: a table with medians, intervals and ratios, a plot with every repetition, and the findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from limosa import untrusted
from limosa.bench import comparison, narration, phrases, soundness, tables
from limosa.bench.phrases import listed
from limosa.bench.repetitions import BENCH, Bench, Metric
from limosa.errors import LimosaError
from limosa.report import commands, sections, vega
from limosa.report.data import RunData
from limosa.report.figures import mebibytes
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE, Theme
from limosa.report.vega import Spec
from limosa.report.verdict import Tone, Verdict

MOST_TOLD = 2
"""Ratios in the first sentence: more are for the table."""


def load(run: Path) -> Bench | None:
    """The bench of the run directory *run*; None when it has none. Raises LimosaError for a damaged one."""
    path = run / BENCH.file
    try:
        return untrusted.decode(path.read_bytes(), type=Bench)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LimosaError(f"{path} cannot be read: {error}", hint="docs/bench.md describes the file") from error


def verdict(bench: Bench) -> Verdict:
    """What the page says first: the ratios, and what keeps one from relying on them."""
    found = soundness.findings(bench)
    unsound = [finding for finding in found if finding.severity == "unsound"]
    rows = [row for row in comparison.compare(bench) if row.estimate is not None]
    first = [row for row in rows if row.metric == rows[0].metric]
    facts = [(tables.quantity(r.estimate.value, r.metric.unit), _label(bench, r)) for r in first[:5] if r.estimate]
    details = [finding.text for finding in unsound] + tables.reasons(bench)
    if not rows:
        return _verdict("bad", "Not measured", "No subject could be measured.", details, facts)
    ratios = [r.ratio.value for r in first if r.ratio]
    told = listed([f"{bench.subject(r.subject).label} {r.ratio.value:.2g} times" for r in first if r.ratio])
    if len(ratios) > MOST_TOLD:
        told = f"the others from {min(ratios):.2g} to {max(ratios):.2g} times"
    sentence = phrases.sentence(f"{first[0].metric.label}: {told} {_baseline(bench)}") if told else ""
    sentence = sentence or f"{bench.title}: measured."
    if unsound:
        return _verdict("warn", "Unsound", sentence, details, facts)
    whole = all(subject.status in ("measured", "skipped") for subject in bench.subjects) and bench.complete
    return _verdict("good" if whole else "warn", "Measured" if whole else "Measured in part", sentence, details, facts)


def _baseline(bench: Bench) -> str:
    label = bench.subject(bench.baseline).label
    return "the host" if bench.baseline == "host" else label


def _verdict(tone: Tone, mark: str, sentence: str, details: list[str], facts: list[tuple[str, str]]) -> Verdict:
    return Verdict(tone=tone, mark=mark, sentence=sentence, details=details, facts=facts)


def _label(bench: Bench, row: comparison.Row) -> str:
    subject = bench.subject(row.subject).label
    return subject if len(bench.metrics) == 1 else f"{subject}, {row.metric.label}"


def parts(data: RunData, bench: Bench) -> list[Html | None]:
    """The sections of the page below its head."""
    return [_figures(bench), _plots(bench), _follows(bench), _findings(bench), _circumstances(bench), _commands(data)]


def _figures(bench: Bench) -> Html:
    note = "Medians over the repetitions with 95 % bootstrap intervals; docs/bench.md says how each figure is made."
    return sections.part("Figures", *figures(bench), identity="figures", note=note)


def figures(bench: Bench) -> list[Html]:
    """The table, and where figures from elsewhere in it are from."""
    return [
        sections.plain_table(tables.bench_table(bench)),
        *[tag("p", f"Reference: {text}.", class_="small") for text in _sources(bench)],
    ]


def _sources(bench: Bench) -> list[str]:
    return list(dict.fromkeys(reference.source for reference in bench.references))


def _plots(bench: Bench) -> Html:
    plot = tag("p", "There is no repetition to draw.", class_="empty")
    note = ""
    found = spec(bench, PAGE)
    if found is not None:
        plot, note = sections.figure("bench", found, bench.title), legend(bench)
    return sections.part("Repetitions", plot, identity="repetitions", note=note)


def legend(bench: Bench) -> str:
    """What is what in the plot."""
    note = "Each point is a repetition, the bar its median's 95 % interval, the tick the median"
    return note + (", the diamond a reference from elsewhere." if bench.references else ".")


def _follows(bench: Bench) -> Html | None:
    said = narration.of_bench(bench)
    return sections.part("What follows", sections.bullets(said), identity="follows") if said else None


def _findings(bench: Bench) -> Html | None:
    found = soundness.findings(bench)
    if not found:
        return None
    return sections.part("What to know before comparing", sections.findings(found), identity="findings")


def _circumstances(bench: Bench) -> Html:
    rows = [*_settings(bench), *_machine(bench)]
    measured = [s for s in bench.subjects if s.status != "skipped"]
    rows += [(phrases.capital(s.label), f"{s.accel}: {s.accel_reason}".removesuffix(": ")) for s in measured if s.accel]
    same: dict[tuple[str, str], list[str]] = {}
    for subject in measured:
        for file, digest in list(subject.files.items())[:1]:
            same.setdefault((Path(file).name, digest), []).append(subject.label)
    rows += [(f"SHA-256 of {name}", f"{digest} ({', '.join(labels)})") for (name, digest), labels in same.items()]
    listed_ = tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="meanings")
    return sections.part("Circumstances", listed_, identity="environment")


_SETTINGS = {"time_s": ("Time of a repetition", "{} s"), "repeat": ("Repetitions", "{}"), "seed": ("Seed", "{}")}
_MACHINE = {"cpu_model": "CPU", "cpus": "CPUs", "kernel": "Kernel", "governor": "Frequency governor"}


def _settings(bench: Bench) -> list[tuple[str, str]]:
    shown = []
    for name, value in bench.settings.items():
        label, form = _SETTINGS.get(name, (phrases.capital(name.replace("_", " ")), "{}"))
        if name == "udp_bits_per_s":
            label, value = "Rate of the datagrams", tables.quantity(float(value), "bit/s")
        shown.append((label, form.format(", ".join(map(str, value)) if isinstance(value, list) else value)))
    return shown


def _machine(bench: Bench) -> list[tuple[str, str]]:
    found = bench.machine
    rows = [(label, str(found[name])) for name, label in _MACHINE.items() if found.get(name)]
    if found.get("memory_bytes"):
        rows.append(("Memory", mebibytes(found["memory_bytes"])))
    loads = [str(found[name]) for name in ("load_average_before", "load_average_after") if name in found]
    return [*rows, ("Load average", " before, ".join(loads) + (" after" if len(loads) > 1 else " before"))]


def _commands(data: RunData) -> Html:
    return sections.part("Commands", commands.section(data), identity="commands")


def spec(bench: Bench, theme: Theme) -> Spec | None:
    """A pane a metric, a line a subject; None without any repetition."""
    panes = [pane for metric in bench.metrics if (pane := _pane(bench, metric, theme)) is not None]
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 22} if panes else None


def _pane(bench: Bench, metric: Metric, theme: Theme) -> Spec | None:
    labels = [s.label for s in bench.subjects if bench.values(s.name, metric.name)]
    if not labels:
        return None
    largest = max(r.value for name in bench.names for r in bench.values(name, metric.name))
    unit, factor = tables.scale(metric.unit, largest)
    points: list[dict[str, Any]] = [
        {"subject": s.label, "value": r.value / factor}
        for s in bench.subjects
        for r in bench.values(s.name, metric.name)
    ]
    rows = [row for row in comparison.compare(bench) if row.metric == metric and row.estimate is not None]
    medians = [
        {
            "subject": bench.subject(row.subject).label,
            "value": row.estimate.value / factor,
            "low": (row.estimate.value if row.estimate.low is None else row.estimate.low) / factor,
            "high": (row.estimate.value if row.estimate.high is None else row.estimate.high) / factor,
            "text": tables.quantity(row.estimate.value, metric.unit),
        }
        for row in rows
        if row.estimate is not None
    ]
    references = [
        {"subject": bench.subject(r.subject).label, "value": r.value / factor}
        for r in bench.references
        if r.metric == metric.name and bench.subject(r.subject).label in labels
    ]
    layers = _layers(points, medians, references, labels, unit, theme)
    return {"title": metric.label, "width": 900, "height": 34 * len(labels), "layer": layers}


def _layers(
    points: list[dict[str, Any]],
    medians: list[dict[str, Any]],
    references: list[dict[str, Any]],
    labels: list[str],
    title: str,
    theme: Theme,
) -> list[Spec]:
    axis = {"title": None, "domain": False, "ticks": False, "labelLimit": 180, "minExtent": 170, "maxExtent": 170}
    y = {"field": "subject", "type": "nominal", "sort": labels, "axis": axis}
    # Rates begin at zero, so that lengths may be compared by eye.
    x = {"field": "value", "type": "quantitative", "scale": {"zero": True}, "axis": {"title": title, "tickCount": 6}}
    point = {"type": "point", "filled": True, "size": 40, "opacity": 0.5, "color": theme["blue"]}
    bar = {"type": "bar", "height": 8, "opacity": 0.45, "color": theme["blue"]}
    tick = {"type": "tick", "thickness": 3, "size": 20, "color": theme["ink"]}
    diamond = {"type": "point", "shape": "diamond", "filled": True, "size": 70, "color": theme["orange"]}
    text = {"type": "text", "align": "left", "dx": 8, "dy": -11, "fontWeight": 600, "fill": theme["ink"]}
    return [
        {
            "data": {"values": medians},
            "mark": bar,
            "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {"data": {"values": points}, "mark": point, "encoding": {"y": y, "x": x}},
        {"data": {"values": references}, "mark": diamond, "encoding": {"y": y, "x": x}},
        {"data": {"values": medians}, "mark": tick, "encoding": {"y": y, "x": x}},
        {"data": {"values": medians}, "mark": text, "encoding": {"y": y, "x": x, "text": {"field": "text"}}},
    ]
