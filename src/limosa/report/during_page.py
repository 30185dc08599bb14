"""The report of a bench of migrations: levels before, during and after, the course of each, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limosa.bench import soundness
from limosa.bench.during import compare, say
from limosa.bench.during.compare import Moved
from limosa.bench.during.parts import DURING, LOADS, During
from limosa.bench.during_table import MEANINGS, table
from limosa.report import commands, figures, sections
from limosa.report import during as plot
from limosa.report.data import RunData
from limosa.report.markup import Html, tag
from limosa.report.theme import PAGE, Theme
from limosa.report.vega import Spec
from limosa.report.verdict import Tone, Verdict
from limosa.results.store import RunDirectory
from limosa.results.summary_tables import Table, milliseconds

LEGEND = (
    "Light: the migration, from the verb's begin (the target's launch included) to the end of the source. Strong: the"
    " blackout in it. The dashed line is 95 % of the level before. Each load had a migration of its own, because CPU"
    " and network loads disturb each other."
)

_OUTAGE = (
    "Outage: what clients missed around the blackout. Longest silence: what they missed at any time of the migration;"
    " a guest can fall silent when sending begins, too."
)


@dataclass(frozen=True, slots=True)
class Migrations:
    """A run of this bench, read again."""

    during: During
    found: list[Moved]


def load(path: Path) -> Migrations | None:
    """The bench of the run directory *path*; None when it has none. Raises LimosaError for a damaged one."""
    if not (path / DURING.file).exists():
        return None
    return Migrations(*compare.read(RunDirectory.open(path)))


def spec(found: Migrations, theme: Theme) -> Spec | None:
    """The plot; None without anything to draw."""
    return plot.spec(found.found, theme)


def verdict(found: Migrations, error: str) -> Verdict:
    """What the page says first: the worst that a migration did, or how far the bench came. *error* is the run's own."""
    measured = [moved for moved in found.found if moved.migration and moved.migration.outcome == "completed"]
    details = [f"{_name(moved)}: {moved.part.status}. {_sentence(moved.part.reason)}" for moved in found.found
               if moved.part.status != "measured"]  # fmt: skip
    if not found.during.complete:
        details.append("The bench was stopped before its end: what follows is what it had measured until then.")
        if error and not any(error.lower() in detail.lower() for detail in details):
            details.append(_sentence(error))
    facts = [(figures.milliseconds(silent_ms), f"longest silence, {_short(moved)}") for moved in measured
             if (silent_ms := longest_ms(moved)) is not None][:5]  # fmt: skip
    unsound = [finding.text for finding in soundness.of_migrations(found.found) if finding.severity == "unsound"]
    details += [*unsound, *_unsteady(measured)]
    silences = [(silent_ms, moved) for moved in measured if (silent_ms := longest_ms(moved)) is not None]
    if not measured:
        return Verdict(tone="bad", mark="Not measured", sentence="No load was measured through a whole migration.",
                       details=details, facts=facts)  # fmt: skip
    moves = figures.count(len(measured), "migration")
    sentence = f"{found.during.guest} was measured through {moves}"
    if silences:
        worst_ms, worst = max(silences, key=lambda silence: silence[0])
        sentence += f"; the longest silence was {figures.rounded(worst_ms)}, {_at_rest(worst)}"
    sentence += "."
    whole = found.during.complete and all(moved.part.status == "measured" for moved in found.found)
    mark = "Measured in part" if not whole else "Measured, but unsteady" if details else "Measured"
    mark = "Unsound" if unsound and whole else mark
    tone: Tone = "good" if whole and not details else "warn"
    return Verdict(tone=tone, mark=mark, sentence=sentence, details=details, facts=facts)


def _at_rest(moved: Moved) -> str:
    """What there is without a move, by the same measure."""
    if moved.rest_silence_ms is None:
        return "and that at rest was not measured"
    return f"and {figures.rounded(moved.rest_silence_ms)} at rest"


def longest_ms(moved: Moved) -> float | None:
    """The longest time for which a client had nothing, at the blackout or at any other moment of the migration."""
    known = [value for value in (moved.outage_ms, moved.longest_silence_ms) if value is not None]
    return max(known, default=None)


def _name(moved: Moved) -> str:
    again = f", repetition {moved.part.repetition}" if moved.part.repetition > 1 else ""
    return f"{LOADS[moved.part.load]} ({moved.part.method}{again})"


