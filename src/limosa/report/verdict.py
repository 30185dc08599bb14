"""The run in plain words: what happened and what users noticed. It claims nothing that was not measured."""

from __future__ import annotations

import statistics

import numpy as np

from limosa.report import clock_plots
from limosa.report.data import RunData
from limosa.results import figures
from limosa.results.account import Tone, Verdict
from limosa.results.format import Migration, MigrationSummary, Rest
from limosa.results.metrics import BY_KEY, CLOCKS, LONGEST_WAIT, METRICS
from limosa.results.phrases import sentence


def noticed_while_moving_ms(row: MigrationSummary) -> tuple[float, str] | None:
    """The longest interruption of users during the whole migration (it need not be at the blackout), and what it is."""
    read = ((metric.of(row), metric.headline) for metric in METRICS if metric.noticed)
    found = next(((value, label) for value, label in read if value is not None), None)
    whole_ms = LONGEST_WAIT.of(row)
    if whole_ms is not None and (found is None or whole_ms > found[0]):
        return whole_ms, LONGEST_WAIT.headline
    return found


def of(data: RunData) -> Verdict:
    """The verdict on *data*."""
    if data.summary.migrations:
        return _of_migrations(data)
    if data.summary.pauses:
        return _of_pauses(data)
    return Verdict(
        tone="bad" if data.run.status == "failed" else "warn",
        mark="No result",
        sentence="This run measured no migration.",
        details=_troubles(data),
        facts=[],
    )


def route(rows: list[MigrationSummary]) -> str:
    """``host1 → host2 → host1``; moves that do not join are kept apart by a semicolon."""
    if len(rows) > 6:
        hosts = list(dict.fromkeys(name for row in rows for name in (row.source, row.target)))
        return f"{len(rows)} times between {', '.join(hosts[:-1])} and {hosts[-1]}"
    words, at = "", ""
    for row in rows:
        if row.source != at:
            words += f"{'; ' if words else ''}{row.source}"
        words, at = f"{words} → {row.target}", row.target
    return words


def _of_migrations(data: RunData) -> Verdict:
    rows = data.summary.migrations
    done = [row for row in rows if row.outcome == "completed"]
    broken = [check for check in data.summary.checks if not check.passed]
    details = [progress_sentence(data, m) for m in data.migrations if m.outcome != "completed"]
    sentence = _sentence(data, done, [row for row in rows if row.outcome != "completed"])
    if broken:
        total = len(data.summary.checks)
        details.insert(0, f"{len(broken)} of {figures.count(total, 'check')} failed.")
    bad = bool(broken) or data.run.status == "failed" or any(row.outcome == "failed" for row in rows)
    tone: Tone = "bad" if bad else "good" if len(done) == len(rows) else "warn"
    if tone == "good" and data.run.status != "completed":
        tone = "warn"
    marks: dict[Tone, str] = {"good": "Moved", "warn": "Not completed", "bad": "Failed"}
    if len(done) == len(rows):
        marks["warn"] = "Moved, run cut short"
    if broken and len(done) == len(rows):
        marks["bad"] = "Moved, with damage"
    return Verdict(
        tone=tone,
        mark=marks[tone],
        sentence=sentence,
        details=[*details, *_troubles(data, said=details)],
        facts=_facts(data, done or rows),
    )


def _sentence(data: RunData, done: list[MigrationSummary], rest: list[MigrationSummary]) -> str:
    guest = data.run.guest
    if not done:
        first = rest[0]
        happened = "was cancelled" if first.outcome == "cancelled" else "failed"
        more = f" So did {figures.count(len(rest) - 1, 'other')}." if len(rest) > 1 else ""
        return f"The move of {guest} from {first.source} to {first.target} {happened}.{more}"
    noticed = [value[0] for row in done if (value := noticed_while_moving_ms(row)) is not None]
    effect = "what users noticed was not measured"
    if noticed:
        effect = _effect(max(noticed), "at most " if len(done) > 1 else "", data.summary.rest)
    ending = f" {figures.count(len(rest), 'other move')} did not complete." if rest else ""
    return f"{guest} moved {route(done)}; {effect}.{ending}"


