"""Plots of an account as Vega-Lite: panes of single values, and panes of one measure over time."""

from __future__ import annotations

from typing import Any

from limosa.report import vega
from limosa.report.theme import Theme
from limosa.report.vega import Spec
from limosa.results.account import Course, Dots, Plot

WIDTH = 900
"""px, of every pane."""


def spec(plot: Plot, theme: Theme) -> Spec:
    """All panes of *plot* one under another, as a picture has them."""
    panes = [_pane(pane, theme) for pane in plot.panes]
    return {"config": vega.config(theme), "vconcat": panes, "spacing": 22 if isinstance(plot.panes[0], Dots) else 26}


def each(plot: Plot, theme: Theme) -> list[tuple[str, Spec]]:
    """Its panes apart, as a page has them, where a sheet of paper may end between two: (title, specification)."""
    return [(pane.title, {"config": vega.config(theme), **_pane(pane, theme)}) for pane in plot.panes]


def _pane(pane: Dots | Course, theme: Theme) -> Spec:
    return _dots(pane, theme) if isinstance(pane, Dots) else _course(pane, theme)


def _dots(pane: Dots, theme: Theme) -> Spec:
    points = [{"subject": subject, "value": value} for subject, value in pane.points]
    references = [{"subject": subject, "value": value} for subject, value in pane.references]
    middles: list[dict[str, Any]] = [
        {"subject": m.subject, "value": m.value, "low": m.low, "high": m.high, "text": m.text} for m in pane.middles
    ]
    highest = max([v for _, v in (*pane.points, *pane.references)] + [m.high for m in pane.middles])
    axis = {"title": None, "domain": False, "ticks": False, "labelLimit": 180, "minExtent": 170, "maxExtent": 170}
    y = {"field": "subject", "type": "nominal", "sort": pane.subjects, "axis": axis}
    # Values begin at zero, so that lengths may be compared by eye.
    x = {
        "field": "value",
        "type": "quantitative",
        "scale": {"zero": True},
        "axis": {**vega.counted(pane.unit, highest), "tickCount": 6},
    }
    place = {"y": y, "x": x}
    point = {"type": "point", "filled": True, "size": 40, "opacity": 0.5, "color": theme["blue"]}
    bar = {"type": "bar", "height": 8, "opacity": 0.45, "color": theme["blue"]}
    tick = {"type": "tick", "thickness": 3, "size": 20, "color": theme["ink"]}
    diamond = {"type": "point", "shape": "diamond", "filled": True, "size": 70, "color": theme["orange"]}
    text = {"type": "text", "dy": -12, "fontWeight": 600, "fill": theme["ink"]}
    # A figure is written towards the middle, so that none reaches beyond the pane.
    right = [middle for middle in middles if middle["value"] > highest / 2]
    left = [middle for middle in middles if middle not in right]
    said = {**place, "text": {"field": "text"}}
    layers = [
        _layer(middles, bar, {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}}),
        _layer(points, point, place),
        _layer(references, diamond, place),
        _layer(middles, tick, place),
        _layer(left, {**text, "align": "left", "dx": 8}, said),
        _layer(right, {**text, "align": "right", "dx": -8}, said),
    ]
    return {"title": pane.title, "width": WIDTH, "height": 34 * len(pane.subjects), "layer": layers}


def _layer(values: list[dict[str, Any]], mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _course(pane: Course, theme: Theme) -> Spec:
    axis = {"title": "seconds since the migration began", "grid": True, "tickCount": 10}
    domain = [pane.begin_s, pane.finish_s]
    x = {"field": "t", "type": "quantitative", "scale": {"domain": domain, "nice": False}, "axis": axis}
    highest = max((value for _, value in pane.samples), default=0.0)
    y_axis = {**vega.counted(pane.unit, highest), "tickCount": 4, "minExtent": 56, "maxExtent": 56}
    scale = {"type": "log"} if pane.logarithmic else {"zero": True}
    y = {"field": "value", "type": "quantitative", "scale": scale, "axis": y_axis}
    layers = [_span(0.0, pane.end_s, theme["span"], 0.8, x)]
    marks = [(0.0, "start"), (pane.end_s, "end")]
    if pane.blackout_s is not None:
        layers.append(_span(*pane.blackout_s, theme["blackout"], 0.9, x))
        marks.insert(1, (pane.blackout_s[0], "blackout"))
    line = {"type": "line", "color": theme[pane.colour], "strokeWidth": 1.2, "clip": True, "point": pane.pointed}
    samples = [{"t": time, "value": value} for time, value in pane.samples]
    layers.append(_layer(samples, line, {"x": x, "y": y}))
    if pane.level is not None:
        rule = {"type": "rule", "strokeDash": [4, 3], "color": theme["ink"], "opacity": 0.5}
        layers.append(_layer([{"value": pane.level}], rule, {"y": y}))
    middle_s = (pane.begin_s + pane.finish_s) / 2
    layers += [_word(time, word, height, theme, x, time > middle_s) for height, (time, word) in enumerate(marks)]
    return {"title": pane.title, "width": WIDTH, "height": 120, "layer": layers}


def _span(start: float, end: float, colour: str, opacity: float, x: Spec) -> Spec:
    mark = {"type": "rect", "color": colour, "opacity": opacity, "stroke": colour, "clip": True}
    return _layer([{"t": start, "end": end}], mark, {"x": x, "x2": {"field": "end"}})


def _word(time: float, word: str, height: int, theme: Theme, x: Spec, late: bool) -> Spec:
    """A moment's name beside its line; *late*: before it, where there is more room. A halo keeps the samples off it."""
    side = {"align": "right", "dx": -4} if late else {"align": "left", "dx": 4}
    mark = {"type": "text", **side, "y": 8 + 13 * height, "fill": theme["ink"], "fontSize": 10}
    said = {"x": x, "text": {"field": "word"}}
    return {
        "data": {"values": [{"t": time, "word": word}]},
        "layer": [
            {"mark": {"type": "rule", "color": theme["ink"], "opacity": 0.35}, "encoding": {"x": x}},
            {"mark": {**mark, "stroke": theme["paper"], "strokeWidth": 3}, "encoding": said},
            {"mark": mark, "encoding": said},
        ],
    }
