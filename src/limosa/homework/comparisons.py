"""A bench in the handout: its table, its plot and what follows from it."""

from __future__ import annotations

from typing import Any

from limosa.bench import comparison, narration, soundness
from limosa.bench.comparison import Row
from limosa.bench.during import read as read_during
from limosa.bench.during_format import DURING
from limosa.bench.during_table import ratio, table
from limosa.bench.format import BENCH, Bench
from limosa.homework import answers
from limosa.report import during, sections, vega
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE, Theme
from limosa.report.vega import Spec
from limosa.results.store import RunDirectory
from limosa.results.tables import NO_READING


def shown(run: RunDirectory, name: str) -> list[Html]:
    """Everything of one bench; *name* makes its plots' identities. Raises LimosaError for a damaged run."""
    if run.has(DURING):
        return _during(run, name)
    bench = run.read(BENCH)
    rows = comparison.compare(bench)
    parts = [_rows(bench, rows)]
    plot = spec(bench, rows, PAGE)
    if plot is not None:
        parts.append(sections.figure(f"{name}-plot", plot, bench.title))
    left_out = [s for s in bench.subjects if s.status != "measured"]
    parts += [tag("p", f"{s.label}: {s.status}. {s.reason}", class_="outcome") for s in left_out]
    found = soundness.findings(bench)
    if found:
        careful = tag("ul", [tag("li", f"{each.severity}: {each.text}") for each in found], class_="explained")
        parts += [tag("h3", "To be read with care"), careful]
    return [*parts, *_said(narration.narrate(run))]


def _said(sentences: list[str]) -> list[Html]:
    if not sentences:
        return [tag("p", "Nothing follows from these figures beyond what the table shows.", class_="empty")]
    return [tag("h3", "What follows"), tag("ul", [tag("li", each) for each in sentences], class_="explained")]


def _during(run: RunDirectory, name: str) -> list[Html]:
    _, found = read_during(run)
    shown = table(found)
    parts = [_table(list(shown.columns), [list(row) for row in shown.rows])]
    note = "Shaded: the migration, and strongly the blackout in it. The dashed line is 95 % of the level before. Each"
    note += " load had a migration of its own, because CPU and network loads disturb each other."
    plot = during.spec(found, PAGE)
    if plot is not None:
        parts += [tag("p", note, class_="note"), sections.figure(f"{name}-plot", plot, "Through the migration")]
    return [*parts, *_said(narration.narrate(run))]


def _table(head: list[str], rows: list[list[str]]) -> Html:
    cells = [tag("th", each, scope="col") for each in head]
    body = [tag("tr", [tag("td", cell) for cell in row]) for row in rows]
    return tag("div", tag("table", tag("thead", tag("tr", cells)), tag("tbody", body), class_="wide"),
               class_="scroll", tabindex="0")  # fmt: skip


def _rows(bench: Bench, rows: list[Row]) -> Html:
    """A row a subject and metric; the number of repetitions stands beside the interval."""
    body = []
    for row in rows:
        subject, estimate = bench.subject(row.subject), row.estimate
        if estimate is None:
            body.append([subject.label, row.metric.label, subject.status, NO_READING, NO_READING])
            continue
        times = f"{estimate.count} repetition{'s' if estimate.count > 1 else ''}"
        baseline = row.subject == bench.baseline
        share = "1 (the measure)" if baseline else ratio(row.ratio)
        body.append([subject.label, row.metric.label, amount(estimate.value, row.metric.unit), share, times])
        if estimate.low is not None and estimate.high is not None:
            low, high = amount(estimate.low, row.metric.unit), amount(estimate.high, row.metric.unit)
            body[-1][-1] += f", 95 % {low} to {high}"
    base = bench.subject(bench.baseline).label if bench.baseline else "the baseline"
    return _table(["Where", "What", "Median", f"Ratio to {base}", "Known by"], body)


def amount(value: float, unit: str) -> str:
    """A figure with the unit that people use for it."""
    if unit == "bit/s":
        return f"{value / 1e6:.0f} Mbit/s"
    if unit == "s":
        return f"{value * 1e3:.3g} ms"
    if unit == "bytes/s":
        return f"{value / 2**20:.0f} MiB/s"
    if unit == "share":
        return f"{value:.2%}"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def document() -> Html:
    """The source document's CPU figures; they are shown whether ours could be measured or not."""
    host = dict(answers.DOCUMENT_CPU)["host"]
    rows = [[name, f"{count:,}", f"{count / 10:,.0f} events/s", f"{count / host:.2f}"]
            for name, count in answers.DOCUMENT_CPU]  # fmt: skip
    return tag(
        "div",
        tag("h3", "The source document's figures, beside ours"),
        _table(["Where", "Events in 10 s", "A second", "Ratio to its host"], rows),
        tag("p", answers.DOCUMENT_REMARK, class_="note"),
    )


def spec(bench: Bench, rows: list[Row], theme: Theme) -> Spec | None:
    """A pane a metric: the median as a bar, its interval as a line; None when nothing was measured."""
    panes = []
    for metric in bench.metrics:
        mine = [row for row in rows if row.metric.name == metric.name and row.estimate is not None]
        if mine:
            panes.append(_pane(bench, mine, theme))
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 22} if panes else None


def _pane(bench: Bench, rows: list[Row], theme: Theme) -> Spec:
    metric = rows[0].metric
    factor, unit = {"bit/s": (1e-6, "Mbit/s"), "s": (1e3, "ms"), "bytes/s": (2**-20, "MiB/s")}.get(
        metric.unit, (1.0, metric.unit)
    )
    values: list[dict[str, Any]] = []
    for row in rows:
        assert row.estimate is not None
        low, high = row.estimate.low, row.estimate.high
        values.append(
            {
                "subject": bench.subject(row.subject).label,
                "value": row.estimate.value * factor,
                "low": None if low is None else low * factor,
                "high": None if high is None else high * factor,
            }
        )
    axis = {"title": None, "domain": False, "ticks": False, "minExtent": 150, "maxExtent": 150, "labelLimit": 150}
    y = {"field": "subject", "type": "nominal", "sort": None, "axis": axis}
    x = {"field": "value", "type": "quantitative", "scale": {"zero": True}, "axis": {"title": unit, "tickCount": 6}}
    bar = {"mark": {"type": "bar", "height": {"band": 0.6}, "color": theme["blue"], "opacity": 0.75}}
    rule = {"mark": {"type": "rule", "strokeWidth": 2, "color": theme["ink"]},
            "transform": [{"filter": "datum.low !== null"}]}  # fmt: skip
    return {
        "title": metric.label,
        "width": 900,
        "height": 28 * len(values),
        "data": {"values": values},
        "layer": [
            {**bar, "encoding": {"x": x, "y": y}},
            {**rule, "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y}},
        ],
    }