def _effect(noticed_ms: float, most: str, rest: Rest | None) -> str:
    """What users noticed, beside what they notice of a guest that does not move."""
    waited = f"users waited {most}{figures.rounded(noticed_ms)}"
    if rest is None or rest.longest_wait_ms is None:
        return f"{waited}, and how long they wait at rest was not measured"
    at_rest = f"{figures.rounded(rest.longest_wait_ms)} at rest"
    if noticed_ms <= rest.longest_wait_ms:
        return f"users noticed no more than at rest: {most}{figures.rounded(noticed_ms)}, and {at_rest}"
    return f"{waited}, where they wait up to {at_rest}"


def progress_sentence(data: RunData, migration: Migration) -> str:
    """How far a migration that did not complete got, with its error."""
    way = f"Move {migration.index}, {migration.source} → {migration.target}, {migration.outcome}"
    took = figures.seconds((migration.ended_ns - migration.started_ns) / 1e6)
    ram = migration.qemu.get("ram") or _last_look(data, migration.index)
    far = "no progress was reported"
    if ram:
        sent, left = ram.get("transferred"), ram.get("remaining")
        passes = ram.get("dirty-sync-count")
        within = "" if passes is None else f" in {figures.count(int(passes), 'pass', 'passes')}"
        far = f"{figures.size(sent)} sent{within}, {figures.size(left)} still to send"
    error = f" {sentence(migration.error)}" if migration.error else ""
    return f"{way} after {took}: {far}.{error}"


def _last_look(data: RunData, index: int) -> dict[str, float]:
    """The last figures of a migration in the samples: a QEMU whose migration has failed tells none any more."""
    table = data.samples.get("progress")
    if table is None:
        return {}
    read = np.flatnonzero((table["migration"] == index) & np.isfinite(table["transferred_bytes"]))
    if not len(read):
        return {}
    last = read[-1]
    names = {"transferred": "transferred_bytes", "remaining": "remaining_bytes", "dirty-sync-count": "iteration"}
    return {name: float(table[column][last]) for name, column in names.items()}


def _troubles(data: RunData, said: list[str] | None = None) -> list[str]:
    found = []
    if data.run.status == "running" or data.run.ended_ns is None:
        found.append("The run was not ended: what follows is what it had written until then.")
    if data.run.error and not any(data.run.error in sentence for sentence in said or []):
        found.append(data.run.error)
    return found


def _facts(data: RunData, rows: list[MigrationSummary]) -> list[tuple[str, str]]:
    found = []
    noticed = [value for row in rows if (value := noticed_while_moving_ms(row)) is not None]
    if noticed:
        worst = max(noticed)
        found.append((figures.milliseconds(worst[0]), worst[1]))
    rest = data.summary.rest
    if noticed and rest is not None and rest.longest_wait_ms is not None:
        found.append((figures.milliseconds(rest.longest_wait_ms), f"longest wait at rest, in {rest.length_s:.0f} s"))
    for metric in METRICS:
        if not metric.headline or metric.noticed or metric is LONGEST_WAIT:
            continue
        known = [reading for row in rows if (reading := metric.of(row)) is not None]
        if known:
            which = ", the slowest move" if metric.quantity == "span" and len(rows) > 1 else ""
            found.append((figures.spelt(metric.quantity, max(known)), f"{metric.headline}{which}"))
    return found


def _of_pauses(data: RunData) -> Verdict:
    pauses = data.summary.pauses
    facts = []
    found = clock_plots.errors(data)
    for metric, _ in CLOCKS:
        if errors := [abs(row["error"]) for row in found if row["field"] == metric.key]:
            facts.append((figures.spelt(metric.quantity, statistics.median(errors)), metric.title))
    lengths = ", ".join(f"{ms:g}" for ms in sorted({pause.requested_ms for pause in pauses}))
    tick = next((value for value, label in facts if label == BY_KEY["tick_gap_ms"].title), None)
    closing = f"the packet clock was off by {tick} at the median" if tick else "the packet clock had no reading"
    finished = data.run.status == "completed"
    return Verdict(
        tone="good" if finished else "warn",
        mark="Calibrated" if finished else "Not completed",
        sentence=f"{data.run.guest} was paused {figures.count(len(pauses), 'time')}; {closing}.",
        details=[
            f"Pauses of {lengths} ms. Below, each clock's median error, against what the guest's own clock lost.",
            *_troubles(data),
        ],
        facts=facts,
    )
