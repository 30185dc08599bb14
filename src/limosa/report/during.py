"""A migration's cost over time as Vega-Lite: one pane a measure, with start, blackout and end marked."""

from __future__ import annotations

from typing import Any

import numpy as np

from limosa.bench.during.compare import Measure, Moved
from limosa.bench.during.course import SHARE, Moments
from limosa.report import vega
from limosa.report.theme import Theme
from limosa.report.vega import Spec

MOST_POINTS = 900
"""A pane is some 900 px wide; beyond, each group keeps its lowest and its highest sample."""

_COLOURS = {
    "sysbench": "green",
    "cpu-given": "orange",
    "cpu-speed": "green",
    "cpu-loop": "green",
    "throughput": "blue",
    "round-trip": "purple",
}


def spec(found: list[Moved], theme: Theme) -> Spec | None:
    """All panes one under another; None when nothing was measured."""
    panes = [
        _pane(moved, measure, moved.moments, theme)
        for moved in found
        for measure in moved.measures
        if moved.moments is not None and len(measure.samples)
    ]
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 26} if panes else None


def rows(measure: Measure, moments: Moments) -> list[dict[str, Any]]:
    """Samples as t (s since the migration began) and value; what is not finite is left out."""
    found = measure.samples.inside(moments.begin_ns, moments.finish_ns)
    time = (found.end_ns - moments.start_ns) / 1e9
    scale = 1e-6 if measure.unit == "bit/s" else 1.0
    finite = np.isfinite(found.value)
    time, value = time[finite], found.value[finite] * scale
    kept = np.arange(len(value))
    if len(value) > MOST_POINTS:
        groups = np.array_split(kept, MOST_POINTS // 2)
        kept = np.unique([g[np.argmin(value[g])] for g in groups] + [g[np.argmax(value[g])] for g in groups])
    return [{"t": round(float(time[i]), 4), "value": float(f"{value[i]:.5g}")} for i in kept]


def _pane(moved: Moved, measure: Measure, moments: Moments, theme: Theme) -> Spec:
    def at(time_ns: int) -> float:
        return (time_ns - moments.start_ns) / 1e9

    domain = [at(moments.begin_ns), at(moments.finish_ns)]
    axis = {"title": "seconds since the migration began", "grid": True, "tickCount": 10}
    x = {"field": "t", "type": "quantitative", "scale": {"domain": domain, "nice": False}, "axis": axis}
    unit = "Mbit/s" if measure.unit == "bit/s" else measure.unit
    log = measure.unit == "ms"
    scale = {"type": "log"} if log else {"zero": True}
    y_axis: Spec = {"title": unit, "tickCount": 4, "minExtent": 56, "maxExtent": 56}
    if not log:
        y_axis["format"] = "~s"  # 200k: long figures would cover the title
    y = {"field": "value", "type": "quantitative", "scale": scale, "axis": y_axis}
    colour = theme[_COLOURS.get(measure.name, "blue")]
    layers = [_span(at(moments.start_ns), at(moments.end_ns), theme["span"], 0.8, x)]
    marks = [(0.0, "start"), (at(moments.end_ns), "end")]
    if moments.stop_ns is not None and moments.resume_ns is not None:
        layers.append(_span(at(moments.stop_ns), at(moments.resume_ns), theme["blackout"], 0.9, x))
        marks.insert(1, (at(moments.stop_ns), "blackout"))
    mark: Spec = {
        "type": "line",
        "color": colour,
        "strokeWidth": 1.2,
        "clip": True,
        "point": measure.name in ("sysbench", "cpu-given", "cpu-speed"),
    }
    layers.append({"data": {"values": rows(measure, moments)}, "mark": mark, "encoding": {"x": x, "y": y}})
    if measure.course is not None and measure.course.before is not None:
        level = measure.course.before.value * (1e-6 if measure.unit == "bit/s" else 1.0)
        back = level * SHARE if measure.samples.more_is_better else level / SHARE
        rule = {"type": "rule", "strokeDash": [4, 3], "color": theme["ink"], "opacity": 0.5}
        layers.append({"data": {"values": [{"value": back}]}, "mark": rule, "encoding": {"y": y}})
    for height, (time, word) in enumerate(marks):
        layers.append(_word(time, word, height, theme, x))
    again = f", repetition {moved.part.repetition}" if moved.part.repetition > 1 else ""
    title = f"{measure.label} ({moved.part.method}{again})"
    return {"title": title, "width": 900, "height": 120, "layer": layers}


def _span(start: float, end: float, colour: str, opacity: float, x: Spec) -> Spec:
    mark = {"type": "rect", "color": colour, "opacity": opacity, "stroke": colour, "clip": True}
    return {"data": {"values": [{"t": start, "end": end}]}, "mark": mark, "encoding": {"x": x, "x2": {"field": "end"}}}


def _word(time: float, word: str, height: int, theme: Theme, x: Spec) -> Spec:
    mark = {"type": "text", "align": "left", "dx": 3, "y": 8 + 11 * height, "fill": theme["ink"], "fontSize": 10}
    return {
        "data": {"values": [{"t": time, "word": word}]},
        "layer": [
            {"mark": {"type": "rule", "color": theme["ink"], "opacity": 0.35}, "encoding": {"x": x}},
            {"mark": mark, "encoding": {"x": x, "text": {"field": "word"}}},
        ],
    }