def _short(moved: Moved) -> str:
    again = f" ({moved.part.repetition})" if moved.part.repetition > 1 else ""
    return f"{moved.part.method}, {moved.part.load}{again}"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}{'' if reason.endswith('.') else '.'}"


def _unsteady(found: list[Moved]) -> list[str]:
    """What cannot be told, since the measure varied by itself."""
    names = dict.fromkeys(
        measure.label for moved in found for measure in moved.measures
        if measure.course is not None and not measure.course.steady
    )  # fmt: skip
    if not names:
        return []
    return [
        f"Varied by more than 5 % even before a migration: {', '.join(names)}. Levels and recovery say little there."
    ]


def parts(data: RunData, found: Migrations) -> list[Html | None]:
    """The sections of the page below its head."""
    return [
        _figures(found),
        _plot(found),
        _follows(found),
        _findings(found),
        _moves(found),
        _meanings(found),
        _settings(found),
        sections.in_force((_short(moved), moved.migration) for moved in found.found if moved.migration is not None),
        sections.part("Commands", commands.section(data), identity="commands"),
    ]


def _figures(found: Migrations) -> Html:
    shown = table(found.found)
    below = ("outage", "longest silence", "silence at rest", "move took")  # told there by move
    kept = [i for i, name in enumerate(shown.columns) if name not in below]
    columns = tuple(shown.columns[i] for i in kept)
    less = Table(shown.title, columns, tuple(tuple(row[i] for i in kept) for row in shown.rows))
    note = "Levels are medians of samples, with 95 % bootstrap intervals of the ratios within this one move."
    return sections.part("Figures", sections.plain_table(less), identity="figures", note=note)


def _plot(found: Migrations) -> Html:
    drawn = spec(found, PAGE)
    body = tag("p", "No load came as far as a migration, so there is no course to draw.", class_="empty")
    if drawn is not None:
        body = sections.figure("during", drawn, "Every measure before, during and after the migration")
    return sections.part("Through the migration", body, identity="course", note=LEGEND if drawn is not None else "")


def _follows(found: Migrations) -> Html | None:
    said = say.of_migrations(found.found)
    return sections.part("What follows", sections.bullets(said), identity="follows") if said else None


def _findings(found: Migrations) -> Html | None:
    said = soundness.of_migrations(found.found)
    if not said:
        return None
    return sections.part("What to know before comparing", sections.findings(said), identity="findings")


def _moves(found: Migrations) -> Html | None:
    rows = []
    for moved in found.found:
        migration = moved.migration
        if migration is None:
            continue
        clocks = moved.clocks
        took = milliseconds((migration.ended_ns - migration.started_ns) / 1e6)
        sent = figures.mebibytes((migration.qemu.get("ram") or {}).get("transferred"))
        pauses = (clocks.stop_resume_ms, clocks.guest_lost_ms, clocks.qemu_downtime_ms)
        rows.append((_short(moved), f"{migration.source} → {migration.target}", migration.outcome, took,
                     *map(milliseconds, pauses), milliseconds(moved.outage_ms),
                     milliseconds(moved.longest_silence_ms), milliseconds(moved.rest_silence_ms), sent))  # fmt: skip
    if not rows:
        return None
    columns = ("Load", "Move", "Outcome", "Took", "Blackout", "Guest lost", "QEMU says", "Outage", "Longest silence")
    shown = Table("Migrations", (*columns, "At rest", "Sent"), tuple(rows))
    return sections.part("The migrations", sections.plain_table(shown), identity="migrations", note=_OUTAGE)


def _meanings(found: Migrations) -> Html:
    names = dict.fromkeys(measure.name for moved in found.found for measure in moved.measures)
    listed = [tag("div", tag("dt", MEANINGS[name][0]), tag("dd", MEANINGS[name][1])) for name in names]
    return sections.part("How each figure is made, and what distorts it", tag("dl", listed, class_="meanings"),
                         identity="meanings", note="More in docs/homework.md and docs/measuring.md.")  # fmt: skip


def _settings(found: Migrations) -> Html:
    during_ = found.during
    limit = during_.max_bandwidth_bytes_per_s
    rows = [
        ("Before and after", f"{during_.before_s:g} s and {during_.after_s:g} s"),
        ("Random data in the guest's memory", figures.mebibytes(during_.memory_bytes)),
        ("Upper limit of the migration", f"{limit / 2**20:g} MiB/s" if limit else "none"),
    ]
    rows += [(f"Run directory of {_short(moved)}", moved.part.directory or "none") for moved in found.found]
    listed = tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="pairs")
    return sections.part("Settings", listed, identity="settings")
