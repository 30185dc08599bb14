"""Who keeps the guest when a migration is interrupted: one pure function, tested case by case.

The rule it serves: a guest never runs twice and is never lost while a copy of it exists. QEMU hands over in one
direction only: the source stops (``postmigrate`` once everything is sent), then the target starts by itself. So a
running copy always wins; a stopped source may be resumed only when it is sure that the target never ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What has to be done."""

    KEEP_SOURCE = "keep-source"
    """The guest runs on the source: cancel what is under way, end the target."""
    RESUME_SOURCE = "resume-source"
    """No copy runs and the target never did: end the target, then let the source run again."""
    KEEP_TARGET = "keep-target"
    """The guest runs on the target: end the source."""
    WAIT = "wait"
    """The hand-over is under way and will decide by itself: look again."""
    LOST = "lost"
    """Neither QEMU exists any more: the guest went down with its host, its disk remains."""
    ASK = "ask"
    """Both answers could harm: a person decides."""


GONE = "gone"
"""A side whose QEMU process does not exist any more."""
UNREACHABLE = "unreachable"
"""A side of which nothing is known: its host does not answer but may be running."""

_RUNS = frozenset({"running"})
_SENT = frozenset({"postmigrate"})
_SENDING = frozenset({"finish-migrate"})
_STOPPED = frozenset({"paused", "io-error", "suspended", "save-vm", "watchdog", "prelaunch"})
_BROKEN = frozenset({"internal-error", "guest-panicked", "shutdown", "colo"})
_LOADING = frozenset({"inmigrate"})


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known: run states of both QEMUs (or GONE, UNREACHABLE)."""

    source: str
    target: str
    target_may_have_run: bool = True
    """False only if someone watched the target's monitor from before the hand-over to its end and saw no RESUME."""
    wanted_paused: bool = False
    """The guest was paused when the migration began, so a paused target is the finished hand-over."""


def decide(now: Situation) -> Verdict:
    """The verdict for *now*."""
    if now.target in _RUNS:
        return Verdict.ASK if now.source in _RUNS or now.source == UNREACHABLE else Verdict.KEEP_TARGET
    if now.source in _RUNS:
        return Verdict.KEEP_SOURCE
    if now.source == UNREACHABLE:
        return Verdict.ASK
    if now.source == GONE:
        return _without_source(now)
    if now.source in _SENT:
        return _after_sending(now)
    if now.source in _SENDING:
        return Verdict.RESUME_SOURCE if now.target == GONE and not now.target_may_have_run else Verdict.WAIT
    if now.source in _STOPPED | _BROKEN:
        # It stopped before everything was sent, so the target cannot have started.
        return Verdict.KEEP_SOURCE if now.target in {GONE} | _LOADING else Verdict.ASK
    return Verdict.ASK


def _without_source(now: Situation) -> Verdict:
    if now.target == GONE:
        return Verdict.LOST
    if now.target in _LOADING:
        return Verdict.WAIT
    if now.target in _STOPPED:
        return Verdict.KEEP_TARGET
    return Verdict.ASK


def _after_sending(now: Situation) -> Verdict:
    if now.target in _LOADING:
        return Verdict.WAIT
    if now.target in _STOPPED:
        return Verdict.KEEP_TARGET
    if now.target == GONE:
        return Verdict.ASK if now.target_may_have_run else Verdict.RESUME_SOURCE
    return Verdict.ASK
