"""The page of a run."""

from __future__ import annotations

from limosa.bench import benches
from limosa.report import blocks, commands, sections, verdict, whole_file
from limosa.report.data import RunData
from limosa.report.markup import Html, tag
from limosa.results import figures
from limosa.results.account import Account, Verdict
from limosa.results.store import RunDirectory


def page(data: RunData, account: Account | None = None) -> str:
    """The report of *data* as HTML; *account* where it is a bench's and known already."""
    found, parts = _shown(data, account)
    title = f"{data.run.lab} · {data.run.guest} · {figures.moment(data.run.started_ns)} · Limosa"
    main = tag("main", sections.header(data, found), parts, _footer(data))
    return whole_file.document(title, main, generator=f"Limosa {data.run.limosa}")


def _shown(data: RunData, account: Account | None) -> tuple[Verdict, list[Html | None]]:
    """Verdict and sections, by what the run holds."""
    account = account or benches.account(RunDirectory(data.path))
    if account is not None:
        return account.verdict, blocks.page_parts(account, data)
    return verdict.of(data), _parts(data)


def _footer(data: RunData) -> Html:
    run = data.run
    words = f"Run {run.id}, format {run.format}, measured by Limosa {run.limosa}. "
    words += "This page can be made again from the run directory: limosa report RUN."
    return tag("footer", tag("p", words))


def _parts(data: RunData) -> list[Html | None]:
    """The sections of a run that moves guests or pauses them."""
    return [
        sections.migrations(data),
        sections.decisions(data),
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
