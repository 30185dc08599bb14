"""What all pages are: one file that asks nothing of any network, and has the browser enforce that."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from limosa.report import theme, vega
from limosa.report.markup import Html, raw, tag


def document(title: str, main: Html, *, generator: str, style: str = "") -> str:
    """*main* as a whole HTML file with the styles and scripts that it needs; *style* is added to them."""
    scripts = [vega.scripts(), _resource("page.js")]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=generator),
        tag("title", title),
        tag("style", raw(theme.css() + _resource("page.css") + style)),
    )
    body = tag("body", main, [tag("script", raw(script)) for script in scripts])
    return f"<!doctype html>\n{tag('html', head, body, lang='en', data_status='drawing')}\n"


def _policy(scripts: list[str]) -> str:
    """Only our own scripts run, and nothing is fetched: a hostile guest name changes nothing."""
    hashes = []
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        hashes.append(f"'sha256-{digest}'")
    return f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data:"


def _resource(name: str) -> str:
    return resources.files("limosa.report").joinpath(name).read_text(encoding="utf-8")
