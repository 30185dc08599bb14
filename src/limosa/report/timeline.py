"""The timeline as one Vega-Lite specification: panes that share the time axis. Times in s, sizes in px."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

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


def _y(field: str, unit: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"zero": True, "nice": True},
        "stack": None,
        "axis": {**_Y_AXIS, "title": unit, "format": "~s"},
    }


def _log_y(field: str, rows: list[series.Row], low_field: str) -> Spec:
    """A logarithmic axis in ms over whole powers of ten, so that 1 ms and a pause of 1 s are both seen."""
    lowest = min(row[low_field] for row in rows)
    highest = max(row["high"] for row in rows)
    floor = 10.0 ** math.floor(math.log10(max(lowest, 0.01)))
    domain = [floor, max(highest * 1.3, floor * 10)]
    scale = {"type": "log", "domain": domain, "nice": False, "clamp": True}
    values = [10.0**power for power in range(-2, 6) if floor <= 10.0**power <= domain[1]]
    axis = {**_Y_AXIS, "title": "ms", "values": values, "format": "~g", "labelOverlap": False}
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


def _remaining(theme: Theme, x: Spec) -> Spec:
    y = _y("remaining", "MiB")
    encoding = {"x": x, "y": y, "detail": {"field": "segment"}}
    area = {
        "data": {"name": "progress"},
        "mark": {"type": "area", "clip": True, "color": theme["blue"], "opacity": 0.2},
        "encoding": encoding,
    }
    return _pane("Still to send", 84, [area, _line("progress", "remaining", theme["blue"], y, x)], theme, x)


def _rates(theme: Theme, x: Spec, rows: list[series.Row]) -> Spec:
    y = _y("throughput", "MiB/s")
    layers, key = [_line("progress", "throughput", theme["blue"], y, x)], {"sent": "blue"}
    if _measured_dirt(rows):
        layers.append(_line("progress", "dirty", theme["orange"], y, x, strokeDash=[5, 2]))
        key["dirtied by the guest"] = "orange"
    return _pane("Rates", 84, layers, theme, x, key)


def _measured_dirt(rows: list[series.Row]) -> bool:
    return any(row["dirty"] is not None for row in rows)


def _ticks(theme: Theme, x: Spec, rows: list[series.Row]) -> Spec:
    y = _log_y("high", rows, "high")
    area = {
        "data": {"name": "ticks"},
        "mark": {
            "type": "area",
            "clip": True,
            "color": theme["purple"],
            "opacity": 0.25,
            "interpolate": "step-after",
        },
        "encoding": {"x": x, "y": y, "y2": {"datum": y["scale"]["domain"][0]}},
    }
    line = {
        "data": {"name": "ticks"},
        "mark": {
            "type": "line",
            "clip": True,
            "color": theme["purple"],
            "strokeWidth": 1.2,
            "interpolate": "step-after",
        },
        "encoding": {"x": x, "y": y},
    }
    return _pane("Silence of the guest, between its ticks", 96, [area, line], theme, x)


def _trips(theme: Theme, x: Spec, rows: dict[str, list[series.Row]]) -> Spec:
    y = _log_y("high", rows.get("echo", []) + rows.get("service", []), "low")
    layers: list[Spec] = []
    key: dict[str, str] = {}
    for name, label, color in (("echo", "UDP echo", "green"), ("service", "TCP service", "orange")):
        if name not in rows:
            continue
        layers += [
            _band(name, theme[color], y, x),
            _line(name, "high", theme[color], y, x, strokeWidth=0.6, opacity=0.7),
            _line(name, "middle", theme[color], y, x),
        ]
        key[label] = color
    if "unanswered" in rows:
        layers.append(
            {
                "data": {"name": "unanswered"},
                "mark": {
                    "type": "tick",
                    "clip": True,
                    "color": theme["ink"],
                    "thickness": 1,
                    "size": 8,
                    "y": 4,
                },
                "encoding": {"x": x},
            }
        )
        key["no answer"] = "ink"
    return _pane("Round trips", 96, layers, theme, x, key)


def _cpu(theme: Theme, x: Spec) -> Spec:
    y = _y("middle", "events/s")
    y["axis"]["format"] = "~s"  # 250k: long labels would run into the axis's title
    layers = [_band("cpu", theme["green"], y, x), _line("cpu", "middle", theme["green"], y, x)]
    return _pane("CPU speed inside the guest", 84, layers, theme, x)


def _phases(theme: Theme, x: Spec) -> Spec:
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
    pane = _pane("Phases", 20, [bars, names], theme, x)
    pane["layer"] = [bars, names, *pane["layer"][-1:]]
    return pane


def datasets(data: RunData) -> dict[str, list[series.Row]]:
    """The rows of every series that this run has; what is empty is not in it."""
    started, samples = data.run.started_ns, data.samples
    shaded = series.spans(data)
    limits = series.edges(shaded, *extent(data))
    found: dict[str, list[series.Row]] = {
        "spans": [{"t": s.start, "end": s.end, "kind": s.kind, "label": s.label} for s in shaded],
        "phases": phases(data),
    }
    if "progress" in samples:
        found["progress"] = series.progress(samples["progress"], started)
    if "ticks" in samples:
        found["ticks"] = series.silence(samples["ticks"], started, limits)
    for name in ("echo", "service"):
        if name in samples:
            found[name] = series.round_trips(samples[name], started, limits)
            found.setdefault("unanswered", []).extend(series.unanswered(samples[name], started))
    if "cpu" in samples:
        found["cpu"] = series.cpu_speed(samples["cpu"], samples.get("ticks"), started, limits)
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


def extent(data: RunData) -> tuple[float, float]:
    """Where samples or spans begin and end, in seconds since the run began."""
    times = [time for span in series.spans(data) for time in (span.start, span.end)]
    for name, column in (
        ("ticks", "received_ns"),
        ("echo", "sent_ns"),
        ("service", "sent_ns"),
        ("progress", "time_ns"),
    ):
        if name in data.samples:
            known = data.samples[name][column]
            known = known[known >= 0]
            if len(known):
                times += [data.seconds(int(known.min())), data.seconds(int(known.max()))]
    return (min(times), max(times)) if times else (0.0, 1.0)


def spec(data: RunData, theme: Theme, *, interactive: bool = True) -> tuple[Spec | None, list[str]]:
    """The timeline and one sentence for each pane that this run has no samples for.

    None when there is nothing at all to draw. *interactive* adds zoom and pan, shared by all panes.
    """
    rows = datasets(data)
    makers: list[tuple[str, Any]] = []
    if "phases" in rows:
        makers.append(("phases", _phases))
    if "progress" in rows:
        makers += [("remaining", _remaining), ("rates", partial(_rates, rows=rows["progress"]))]
    if "ticks" in rows:
        makers.append(("ticks", partial(_ticks, rows=rows["ticks"])))
    if "echo" in rows or "service" in rows:
        makers.append(("trips", partial(_trips, rows=rows)))
    if "cpu" in rows:
        makers.append(("cpu", _cpu))
    missing = _missing(data, rows)
    if not makers:
        return None, missing
    panes = []
    low, high = extent(data)
    for number, (name, make) in enumerate(makers):
        x = _x(theme, last=number == len(makers) - 1)
        x["scale"] = {"domain": [low, high], "nice": False}
        pane = {"name": name, **make(theme, x)}
        # One layer a pane takes part in zooming: it moves the scale that all its layers share.
        pane["layer"][0]["name"] = f"{name}-zoom"
        panes.append(pane)
    whole: Spec = {
        "config": vega.config(theme),
        "datasets": rows,
        "vconcat": panes,
        "spacing": 24,
        "resolve": {"scale": {"x": "shared"}},
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
                "views": [f"{name}-zoom" for name, _ in makers],
            }
        ]
    return whole, missing


def _missing(data: RunData, rows: dict[str, list[series.Row]]) -> list[str]:
    said = []
    if data.migrations and "progress" not in rows:
        said.append("What was still to send and the rates: no sample of query-migrate in this run.")
    elif data.migrations and not _measured_dirt(rows["progress"]):
        said.append("How fast the guest dirtied memory: QEMU measures that from pass to pass, over more than a second.")
    if data.migrations and "phases" not in rows:
        said.append("Phases: none was journalled.")
    if "ticks" not in rows:
        said.append("Silence of the guest: no tick was received in this run.")
    for name, label in (("echo", "UDP echo"), ("service", "TCP service")):
        if name not in rows:
            said.append(f"Round trips of the {label}: no answer was received in this run.")
    if "cpu" not in rows:
        why = (
            "the guest's clock cannot be placed without its ticks"
            if "cpu" in data.samples
            else "not measured in this run"
        )
        said.append(f"CPU speed: {why}.")
    return said
