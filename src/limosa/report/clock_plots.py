"""The clocks side by side as Vega-Lite: each pause by each clock, and calibration errors. One unit for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limosa.report import vega
from limosa.report.data import RunData
from limosa.report.theme import Theme
from limosa.report.vega import Spec
from limosa.results import figures
from limosa.results.metrics import CLOCKS, REFERENCE

LABELS: Mapping[str, str] = {metric.key: f"{clock.number}  {metric.title}" for metric, clock in CLOCKS}
"""By key: what each clock is called where they stand side by side, the reference first."""


def pauses_rows(data: RunData) -> list[dict[str, Any]]:
    """One row per migration and clock, missing readings included (``ms`` None)."""
    rows = []
    for row in data.summary.migrations:
        for order, (metric, clock) in enumerate(CLOCKS):
            reading = metric.of(row)
            rows.append(
                {
                    "move": f"{row.index}   {row.source} → {row.target}",
                    "clock": LABELS[metric.key],
                    "order": order,
                    "source": clock.source,
                    "ms": reading,
                    "text": "no reading" if reading is None else figures.milliseconds(reading),
                    "reference": REFERENCE.of(row),
                }
            )
    return rows


def spec(data: RunData, theme: Theme) -> Spec | None:
    """Bars per migration; None when no clock has a reading for any migration."""
    rows = pauses_rows(data)
    moves = list(dict.fromkeys(row["move"] for row in rows if row["ms"] is not None))
    if not moves:
        return None
    largest = max(row["ms"] for row in rows if row["ms"] is not None)
    panes = []
    for number, move in enumerate(moves):
        last = number == len(moves) - 1
        panes.append(_move_pane(move, [row for row in rows if row["move"] == move], largest, theme, last=last))
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 22}


def _move_pane(move: str, rows: list[dict[str, Any]], largest: float, theme: Theme, *, last: bool) -> Spec:
    y = {
        "field": "clock",
        "type": "nominal",
        "sort": list(LABELS.values()),
        "axis": {
            "title": None,
            "domain": False,
            "ticks": False,
            "labelColor": theme["ink"],
            "labelPadding": 8,
            "labelLimit": 150,
            "minExtent": 140,
            "maxExtent": 140,
        },
    }
    x = {
        "field": "ms",
        "type": "quantitative",
        # Room on the right for the figure that ends each bar.
        "scale": {"domain": [0, largest * 1.18], "nice": False},
        "axis": {
            "title": REFERENCE.unit if last else None,
            "labels": last,
            "ticks": last,
            "domain": last,
            "tickCount": 6,
        },
    }
    color = {
        "field": "source",
        "type": "nominal",
        "legend": None,
        "scale": {
            "domain": list(dict.fromkeys(clock.source for _, clock in CLOCKS)),
            "range": [theme["soft"], theme["blue"], theme["orange"]],
        },
    }
    bar = {
        "mark": {"type": "bar", "height": {"band": 0.62}, "cornerRadiusEnd": 3},
        "encoding": {"y": y, "x": x, "color": color},
    }
    figure: Spec = {
        "mark": {"type": "text", "align": "left", "dx": 6, "fontWeight": 600, "fill": theme["ink"]},
        "transform": [{"calculate": "datum.ms === null ? 0 : datum.ms", "as": "at"}],
        "encoding": {"y": y, "x": {**x, "field": "at"}, "text": {"field": "text"}},
    }
    halo = {**figure, "mark": {**figure["mark"], "stroke": theme["paper"], "strokeWidth": 4}}
    rule = {
        "transform": [{"filter": "datum.order === 0 && datum.reference !== null"}],
        "mark": {"type": "rule", "strokeDash": [4, 3], "color": theme["ink"], "opacity": 0.55},
        "encoding": {"x": {**x, "field": "reference"}},
    }
    return {
        "title": move,
        "width": 900,
        "height": 138,
        "data": {"values": rows},
        "layer": [rule, bar, halo, figure],
    }


def errors(data: RunData) -> list[dict[str, Any]]:
    """Calibration: a row per pause and clock with a reading; ``error`` is reading minus what the guest lost, in ms."""
    rows = []
    for number, pause in enumerate(data.summary.pauses):
        for order, (metric, clock) in enumerate(CLOCKS):
            value, lost_ms = metric.of(pause.clocks), REFERENCE.of(pause.clocks)
            if value is not None and lost_ms is not None and metric is not REFERENCE:
                rows.append(
                    {
                        "pause": number + 1,
                        "requested": pause.requested_ms,
                        "requested_label": f"{pause.requested_ms:g} ms",
                        "field": metric.key,
                        "clock": LABELS[metric.key],
                        "order": order,
                        "error": value - lost_ms,
                        "source": clock.source,
                    }
                )
    return rows


def calibration_spec(data: RunData, theme: Theme) -> Spec | None:
    """The error of each clock per requested pause, the median as a bar; None without pauses."""
    rows = errors(data)
    if not rows:
        return None
    clocks = list(dict.fromkeys(row["clock"] for row in sorted(rows, key=lambda r: int(r["order"]))))
    panes = [
        _error_pane(clock, [row for row in rows if row["clock"] == clock], theme, last=clock == clocks[-1])
        for clock in clocks
    ]
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 22}


def _error_pane(clock: str, rows: list[dict[str, Any]], theme: Theme, *, last: bool) -> Spec:
    x = {"field": "error", "type": "quantitative", "scale": {"nice": True, "zero": True}}
    x["axis"] = {
        "tickCount": 6,
        "title": f"error in {REFERENCE.unit}: the clock's reading minus the time that the guest's own clock lost"
        if last
        else None,
    }
    y = {
        "field": "requested_label",
        "type": "nominal",
        "sort": {"field": "requested"},
        "axis": {"title": None, "domain": False, "ticks": False, "minExtent": 70, "maxExtent": 70},
    }
    color = theme["orange" if rows[0]["source"].startswith("the network") else "blue"]
    zero = {
        "data": {"values": [{"error": 0}]},
        "mark": {"type": "rule", "color": theme["ink"], "opacity": 0.5},
        "encoding": {"x": x},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 46, "opacity": 0.55, "color": color},
        "encoding": {"x": x, "y": y},
    }
    median = {
        "mark": {"type": "tick", "thickness": 2.5, "size": 15, "color": theme["ink"]},
        "encoding": {"x": {**x, "aggregate": "median"}, "y": y},
    }
    return {
        "title": clock,
        "width": 900,
        "height": 20 * len({row["requested"] for row in rows}),
        "data": {"values": rows},
        "layer": [zero, points, median],
    }
