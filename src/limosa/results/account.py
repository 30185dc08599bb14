"""What there is to say of a run, as data: a verdict, tables, plots and sentences.

Whoever measured describes; ``limosa.report`` alone draws, whatever the account is of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from limosa.results.format import Migration
from limosa.results.summary_tables import Table

Tone = Literal["good", "warn", "bad"]
Colour = Literal["blue", "orange", "green", "purple"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said first."""

    tone: Tone
    mark: str
    """The tone as one or two words, so that it does not hang on colour."""
    sentence: str
    details: list[str]
    facts: list[tuple[str, str]]
    """(figure, what it is)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that makes the comparison unsound, or that a careful reader must know."""

    rule: str
    """Stable name of the rule that found it: ``beyond-host``, ``busy-machine``, ``steal``, ``governor``, ..."""
    severity: Literal["unsound", "caution", "note"]
    """``unsound``: do not compare. ``caution``: the figures stand, with reservations. ``note``: good to know."""
    text: str
    """One or two sentences with the figures."""
    subject: str = ""
    """The subject that it is about; empty: the whole bench."""


def gravest_first(found: list[Finding]) -> list[Finding]:
    """By severity; equals keep their order."""
    return sorted(found, key=lambda finding: ("unsound", "caution", "note").index(finding.severity))


@dataclass(frozen=True, slots=True)
class Middle:
    """A median with its interval; ``low`` and ``high`` are the median itself where there is none."""

    subject: str
    value: float
    low: float
    high: float
    text: str
    """The median as it is written beside its mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """A pane of single values, a line a subject, from 0 on, so that lengths may be compared by eye."""

    title: str
    unit: str
    """All values are in it."""
    subjects: list[str]
    """From top to bottom."""
    points: list[tuple[str, float]]
    """(subject, value)"""
    middles: list[Middle]
    references: list[tuple[str, float]] = field(default_factory=list)
    """Values from elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A pane of one measure over time, in seconds since the migration began."""

    title: str
    unit: str
    colour: Colour
    logarithmic: bool
    pointed: bool
    """Whether each sample is marked: they are few."""
    begin_s: float
    finish_s: float
    samples: list[tuple[float, float]]
    """(seconds, value)"""
    end_s: float
    """The migration lasted from 0 until then."""
    blackout_s: tuple[float, float] | None
    level: float | None
    """A dashed line across."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Panes one under another."""

    name: str
    """Of the picture's file and of the place in the page."""
    label: str
    """Said in place of the plot, where it cannot be seen."""
    legend: str
    """What is what in it."""
    panes: list[Dots] | list[Course]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["small", "empty", "outcome", "note"]
    """``small``: by the way. ``empty``: in place of something. ``outcome``: what went wrong. ``note``: a legend."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """One under another."""

    sentences: list[str]


@dataclass(frozen=True, slots=True)
class Findings:
    """Each with its severity."""

    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names with what there is to tell of each; of ``meanings`` a paragraph each."""

    pairs: list[tuple[str, str]]
    kind: Literal["pairs", "meanings"]


Block = Table | Plot | Text | Sentences | Findings | Pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a page."""

    title: str
    identity: str
    blocks: list[Block]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything that is told of one run, by terminal, page and handout."""

    verdict: Verdict
    table: Table
    """The figures."""
    reasons: list[str]
    """Why something in the table is not, or not wholly, measured."""
    explanations: list[str]
    """What follows from the figures."""
    findings: list[Finding]
    sources: list[str]
    """Where figures from elsewhere in the table are from."""
    plot: Plot | None
    """None: there is nothing to draw."""
    sections: list[Section]
    """The page below its head."""
    tables: list[Table] = field(default_factory=list)
    """The figures in several tables, where one is too wide for a sheet of paper."""
    moves: list[tuple[str, Migration]] = field(default_factory=list)
    """Migrations by what each is called: the page tells how QEMU was set."""
    figures: dict[str, Any]
    """For programs: what ``--json`` prints beside findings."""
    whole: bool
    """Whether all was measured that can be had here."""


def verdict(
    sentence: str, *, measured: bool, whole: bool, unsound: list[str], unsteady: list[str], details: list[str],
    facts: list[tuple[str, str]],
) -> Verdict:  # fmt: skip
    """The verdict on a bench. *details* say what is not measured, *unsound* and *unsteady* what the rest is worth."""
    said = [*details, *unsound, *unsteady]
    mark: str = "Measured"
    tone: Tone = "good"
    if not measured:
        tone, mark = "bad", "Not measured"
    elif unsound:
        tone, mark = "warn", "Unsound"
    elif not whole:
        tone, mark = "warn", "Measured in part"
    elif unsteady:
        tone, mark = "warn", "Measured, but unsteady"
    return Verdict(tone=tone, mark=mark, sentence=sentence, details=said, facts=facts[:5])
