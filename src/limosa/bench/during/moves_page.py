"""What a bench of migrations tells: levels before, during and after, the course of each, and what follows."""

from __future__ import annotations

import numpy as np

from limosa.bench.during import judge, say
from limosa.bench.during.compare import Measure, Moved, read
from limosa.bench.during.course import SHARE, Moments
from limosa.bench.during.moves_table import MEANINGS, levels, table, waits
from limosa.bench.during.parts import LOADS, During
from limosa.results import account, figures, store
from limosa.results.account import Account, Colour, Course, Findings, Pairs, Plot, Section, Sentences, Text, Verdict
from limosa.results.metrics import BY_KEY
from limosa.results.phrases import sentence
from limosa.results.store import RunDirectory
from limosa.results.summary_tables import Table, milliseconds, seconds
from limosa.units import format_bytes_per_s

_LEGEND = (
    "Light: the migration, from the verb's begin (the target's launch included) to the end of the source. Strong: the"
    " blackout in it. The dashed line is 95 % of the level before. Each load had a migration of its own, because CPU"
    " and network loads disturb each other."
)

_OUTAGE = (
    "Outage: what clients missed around the blackout. Longest silence: what they missed at any time of the migration;"
    " a guest can fall silent when sending begins, too."
)

_COLOURS: dict[str, Colour] = {
    "sysbench": "green",
    "cpu-given": "orange",
    "cpu-speed": "green",
    "cpu-loop": "green",
    "throughput": "blue",
    "round-trip": "purple",
}

MOST_POINTS = 900
"""A pane is some 900 px wide; beyond, each group keeps its lowest and its highest sample."""


def of_run(run: RunDirectory) -> Account:
    """What there is to say of *run*. Raises LimosaError for a damaged one."""
    during, found = read(run)
    return of(during, found, run.read(store.RUN).error)


def of(during: During, found: list[Moved], error: str) -> Account:
    """What there is to say of a bench of migrations; *error* is the run's own."""
    said, careful, plot = say.of_migrations(found), judge.of_migrations(found), _plot(found)
    sections = [_figures(found), _through(plot)]
    if said:
        sections.append(Section(title="What follows", identity="follows", blocks=[Sentences(said)]))
    if careful:
        title = "What to know before comparing"
        sections.append(Section(title=title, identity="findings", blocks=[Findings(careful)]))
    if any(moved.migration is not None for moved in found):
        sections.append(_moves(found))
    return Account(
        verdict=_verdict(during, found, error, [f.text for f in careful if f.severity == "unsound"]),
        table=table(found),
        tables=[levels(found), waits(found)],
        reasons=[],
        explanations=said,
        findings=careful,
        sources=[],
        plot=plot,
        sections=[*sections, _meanings(found), _settings(during, found)],
        moves=[(_short(moved), moved.migration) for moved in found if moved.migration is not None],
        figures={"complete": during.complete, "parts": [_part(moved) for moved in found]},
        whole=all(part.status == "measured" for part in during.parts),
    )


def _part(moved: Moved) -> dict[str, object]:
    return {
        "part": moved.part,
        "outage_ms": moved.outage_ms,
        "longest_silence_ms": moved.longest_silence_ms,
        "rest_silence_ms": moved.rest_silence_ms,
        "rates": moved.rates,
        "clocks": moved.clocks,
        "moments": moved.moments,
        "measures": {m.name: {"unit": m.unit, "course": m.course} for m in moved.measures},
    }


def _verdict(during: During, found: list[Moved], error: str, unsound: list[str]) -> Verdict:
    """The worst that a migration did, or how far the bench came."""
    measured = [moved for moved in found if moved.migration and moved.migration.outcome == "completed"]
    broken = [moved for moved in found if moved.part.status != "measured"]
    details = [f"{_name(moved)}: {moved.part.status}. {sentence(moved.part.reason)}" for moved in broken]
    if not during.complete:
        details.append("The bench was stopped before its end: what follows is what it had measured until then.")
        if error and not any(error.lower() in detail.lower() for detail in details):
            details.append(sentence(error))
    silences = [(silent_ms, moved) for moved in measured if (silent_ms := longest_ms(moved)) is not None]
    said = "No load was measured through a whole migration."
    if measured:
        said = f"{during.guest} was measured through {figures.count(len(measured), 'migration')}"
        if silences:
            worst_ms, worst = max(silences, key=lambda silence: silence[0])
            said += f"; the longest silence was {figures.rounded(worst_ms)}, {_at_rest(worst)}"
        said += "."
    return account.verdict(
        said,
        measured=bool(measured),
        whole=during.complete and not broken,
        unsound=unsound,
        unsteady=_unsteady(measured),
        details=details,
        facts=[(figures.milliseconds(ms), f"longest silence, {_short(moved)}") for ms, moved in silences],
    )


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


def _figures(found: list[Moved]) -> Section:
    note = "Levels are medians of samples, with 95 % bootstrap intervals of the ratios within this one move."
    return Section(title="Figures", identity="figures", blocks=[levels(found)], note=note)


