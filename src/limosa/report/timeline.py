"""The timeline as one Vega-Lite specification: panes that share the time axis. Times in s, sizes in px.

What is drawn of a probe it says itself (``limosa.probes.pane``); no probe is named here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from limosa.probes import registry
from limosa.probes.pane import Pane, Series, Silence, Speed, Trip, Value
from limosa.probes.probe import Probe
from limosa.report import series, vega
from limosa.report.data import RunData
from limosa.report.theme import Theme
from limosa.report.vega import Spec

_Y_AXIS: Spec = {
    "tickCount": 4,
    "domain": False,
    "ticks": False,
    "labelPadding": 6,
    # One width for all panes, so that their time axes stand under each other.
    "minExtent": 44,
    "maxExtent": 44,
}


def _x(theme: Theme, *, last: bool) -> Spec:
    axis: Spec = {"grid": True, "tickCount": 8, "domain": last, "ticks": last, "labels": last}
    axis["title"] = "seconds since the run began" if last else None
    return {"field": "t", "type": "quantitative", "axis": axis}


def _y(field: str, unit: str, highest: float) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"zero": True, "nice": True},
        "stack": None,
        "axis": {**_Y_AXIS, **vega.counted(unit, highest)},
    }


def _log_y(field: str, unit: str, rows: list[series.Row]) -> Spec:
    """A logarithmic axis over whole powers of ten, so that 1 ms and a pause of 1 s are both seen."""
    lowest = min(row["low"] if "low" in row else row["high"] for row in rows)
    highest = max(row["high"] for row in rows)
    floor = 10.0 ** math.floor(math.log10(max(lowest, 0.01)))
    domain = [floor, max(highest * 1.3, floor * 10)]
    scale = {"type": "log", "domain": domain, "nice": False, "clamp": True}
    values = [10.0**power for power in range(-2, 6) if floor <= 10.0**power <= domain[1]]
    axis = {**_Y_AXIS, **vega.counted(unit, 0), "values": values, "labelOverlap": False}
    return {"field": field, "type": "quantitative", "scale": scale, "stack": None, "axis": axis}


def _shade(theme: Theme, x: Spec) -> list[Spec]:
    """The layers behind every pane: migrations lightly, blackouts strongly."""
    layers = []
    for kind, opacity in (("migration", 0.75), ("blackout", 0.6)):
        layers.append(
            {
                "data": {"name": "spans"},
                "transform": [{"filter": f"(datum.kind === 'migration') === {json.dumps(kind == 'migration')}"}],
                "mark": {
                    "type": "rect",
                    "clip": True,
                    "color": theme["span" if kind == "migration" else "blackout"],
                    "opacity": opacity,
                    # A blackout of 50 ms is a twentieth of a pixel on a long run: the edge keeps it visible.
                    "stroke": theme["blackout"] if kind == "blackout" else None,
                    "strokeWidth": 1 if kind == "blackout" else 0,
                },
                "encoding": {
                    "x": x,
                    "x2": {"field": "end"},
                },
            }
        )
    return layers


def _line(name: str, field: str, color: str, y: Spec, x: Spec, **mark: Any) -> Spec:
    return {
        "data": {"name": name},
        "mark": {
            "type": "line",
            "clip": True,
            "color": color,
            "strokeWidth": 1.3,
            "strokeCap": "round",
            **mark,
        },
        "encoding": {"x": x, "y": {**y, "field": field}, "detail": {"field": "segment"}},
    }


def _band(name: str, color: str, y: Spec, x: Spec) -> Spec:
    return {
        "data": {"name": name},
        "mark": {"type": "area", "clip": True, "color": color, "opacity": 0.28, "line": False},
        "encoding": {
            "x": x,
            "y": {**y, "field": "low"},
            "y2": {"field": "high"},
            "detail": {"field": "segment"},
        },
    }


def _text(text: str, at: int, color: str) -> Spec:
    mark = {
        "type": "text",
        "text": text,
        "x": at,
        "y": -13,
        "align": "left",
        "fill": color,
        "fontWeight": 600,
    }
    return {"data": {"values": [{}]}, "mark": {**mark, "fontSize": 12, "style": vega.BESIDE}}


def _pane(
    title: str, height: int, layers: list[Spec], theme: Theme, x: Spec, key: dict[str, str] | None = None
) -> Spec:
    """One plot. *key* gives the coloured names beside its title, in place of a legend: nothing to look up."""
    words, at = [_text(title, 0, theme["ink"])], round(7.4 * len(title)) + 18
    for label, color in (key or {}).items():
        words.append(_text(f"━ {label}", at, theme[color]))
        at += 34 + round(6.8 * len(label))
    return {
        "height": height,
        "width": 900,
        "layer": [*_shade(theme, x), *layers, *words],
        "resolve": {"scale": {"color": "independent"}},
    }


Drawable = tuple[Probe[Any], Series]
Datasets = dict[str, list[series.Row]]


def _drawable(rows: Datasets) -> dict[Pane, list[Drawable]]:
    """What there is to draw in each pane, in the order of the registry."""
    found: dict[Pane, list[Drawable]] = {}
    for probe in registry.PROBES:
        for drawn in probe.series:
            if drawn.pane is not None and probe.name in rows and _was_read(drawn, rows[probe.name]):
                found.setdefault(drawn.pane, []).append((probe, drawn))
    return found


def _was_read(drawn: Series, rows: list[series.Row]) -> bool:
    return not (isinstance(drawn, Value) and drawn.unread) or any(row[drawn.field] is not None for row in rows)


def _of_probes(theme: Theme, x: Spec, pane: Pane, drawables: list[Drawable], rows: Datasets) -> Spec:
    """The pane of these series, with what was not answered along its top."""
    y = _y("middle", pane.unit, _highest(drawables, rows))
    if pane.logarithmic:
        y = _log_y("high", pane.unit, [row for probe, _ in drawables for row in rows[probe.name]])
    layers, key, silent = list[Spec](), dict[str, str](), list[str]()
    for probe, drawn in drawables:
        layers += _marks(probe.name, drawn, theme[drawn.colour], y, x)
        if drawn.label:
            key[drawn.label] = drawn.colour
        silent += [name for name in [series.unanswered_name(probe)] if name in rows]
    layers += [_unanswered(name, theme["ink"], x) for name in silent]
    return _pane(pane.title, pane.height, layers, theme, x, key | ({"no answer": "ink"} if silent else {}))


def _highest(drawables: list[Drawable], rows: Datasets) -> float:
    """The highest value that is drawn."""
    fields = [(rows[probe.name], drawn.field if isinstance(drawn, Value) else "high") for probe, drawn in drawables]
    return max((row[field] for found, field in fields for row in found if row[field] is not None), default=0.0)


def _marks(name: str, drawn: Series, color: str, y: Spec, x: Spec) -> list[Spec]:
    match drawn:
        case Silence():
            return _steps(name, color, y, x)
        case Trip():
            worst = _line(name, "high", color, y, x, strokeWidth=0.6, opacity=0.7)
            return [_band(name, color, y, x), worst, _line(name, "middle", color, y, x)]
        case Speed():
            return [_band(name, color, y, x), _line(name, "middle", color, y, x)]
        case Value():
            dash = {"strokeDash": [5, 2]} if drawn.dashed else {}
            below = [_area(name, drawn.field, color, y, x)] if drawn.filled else []
            return [*below, _line(name, drawn.field, color, y, x, **dash)]


def _steps(name: str, color: str, y: Spec, x: Spec) -> list[Spec]:
    step = {"clip": True, "color": color, "interpolate": "step-after"}
    floor = {"datum": y["scale"]["domain"][0]} if "domain" in y["scale"] else {"datum": 0}
    return [
        {
            "data": {"name": name},
            "mark": {"type": "area", "opacity": 0.25, **step},
            "encoding": {"x": x, "y": {**y, "field": "high"}, "y2": floor},
        },
        {
            "data": {"name": name},
            "mark": {"type": "line", "strokeWidth": 1.2, **step},
            "encoding": {"x": x, "y": {**y, "field": "high"}},
        },
    ]


def _area(name: str, field: str, color: str, y: Spec, x: Spec) -> Spec:
    return {
        "data": {"name": name},
        "mark": {"type": "area", "clip": True, "color": color, "opacity": 0.2},
        "encoding": {"x": x, "y": {**y, "field": field}, "detail": {"field": "segment"}},
    }


def _unanswered(name: str, color: str, x: Spec) -> Spec:
    return {
        "data": {"name": name},
        "mark": {"type": "tick", "clip": True, "color": color, "thickness": 1, "size": 8, "y": 4},
        "encoding": {"x": x},
    }


def _phases(theme: Theme, x: Spec, *, steered: bool) -> Spec:
    width = "scale('x', datum.end) - scale('x', datum.t)"
    bounds = {"x": {**x, "field": "t"}, "x2": {"field": "end"}}
    bars = {
        "data": {"name": "phases"},
        "mark": {"type": "rect", "clip": True, "stroke": theme["paper"], "opacity": 0.45, "cornerRadius": 2},
        "encoding": {
            **bounds,
            "color": {
                "field": "shade",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": [0, 1, 2], "range": [theme["line"], theme["blue"], theme["blackout"]]},
            },
        },
    }
    names = {
        "data": {"name": "phases"},
        "mark": {
            "type": "text",
            "clip": True,
            "align": "left",
            "dx": 4,
            "fill": theme["ink"],
            "fontSize": 10.5,
            # A name is written only where its bar is wide enough for it.
            "opacity": {"expr": f"{width} > 7 * length(datum.phase) ? 1 : 0"},
        },
        "encoding": {"x": bounds["x"], "text": {"field": "phase"}},
    }
    decided = {
        "data": {"name": "decisions"},
        "mark": {"type": "point", "shape": "triangle-down", "filled": True, "size": 70, "y": 3, "clip": True},
        "encoding": {"x": bounds["x"], "color": {"value": theme["orange"]}, "opacity": {"value": 1}},
    }
    pane = _pane("Phases", 20, [bars, names], theme, x, {"decided by the policy": "orange"} if steered else None)
    words = [layer for layer in pane["layer"] if layer.get("mark", {}).get("style") == vega.BESIDE]
    pane["layer"] = [bars, names, *([decided] if steered else []), *words]
    return pane


def datasets(data: RunData) -> Datasets:
    """The rows of every series that this run has; what is empty is not in it."""
    started, samples = data.run.started_ns, data.samples
    shaded = series.spans(data)
    limits = series.edges(shaded, *extent(data))
    found: Datasets = {
        "spans": [{"t": s.start, "end": s.end, "kind": s.kind, "label": s.label} for s in shaded],
        "phases": phases(data),
        "decisions": decisions(data),
    }
    clock = series.GuestClock.of(samples, registry.PROBES)
    for probe in registry.PROBES:
        if probe.name in samples:
            found |= series.drawn(probe, samples, clock, started, limits)
    return {name: rows for name, rows in found.items() if rows}


def phases(data: RunData) -> list[series.Row]:
    """The journalled phases as bars: each lasts until the next, the last until the verb ended."""
    rows = []
    for migration in data.migrations:
        ends = [time_ns for _, time_ns in migration.phases[1:]] + [migration.ended_ns]
        for number, ((phase, start_ns), end_ns) in enumerate(zip(migration.phases, ends, strict=False)):
            rows.append(
                {
                    "t": data.seconds(start_ns),
                    "end": data.seconds(end_ns),
                    "phase": phase,
                    "shade": number % 2,
                }
            )
    return rows


def decisions(data: RunData) -> list[series.Row]:
    """What policies decided, when, and why."""
    return [
        {"t": data.seconds(each.time_ns), "words": each.words, "why": each.why}
        for migration in data.migrations
        for each in migration.decisions
    ]


def extent(data: RunData) -> tuple[float, float]:
    """Where samples or spans begin and end, in seconds since the run began."""
    times = [time for span in series.spans(data) for time in (span.start, span.end)]
    for probe in registry.PROBES:
        if probe.moment is not None and probe.name in data.samples:
            known = data.samples[probe.name][probe.moment]
            known = known[known >= 0]
            if len(known):
                times += [data.seconds(int(known.min())), data.seconds(int(known.max()))]
    return (min(times), max(times)) if times else (0.0, 1.0)


def spec(data: RunData, theme: Theme, *, interactive: bool = True) -> tuple[Spec | None, list[str]]:
    """The timeline and one sentence for each pane that this run has no samples for.

    None when there is nothing at all to draw. *interactive* adds zoom and pan, shared by all panes.
    """
    rows = datasets(data)
    panes: list[tuple[str, Callable[[Theme, Spec], Spec]]] = []
    if "phases" in rows:
        panes.append(("phases", partial(_phases, steered="decisions" in rows)))
    for pane, drawables in _drawable(rows).items():
        panes.append((pane.key, partial(_of_probes, pane=pane, drawables=drawables, rows=rows)))
    missing = _missing(data, rows)
    if not panes:
        return None, missing
    drawn = []
    low, high = extent(data)
    for number, (name, make) in enumerate(panes):
        x = _x(theme, last=number == len(panes) - 1)
        x["scale"] = {"domain": [low, high], "nice": False}
        one = {"name": name, **make(theme, x)}
        # One layer a pane takes part in zooming: it moves the scale that all its layers share.
        one["layer"][0]["name"] = f"{name}-zoom"
        drawn.append(one)
    whole: Spec = {
        "config": vega.config(theme),
        "datasets": rows,
        "vconcat": drawn,
        "spacing": 24,
        "resolve": {"scale": {"x": "shared"}},
        "usermeta": {"readings": _readings()},
    }
    if interactive:
        zoom = {
            "type": "interval",
            "encodings": ["x"],
            # The wheel alone scrolls the page, as a reader expects.
            "zoom": "wheel![event.ctrlKey || event.shiftKey]",
        }
        whole["params"] = [
            {
                "name": "zoom",
                "select": zoom,
                "bind": "scales",
                "views": [f"{name}-zoom" for name, _ in panes],
            }
        ]
    return whole, missing


def _readings() -> list[list[str]]:
    """What the page's script tells under the pointer: dataset, field, name and unit of each figure."""
    told = []
    for probe in registry.PROBES:
        for drawn in probe.series:
            unit = "" if drawn.pane is None else drawn.pane.unit
            match drawn:
                case Silence():
                    told.append([probe.name, "high", drawn.reading, unit])
                case Trip():
                    told.append([probe.name, "middle", drawn.reading, unit])
                    told.append([probe.name, "high", f"{drawn.reading}, worst", unit])
                case Speed():
                    told.append([probe.name, "middle", drawn.reading, unit])
                case Value():
                    told.append([probe.name, drawn.field, drawn.reading, unit])
    return told


def _missing(data: RunData, rows: Datasets) -> list[str]:
    said = ["Phases: none was journalled."] if data.migrations and "phases" not in rows else []
    for probe in registry.PROBES:
        if not probe.series or (probe.of_migrations and not data.migrations):
            continue
        if probe.name in rows:
            said += [s.unread for s in probe.series if isinstance(s, Value) and not _was_read(s, rows[probe.name])]
        elif probe.name in data.samples and any(isinstance(s, Speed) for s in probe.series):
            said.append(f"{probe.subject}: the guest's clock cannot be placed without its ticks.")
        else:
            said.append(f"{probe.subject}: {probe.absent}.")
    return said
