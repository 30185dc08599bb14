"""What the plots' axes say, and where their labels stand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limosa.report import plots, vega
from limosa.report.theme import PRINT
from limosa.results.account import Course, Dots, Middle, Plot


def course(highest: float, end_s: float = 5.0) -> Plot:
    pane = Course(
        title="throughput", unit="MiB/s", colour="blue", logarithmic=False, pointed=False, begin_s=-4.0, finish_s=6.0,
        samples=[(t / 10, highest) for t in range(-40, 60)], end_s=end_s, blackout_s=(end_s - 0.1, end_s - 0.05),
        level=highest * 0.95,
    )  # fmt: skip
    return Plot(name="p", label="a plot", legend="", panes=[pane])


def texts(plot: Plot) -> list[str]:
    """What the picture says, drawn without a browser."""
    import re

    import vl_convert

    ((_, spec),) = plots.each(plot, PRINT)
    return re.findall(r"<text[^>]*>([^<]+)</text>", vl_convert.vegalite_to_svg(json.dumps(spec)))


@pytest.mark.parametrize(
    ("highest", "wanted", "unit"),
    [
        (0.8, "0.4", "MiB/s"),
        (1100.0, "1,000", "MiB/s"),
        (4200.0, "4,000", "MiB/s"),
        (618_225.0, "600", "thousand MiB/s"),
        (104_857_600.0, "100,000", "thousand MiB/s"),
    ],
)
def test_an_axis_is_labelled_as_a_person_would(highest: float, wanted: str, unit: str) -> None:
    said = texts(course(highest))
    assert wanted in said and unit in said
    assert not [label for label in said if label[-1:] == "k" or "e+" in label]


def marks(spec: Any, kind: str) -> list[dict[str, Any]]:
    """Every mark of this kind, anywhere in *spec*."""
    if isinstance(spec, list):
        return [mark for each in spec for mark in marks(each, kind)]
    if not isinstance(spec, dict):
        return []
    own = [spec["mark"]] if isinstance(spec.get("mark"), dict) and spec["mark"]["type"] == kind else []
    return own + [mark for each in spec.values() for mark in marks(each, kind)]


def test_moments_are_named_towards_the_middle() -> None:
    early, late = (plots.spec(course(1.0, end_s), PRINT) for end_s in (0.5, 5.0))
    assert {mark["align"] for mark in marks(early, "text")} == {"left"}
    assert {mark["align"] for mark in marks(late, "text")} == {"left", "right"}


def test_a_figure_beside_its_mark_stays_in_the_pane() -> None:
    middles = [Middle("slow", 10.0, 9.0, 11.0, "10/s"), Middle("fast", 100.0, 99.0, 101.0, "100/s")]
    pane = Dots(title="speed", unit="/s", subjects=["slow", "fast"], points=[("slow", 10.0)], middles=middles)
    spec = plots.spec(Plot(name="p", label="", legend="", panes=[pane]), PRINT)
    sides = {mark["align"] for mark in marks(spec, "text")}
    assert sides == {"left", "right"}
    assert vega.counted("/s", 100.0)["title"] == "/s"
