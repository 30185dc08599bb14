"""A bench in the handout: its table, its plot and what follows from it, as on the bench's own page."""

from __future__ import annotations

from limosa.bench import narration
from limosa.bench.during.compare import read as read_during
from limosa.bench.during.parts import DURING
from limosa.bench.during_table import table
from limosa.bench.repetitions import BENCH
from limosa.homework import questions
from limosa.report import bench as bench_page
from limosa.report import during, during_page, sections
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE
from limosa.results.store import RunDirectory


def shown(run: RunDirectory, name: str) -> list[Html]:
    """Everything of one bench; *name* makes its plots' identities. Raises LimosaError for a damaged run."""
    parts = _during(run, name) if run.has(DURING) else _compared(run, name)
    said, found = narration.narrate(run), narration.cautions(run)
    if said:
        parts += [tag("h3", "What follows"), sections.bullets(said)]
    else:
        parts.append(tag("p", "Nothing follows from these figures beyond what the table shows.", class_="empty"))
    return [*parts, tag("h3", "To be read with care"), sections.findings(found)] if found else parts


def in_short(run: RunDirectory) -> str:
    """What the bench's own report says first. Raises LimosaError for a damaged run."""
    moved = during_page.load(run.path)
    said = during_page.verdict(moved, "") if moved else bench_page.verdict(run.read(BENCH))
    return said.sentence + (" Not sound here, for the reasons told there." if said.mark == "Unsound" else "")


def _compared(run: RunDirectory, name: str) -> list[Html]:
    bench = run.read(BENCH)
    parts = bench_page.figures(bench)
    left_out = [s for s in bench.subjects if s.status != "measured"]
    parts += [tag("p", f"{s.label}: {s.status}, because {s.reason}.", class_="outcome") for s in left_out]
    plot = bench_page.spec(bench, PAGE)
    if plot is not None:
        parts += [tag("p", bench_page.legend(bench), class_="note")]
        parts.append(sections.figure(f"{name}-plot", plot, bench.title))
    return parts


def _during(run: RunDirectory, name: str) -> list[Html]:
    _, found = read_during(run)
    parts = [sections.plain_table(table(found))]
    plot = during.spec(found, PAGE)
    if plot is not None:
        parts += [
            tag("p", during_page.LEGEND, class_="note"),
            sections.figure(f"{name}-plot", plot, "Through the migration"),
        ]
    return parts


def document() -> Html:
    """The source document's CPU figures; they are shown whether ours could be measured or not."""
    host = dict(questions.DOCUMENT_CPU)["host"]
    told = "; ".join(f"{name} {count:,} ({count / host:.2f} times its host)" if name != "host" else f"host {count:,}"
                     for name, count in questions.DOCUMENT_CPU)  # fmt: skip
    return tag(
        "div",
        tag("h3", "The source document's figures"),
        tag("p", f"Events in 10 s, one run each: {told}. {questions.DOCUMENT_REMARK}"),
    )
