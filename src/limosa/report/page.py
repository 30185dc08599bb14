"""The whole page: one file that asks nothing of any network, and has the browser enforce that."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from limosa.report import bench, commands, during_page, figures, sections, theme, vega, verdict
from limosa.report.data import RunData
from limosa.report.markup import Html, raw, tag


def page(data: RunData) -> str:
    """The report of *data* as HTML."""
    found, parts = _shown(data)
    title = f"{data.run.lab} · {data.run.guest} · {figures.moment(data.run.started_ns)} · Limosa"
    scripts = [vega.scripts(), _resource("page.js")]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=f"Limosa {data.run.limosa}"),
        tag("title", title),
        tag("style", raw(theme.css() + _resource("page.css"))),
    )
    main = tag("main", sections.header(data, found), parts, _footer(data))
    body = tag("body", main, [tag("script", raw(script)) for script in scripts])
    return f"<!doctype html>\n{tag('html', head, body, lang='en', data_status='drawing')}\n"


def _shown(data: RunData) -> tuple[verdict.Verdict, list[Html | None]]:
    """Verdict and sections, by what the run holds."""
    compared, moved = bench.load(data.path), during_page.load(data.path)
    if compared is not None:
        return bench.verdict(compared), bench.parts(data, compared)
    if moved is not None:
        return during_page.verdict(moved, data.run.error), during_page.parts(data, moved)
    return verdict.of(data), _parts(data)


def _policy(scripts: list[str]) -> str:
    """Only our own scripts run, and nothing is fetched: a hostile guest name changes nothing."""
    hashes = []
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        hashes.append(f"'sha256-{digest}'")
    return f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data:"


def _resource(name: str) -> str:
    return resources.files("limosa.report").joinpath(name).read_text(encoding="utf-8")


def _footer(data: RunData) -> Html:
    run = data.run
    words = f"Run {run.id}, format {run.format}, measured by Limosa {run.limosa}. "
    words += "This page can be made again from the run directory: limosa report RUN."
    return tag("footer", tag("p", words))


def _parts(data: RunData) -> list[Html | None]:
    """The sections of a run that moves guests or pauses them."""
    return [
        sections.migrations(data),
        sections.rest(data),
        sections.clocks_part(data),
        sections.timeline_part(data),
        sections.checks(data),
        sections.remarks(data),
        sections.in_force((f"Migration {m.index}", m) for m in data.migrations),
        sections.environment(data),
        sections.part(
            "Commands",
            commands.section(data),
            identity="commands",
            note="Every command line and QMP command, with the second of the run. Open one to copy it.",
        ),
    ]
