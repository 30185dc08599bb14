"""The handout as one HTML file that asks nothing of any network."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from limosa import __version__
from limosa.bench.benches import BENCHES, told
from limosa.bench.entry import Chapter, Entry
from limosa.errors import LimosaError
from limosa.homework import questions, steps
from limosa.homework.chapters import Homework, PartResult
from limosa.qemu.purpose import QMP, explain_exchanges
from limosa.report import blocks, commands, sections, verdict, whole_file
from limosa.report import data as report_data
from limosa.report.markup import Child, Html, tag
from limosa.results import figures, store
from limosa.results.store import RunDirectory, read_events
from limosa.spec import resolved

_STYLE = """
table.wide{min-width:0;table-layout:fixed}
table.wide td{font-size:.86rem;vertical-align:top}
table.wide th:first-child:nth-last-child(2){width:44%}
li code,p code{overflow-wrap:anywhere}
.explained{margin:1rem 0 0;padding-left:1.2rem}
.explained li{margin:.45rem 0}
.answer h3{margin:1.2rem 0 .3rem;font-size:1.02rem}
.sources{font-size:.82rem;color:var(--soft)}
ol.contents{columns:2;font-size:.92rem;padding-left:1.3rem}
a{color:var(--blue)}
@media (max-width:640px){table.wide tr,table.wide td{display:block;width:auto}table.wide thead{display:none}
table.wide td+td{border:0;padding-top:0}}
@media print{@page{size:A4;margin:14mm}html{font-size:11.5px}pre{max-height:none;overflow:visible}
section{break-before:auto}.scroll{overflow:visible}table{min-width:0}#commands .stages{display:none}}
"""


def page(run: RunDirectory, homework: Homework) -> str:
    """The whole page. A part that failed, or whose data cannot be read, says so in its place."""
    data = report_data.load(run.path)
    if data.environment is not None:  # the list of packages alone fills a sheet; environment.json has it
        image = {key: value for key, value in data.environment.image.items() if not isinstance(value, dict | list)}
        data = replace(data, environment=replace(data.environment, image=image))
    parts = {part.name: part for part in homework.parts}
    lab = run.read(store.SPEC)
    guest = lab.guests[data.run.guest]
    shown = [
        _setting_up(homework, lab, guest),
        _command_line(homework, guest),
        _migration(run, data, parts["lab"]),
        *[_bench(parts[chapter.name], entry, chapter) for entry, chapter in _chapters() if chapter.name in parts],
        _answers(),
        sections.environment(data),
        sections.part(
            "Every command",
            commands.section(data),
            identity="commands",
            note="All command lines and QMP commands of the lab, stage by stage; they are not printed.",
        ),
    ]
    main = tag("main", _header(homework, data), shown, tag("footer", tag("p", f"Made by Limosa {__version__}.")))
    title = "Live migration of virtual machines: a worked answer · Limosa"
    return whole_file.document(title, main, generator=f"Limosa {__version__}", style=_STYLE)


def _header(homework: Homework, data: report_data.RunData) -> Html:
    failed = [part for part in homework.parts if part.status == "failed"]
    said = "Everything below was run by one command, limosa homework, and every figure was measured on this machine."
    if homework.quick:
        said += " This is the short version: times and repetitions are too few for intervals worth having."
    if homework.lab:
        said += f" The lab is that of {Path(homework.lab).name}."
    contents = ["Setting it up", "QEMU's command line", "The live migration"]
    contents += [part.title for part in homework.parts if part.command] + ["Questions"]
    return tag(
        "header",
        tag("p", tag("b", "Limosa"), tag("span", figures.moment(data.run.started_ns)), class_="where-when"),
        tag("h1", "Live migration of virtual machines: a worked answer"),
        tag("p", said, class_="detail"),
        [tag("p", note, class_="outcome") for note in homework.notes],
        tag("ol", [tag("li", title) for title in contents], class_="contents"),
        [tag("p", f"“{part.title}” could not be done: {part.reason}", class_="outcome") for part in failed],
        _in_short(homework, data),
    )


def _in_short(homework: Homework, data: report_data.RunData) -> Html | None:
    """The first sentence of each part's own report, so that a reader knows what the pages below come to."""
    lines: list[list[Child]] = []
    if data.migrations:
        lines.append(["The live migration: ", verdict.of(data).sentence])
    for part in homework.parts:
        try:
            said = _in_a_sentence(RunDirectory.open(Path(part.run))) if part.command and part.run else ""
        except LimosaError:
            continue  # its section says so
        if said:
            lines.append([f"{part.title}: ", said])
    return tag("div", tag("h3", "In short"), sections.bullets(lines)) if lines else None


def _in_a_sentence(run: RunDirectory) -> str:
    """What a bench's own report says first. Raises LimosaError for a damaged run."""
    said = told(run).verdict
    return said.sentence + (" Not sound here, for the reasons told there." if said.mark == "Unsound" else "")


def _table(head: list[str], rows: list[list[Child]], caption: str) -> Html:
    cells = [tag("th", name, scope="col") for name in head]
    body = [tag("tr", [tag("td", cell) for cell in row]) for row in rows]
    unseen = tag("caption", caption, class_="unseen")
    return tag("div", tag("table", unseen, tag("thead", tag("tr", cells)), tag("tbody", body), class_="wide"),
               class_="scroll", tabindex="0")  # fmt: skip


def _code(text: str) -> Html:
    """A line of code that breaks at spaces and behind commas, where a reader would break it."""
    pieces = _PIECES.findall(text)
    return tag("code", [piece if piece.isspace() else tag("span", piece, class_="piece") for piece in pieces])


_PIECES = re.compile(r"\s+|[^\s,]*,|[^\s,]+")


def _setting_up(homework: Homework, lab: resolved.Lab, guest: resolved.Guest) -> Html:
    rows: list[list[Child]] = [[_code(theirs), _code(ours), why] for theirs, ours, why in steps.steps(lab, guest)]
    looks = [
        tag("div", tag("p", f"{host}: ", _code(line), class_="soft"), tag("pre", said))
        for host, line, said in homework.shown
    ]
    return sections.part(
        "Setting it up",
        _table(["In the recipe, by hand", "Here", "What it is for"], rows, "Steps"),
        tag("h3", "What there was then"),
        tag("div", looks) if looks else tag("p", "The hosts could not be looked at.", class_="empty"),
        identity="setup",
        note="Hosts, storage that they all see, the device of KVM, a bridge and a TAP in each.",
    )


def _command_line(homework: Homework, guest: resolved.Guest) -> Html:
    rows = [*questions.QEMU_ARGUMENTS, steps.boot(guest)]
    theirs: list[list[Child]] = [[_code(a), _code(b), why] for a, b, why in rows]
    ours: list[list[Child]] = [[_code(what), why] for what, why in homework.explained]
    empty = tag("p", "The guest was not started, so there is no command line.", class_="empty")
    return sections.part(
        "QEMU's command line",
        tag("h3", "The recipe's arguments and ours"),
        _table(["In the recipe", "Here", "Why"], theirs, "Arguments of the recipe"),
        tag("h3", "The whole command line that was run, argument by argument"),
        _table(["Argument", "What it is for"], ours, "Arguments") if ours else empty,
        identity="qemu",
    )


def _migration(run: RunDirectory, data: report_data.RunData, part: PartResult) -> list[Html | None]:
    monitor: list[list[Child]] = [[_code(hmp), _code(qmp), QMP.get(qmp, "")] for hmp, qmp in questions.MONITOR]
    final = data.migrations[0].qemu if data.migrations else {}
    lines = [f"{key}: {value}" for key, value in final.items() if not isinstance(value, dict)]
    lines += [f"ram {key}: {value}" for key, value in (final.get("ram") or {}).items()]
    trouble = tag("p", part.reason, class_="outcome") if part.reason else None
    intro = sections.part(
        "The live migration",
        trouble,
        _table(["At the monitor", "In QMP", "What it does"], monitor, "Monitor commands"),
        tag("h3", "What was really said to both QEMUs, in order"),
        _exchanges(run),
        tag("h3", "The last answer to query-migrate of the first move (info migrate shows the same)"),
        tag("pre", "\n".join(lines)) if lines else tag("p", "No migration was made.", class_="empty"),
        identity="migration",
        note="Memory is sent while the guest runs; what it writes meanwhile is sent again, until the rest is small"
        " enough to be sent while it stands still.",
    )
    if not data.migrations:
        return [intro]
    told = [sections.migrations(data), sections.remarks(data)]  # what a figure does not mean stands right below it
    return [intro, *told, sections.clocks_part(data), sections.timeline_part(data)]


def _exchanges(run: RunDirectory) -> Html:
    try:
        told = explain_exchanges(read_events(run))
    except LimosaError as error:
        return tag("p", error.message, class_="empty")
    first = next((i for i, (what, _) in enumerate(told) if "migrate-set" in what), 0)
    last = next((i for i, (what, _) in enumerate(told) if i > first and '"quit"' in what), len(told) - 1)
    rows: list[list[Child]] = [[_code(what), why] for what, why in told[first : last + 1]]
    return _table(["Host and command", "What it is for"], rows, "QMP commands of the first migration")


def _chapters() -> list[tuple[Entry[Any], Chapter]]:
    return [(entry, chapter) for entry in BENCHES.values() for chapter in entry.chapters]


def _bench(part: PartResult, entry: Entry[Any], chapter: Chapter) -> Html:
    line = tag("p", "To have it again: ", _code("limosa " + " ".join(_quoted(part.command))), class_="soft")
    try:
        if not part.run:
            raise LimosaError(part.reason or "it left no run")
        body = blocks.in_handout(told(RunDirectory.open(Path(part.run))), part.name)
    except LimosaError as error:
        body = [tag("p", f"Not measured: {part.reason or error.message}", class_="outcome")]
    else:
        if part.reason:
            body = [tag("p", f"It broke off: {part.reason}. What was measured until then:", class_="outcome"), *body]
    theirs = tag("div", tag("h3", "The source document's figures"), tag("p", chapter.document))
    shown = [line, tag("div", body), theirs if chapter.document else None]
    return sections.part(part.title, *shown, identity=part.name, note=f"It measures {entry.purpose}.")


def _quoted(words: list[str]) -> list[str]:
    return [f"'{word}'" if " " in word else word for word in words]


def _answers() -> Html:
    asked = [
        tag(
            "div",
            tag("h3", answer.question),
            [tag("p", paragraph) for paragraph in answer.paragraphs],
            tag(
                "p",
                "Sources: ",
                [[tag("a", text, href=url) if url else text, ". "] for text, url in answer.sources],
                class_="sources",
            ),
            class_="answer",
        )
        for answer in questions.ANSWERS
    ]
    return sections.part("Questions", tag("div", asked), identity="questions")
