"""Vega-Lite to what a page and a picture need: a compiled specification, the scripts that draw it, PNG.

No version is named to ``vl_convert``: its newest Vega-Lite is the one that fits the Vega in its scripts.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from limosa import paths, temporary
from limosa.report.theme import FONT, Theme

Spec = dict[str, Any]

BESIDE = "beside"
"""The style of marks that stand outside their pane, such as its title."""


def config(theme: Theme) -> Spec:
    """Typography and colours that all plots share."""
    axis = {
        "labelColor": theme["soft"],
        "titleColor": theme["soft"],
        "gridColor": theme["grid"],
        "domainColor": theme["line"],
        "tickColor": theme["line"],
        "labelFont": FONT,
        "titleFont": FONT,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    }
    legend = {"labelColor": theme["ink"], "labelFont": FONT, "titleFont": FONT, "labelFontSize": 11.5}
    title = {"color": theme["ink"], "font": FONT, "fontSize": 12.5, "fontWeight": 600, "anchor": "start"}
    return {
        "axis": axis,
        "legend": {
            **legend,
            "titleColor": theme["soft"],
            "titleFontWeight": "normal",
            "symbolStrokeWidth": 2,
        },
        "title": {**title, "offset": 9},
        "text": {"font": FONT, "fontSize": 11, "fill": theme["ink"]},
        "header": {"labelColor": theme["ink"], "labelFont": FONT, "titleColor": theme["soft"]},
        "view": {"stroke": None},
        "background": "white" if theme.fixed is not None else None,
    }


MANY = 100_000
"""From here on an axis counts in thousands: longer numbers would cover its title."""


def counted(unit: str, highest: float) -> Spec:
    """Title and labels of an axis of *unit* that goes up to *highest*, its numbers as a person writes them."""
    if highest >= MANY:
        return {"title": f"thousand {unit}", "labelExpr": "format(datum.value / 1000, ',')"}
    return {"title": unit, "labelExpr": "format(datum.value, ',')"}


def compiled(spec: Spec) -> Spec:
    """*spec* as Vega, so that the page draws sooner."""
    import vl_convert

    found: Spec = vl_convert.vegalite_to_vega(spec)
    _unclip(found)
    return found


def _unclip(group: Spec) -> None:
    """Show marks of the style ``BESIDE`` outside their pane: Vega-Lite clips all marks where one can zoom."""
    for mark in group.get("marks", []):
        if BESIDE in mark.get("style", []):
            mark["clip"] = False
        _unclip(mark)


def png(spec: Spec, *, scale: float) -> bytes:
    """*spec* drawn without a browser; *scale* is pixels of the picture per px of the specification."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(json.dumps(spec), scale=scale))


def scripts() -> str:
    """The JavaScript of Vega and its embedder, whole, as ``window.vegaEmbed``.

    Bundling takes seconds, so the result is cached; a cache that cannot be written only costs time.
    """
    import vl_convert

    kept = paths.cache() / "report" / f"vega-embed-{version('vl-convert-python')}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        pass
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # In a script element nothing but this sequence could end the element early.
    bundle = bundle.replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with temporary.folder("vega", kept.parent) as folder:
            (folder / kept.name).write_text(bundle, encoding="utf-8")
            (folder / kept.name).replace(kept)
    except OSError:
        pass
    return bundle
