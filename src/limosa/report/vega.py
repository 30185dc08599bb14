"""Vega-Lite to what a page and a picture need: a compiled specification, the scripts that draw it, PNG.

``vl_convert`` is imported late: it takes longer than most commands.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from limosa import paths
from limosa.report.theme import FONT, Theme

Spec = dict[str, Any]

VERSION = "5.21"
"""Of Vega-Lite: the scripts and the compiled specifications must come from the same one."""


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
    }


def compiled(spec: Spec) -> Spec:
    """*spec* as Vega, so that the page needs no Vega-Lite and draws sooner."""
    import vl_convert

    found: Spec = vl_convert.vegalite_to_vega(spec, vl_version=VERSION)
    return found


def png(spec: Spec, *, scale: float) -> bytes:
    """*spec* drawn without a browser; *scale* is pixels of the picture per px of the specification."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(json.dumps(spec), vl_version=VERSION, scale=scale))


def scripts() -> str:
    """The JavaScript of Vega and its embedder, whole, as ``window.vegaEmbed``.

    Bundling takes seconds, so the result is kept in the cache; a cache that cannot be written only costs time.
    """
    import vl_convert

    kept = paths.cache() / "report" / f"vega-embed-{VERSION}-{vl_convert.__version__}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        pass
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VERSION)
    # In a script element nothing but this sequence could end the element early.
    bundle = bundle.replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(bundle)
        Path(temporary).replace(kept)
    except OSError:
        pass
    return bundle
