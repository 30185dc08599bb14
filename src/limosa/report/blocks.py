"""An account as markup: what there is to say of a run, drawn without asking what it is of."""

from __future__ import annotations

from collections.abc import Iterable

from limosa.report import plots, sections
from limosa.report.commands import section as commands
from limosa.report.data import RunData
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE
from limosa.results.account import Account, Block, Findings, Pairs, Plot, Sentences, Text
from limosa.results.summary_tables import Table


def page_parts(account: Account, data: RunData) -> list[Html | None]:
    """The sections of the page below its head."""
    return [
        *[
            sections.part(section.title, *drawn(section.blocks), identity=section.identity, note=section.note)
            for section in account.sections
        ],
        sections.in_force(account.moves),
        sections.part("Commands", commands(data), identity="commands"),
    ]


def in_handout(account: Account, name: str) -> list[Html]:
    """The account as a chapter of something longer; *name* makes its plot's identity."""
    shown: list[Block] = [*(account.tables or [account.table]), *references(account)]
    shown += [Text(f"{reason}.", "outcome") for reason in account.reasons]
    if account.plot is not None:
        shown.append(Text(account.plot.legend, "note"))
    parts = drawn(shown)
    if account.plot is not None:
        parts.append(_plot(account.plot, f"{name}-plot"))
    if account.explanations:
        parts += [tag("h3", "What follows"), sections.bullets(account.explanations)]
    else:
        parts.append(tag("p", "Nothing follows from these figures beyond what the table shows.", class_="empty"))
    if account.findings:
        parts += [tag("h3", "To be read with care"), sections.findings(account.findings)]
    return parts


def references(account: Account) -> list[Block]:
    """Where the figures from elsewhere in the table are from."""
    return [Text(f"Reference: {source}.", "small") for source in account.sources]


def drawn(blocks: Iterable[Block]) -> list[Html]:
    """Each block as markup."""
    return [_drawn(block) for block in blocks]


def _drawn(block: Block) -> Html:
    match block:
        case Table():
            return sections.plain_table(block)
        case Plot():
            return _plot(block, block.name)
        case Text():
            return tag("p", block.text, class_=block.kind)
        case Sentences():
            return sections.bullets(block.sentences)
        case Findings():
            return sections.findings(block.findings)
        case Pairs():
            listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in block.pairs]
            return tag("dl", listed, class_=block.kind)


def _plot(plot: Plot, identity: str) -> Html:
    """Each pane by itself: on paper none is torn in two."""
    panes = enumerate(plots.each(plot, PAGE), start=1)
    drawn = [sections.figure(f"{identity}-{n}", spec, f"{plot.label}: {title}") for n, (title, spec) in panes]
    return tag("div", drawn, class_="panes")