def _through(plot: Plot | None) -> Section:
    title = "Through the migration"
    if plot is None:
        empty = Text("No load came as far as a migration, so there is no course to draw.", "empty")
        return Section(title=title, identity="course", blocks=[empty])
    return Section(title=title, identity="course", blocks=[plot], note=plot.legend)


def _moves(found: list[Moved]) -> Section:
    rows = []
    for moved in found:
        migration = moved.migration
        if migration is None:
            continue
        clocks = moved.clocks
        took = seconds((migration.ended_ns - migration.started_ns) / 1e6)
        sent = figures.size((migration.qemu.get("ram") or {}).get("transferred"))
        pauses = (clocks.stop_resume_ms, clocks.guest_lost_ms, clocks.qemu_downtime_ms)
        rows.append((_short(moved), f"{migration.source} → {migration.target}", migration.outcome, took,
                     *map(milliseconds, pauses), milliseconds(moved.outage_ms),
                     milliseconds(moved.longest_silence_ms), milliseconds(moved.rest_silence_ms), sent))  # fmt: skip
    command, lost, downtime, transferred = (
        BY_KEY[key].title for key in ("command_ms", "guest_lost_ms", "qemu_downtime_ms", "transferred_bytes")
    )
    columns = ("Load", "Move", "Outcome", command, "Blackout", lost, downtime, "Outage", "Longest silence")
    shown = Table("Migrations", (*columns, "At rest", transferred), tuple(rows))
    return Section(title="The migrations", identity="migrations", blocks=[shown], note=_OUTAGE)


def _meanings(found: list[Moved]) -> Section:
    names = dict.fromkeys(measure.name for moved in found for measure in moved.measures)
    title, note = "How each figure is made, and what distorts it", "More in limosa's docs/homework.md and measuring.md."
    pairs = Pairs([MEANINGS[name] for name in names], "meanings")
    return Section(title=title, identity="meanings", blocks=[pairs], note=note)


def _settings(during: During, found: list[Moved]) -> Section:
    limit = during.max_bandwidth_bytes_per_s
    rows = [
        ("Before and after", f"{during.before_s:g} s and {during.after_s:g} s"),
        ("Random data in the guest's memory", figures.size(during.memory_bytes)),
        ("Upper limit of the migration", format_bytes_per_s(limit) if limit else "none"),
    ]
    rows += [(f"Run directory of {_short(moved)}", moved.part.directory or "none") for moved in found]
    return Section(title="Settings", identity="settings", blocks=[Pairs(rows, "pairs")])


def _plot(found: list[Moved]) -> Plot | None:
    """Every measure's course; None when nothing was measured."""
    panes = [
        _pane(moved, measure, moved.moments)
        for moved in found
        for measure in moved.measures
        if moved.moments is not None and len(measure.samples)
    ]
    label = "Every measure before, during and after the migration"
    return Plot(name="during", label=label, legend=_LEGEND, panes=panes) if panes else None


def _pane(moved: Moved, measure: Measure, moments: Moments) -> Course:
    def at(time_ns: int) -> float:
        return (time_ns - moments.start_ns) / 1e9

    level = None
    if measure.course is not None and measure.course.before is not None:
        before = measure.course.before.value * _scale(measure)
        level = before * SHARE if measure.samples.more_is_better else before / SHARE
    stood = None
    if moments.stop_ns is not None and moments.resume_ns is not None:
        stood = (at(moments.stop_ns), at(moments.resume_ns))
    again = f", repetition {moved.part.repetition}" if moved.part.repetition > 1 else ""
    return Course(
        title=f"{measure.label} ({moved.part.method}{again})",
        unit="Mbit/s" if measure.unit == "bit/s" else measure.unit,
        colour=_COLOURS.get(measure.name, "blue"),
        logarithmic=measure.unit == "ms",
        pointed=measure.name in ("sysbench", "cpu-given", "cpu-speed"),
        begin_s=at(moments.begin_ns),
        finish_s=at(moments.finish_ns),
        samples=drawn_samples(measure, moments),
        end_s=at(moments.end_ns),
        blackout_s=stood,
        level=level,
    )


def _scale(measure: Measure) -> float:
    return 1e-6 if measure.unit == "bit/s" else 1.0


def drawn_samples(measure: Measure, moments: Moments) -> list[tuple[float, float]]:
    """Samples as seconds since the migration began and value; what is not finite is left out."""
    found = measure.samples.inside(moments.begin_ns, moments.finish_ns)
    time = (found.end_ns - moments.start_ns) / 1e9
    finite = np.isfinite(found.value)
    time, value = time[finite], found.value[finite] * _scale(measure)
    kept = np.arange(len(value))
    if len(value) > MOST_POINTS:
        groups = np.array_split(kept, MOST_POINTS // 2)
        kept = np.unique([g[np.argmin(value[g])] for g in groups] + [g[np.argmax(value[g])] for g in groups])
    return [(round(float(time[i]), 4), float(f"{value[i]:.5g}")) for i in kept]
