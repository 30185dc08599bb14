"""The report of a bench: a table with medians, intervals and ratios, a plot with every repetition, and the findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from limosa.bench import comparison, soundness, tables
from limosa.bench.format import BENCH, Bench, Metric
from limosa.errors import LimosaError
from limosa.report import commands, sections, vega
from limosa.report.data import RunData
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE, Theme
from limosa.report.vega import Spec
from limosa.report.verdict import Tone, Verdict


def load(run: Path) -> Bench | None:
    """The bench of the run directory *run*; None when it has none. Raises LimosaError for a damaged one."""
    path = run / BENCH.file
    try:
        return msgspec.json.decode(path.read_bytes(), type=Bench)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise LimosaError(f"{path} cannot be read: {error}", hint="docs/bench.md describes the file") from error


def verdict(bench: Bench) -> Verdict:
    """What the page says first: the ratios, or what keeps one from giving them."""
    found = soundness.findings(bench)
    unsound = [finding for finding in found if finding.severity == "unsound"]
    rows = [row for row in comparison.compare(bench) if row.estimate is not None]
    facts = [(tables.quantity(r.estimate.value, r.metric.unit), _label(bench, r)) for r in rows[:5] if r.estimate]
    details = [finding.text for finding in unsound] + tables.reasons(bench)
    if not rows:
        return _verdict("bad", "Not measured", "No subject could be measured.", details, facts)
    if unsound:
        return _verdict("warn", "Unsound", "Measured, but something makes the comparison unsound.", details, facts)
    ratios = [r for r in rows if r.ratio is not None]
    told = "; ".join(
        f"{bench.subject(r.subject).label} {r.ratio.value:.2f} times {bench.subject(bench.baseline).label}"
        for r in ratios
        if r.ratio and r.metric == bench.metrics[0]
    )
    sentence = f"{bench.metrics[0].label}: {told}." if told else f"{bench.title}: measured."
    return _verdict("good", "Measured", sentence, details, facts)


def _verdict(tone: Tone, mark: str, sentence: str, details: list[str], facts: list[tuple[str, str]]) -> Verdict:
    return Verdict(tone=tone, mark=mark, sentence=sentence, details=details, facts=facts)


def _label(bench: Bench, row: comparison.Row) -> str:
    subject = bench.subject(row.subject).label
    return subject if len(bench.metrics) == 1 else f"{subject}, {row.metric.label}"


def parts(data: RunData, bench: Bench) -> list[Html | None]:
    """The sections of the page below its head."""
    return [_figures(bench), _plots(bench), _findings(bench), _circumstances(bench), _commands(data)]


def _figures(bench: Bench) -> Html:
    table = tables.bench_table(bench)
    head = tag("tr", [tag("th", name, scope="col") for name in table.columns])
    rows = [
        tag("tr", [tag("td", cell, class_="name" if i == 0 else "number") for i, cell in enumerate(row)])
        for row in table.rows
    ]
    found = tag("table", tag("thead", head), tag("tbody", rows))
    sources = [tag("p", f"Reference: {text}.", class_="small") for text in _sources(bench)]
    note = "Medians over the repetitions with 95 % bootstrap intervals; docs/bench.md says how each figure is made."
    return sections.part(
        "Figures", tag("div", found, class_="scroll", tabindex="0"), *sources, identity="figures", note=note
    )


def _sources(bench: Bench) -> list[str]:
    return list(dict.fromkeys(reference.source for reference in bench.references))


def _plots(bench: Bench) -> Html:
    found = spec(bench, PAGE)
    plot = tag("p", "There is no repetition to draw.", class_="empty")
    if found is not None:
        plot = sections.figure("bench", found, "Medians, intervals and every repetition")
    note = "Each point is a repetition, the bar its median's 95 % interval, the tick the median"
    note += ", the diamond a reference from elsewhere." if bench.references else "."
    return sections.part("Repetitions", plot, identity="repetitions", note=note)


def _findings(bench: Bench) -> Html | None:
    found = soundness.findings(bench)
    if not found:
        return None
    tones = {"unsound": "bad", "caution": "warn", "note": "good"}
    items = [tag("li", tag("span", f.severity, class_=f"pill {tones[f.severity]}"), f" {f.text}") for f in found]
    return sections.part("What to know before comparing", tag("ul", items), identity="findings")


def _circumstances(bench: Bench) -> Html:
    rows = [(name.replace("_", " "), str(value)) for name, value in {**bench.settings, **bench.machine}.items()]
    rows += [(s.label, f"{s.accel} {s.accel_reason}".strip()) for s in bench.subjects if s.accel]
    rows += [
        (f"{s.label}: {Path(file).name}", digest) for s in bench.subjects for file, digest in list(s.files.items())[:1]
    ]
    listed = tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="meanings")
    return sections.part("Circumstances", listed, identity="environment")


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
    return {"title": f"{metric.label} ({unit})", "width": 900, "height": 34 * len(labels), "layer": layers}


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
