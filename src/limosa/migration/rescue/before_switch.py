"""Who keeps the guest when pre-copy is interrupted: one pure function, tested case by case.

The rule it serves: a guest never runs twice and is never lost while a copy of it exists. QEMU hands over in one
direction only: the source stops (``postmigrate`` once everything is sent), then the target starts by itself. So a
running copy always wins; a stopped source may be resumed only when it is sure that the target never ran.
"""

from __future__ import annotations

import msgspec

from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict

_RUNS = frozenset({"running"})
_SENT = frozenset({"postmigrate"})
_SENDING = frozenset({"finish-migrate"})
_STOPPED = frozenset({"paused", "io-error", "suspended", "save-vm", "watchdog", "prelaunch"})
_BROKEN = frozenset({"internal-error", "guest-panicked", "shutdown"})
_LOADING = frozenset({"inmigrate"})


class Situation(msgspec.Struct, frozen=True):
    """What is known: run states of both QEMUs (or GONE, UNREACHABLE)."""

    source: str
    target: str
    target_may_have_run: bool = True
    """False only if nothing was ever sent, or if the target's monitor was watched from before the hand-over to its
    end and said no RESUME."""
    target_receives: bool = True
    """False only if the target's QEMU says that no source has connected to it."""
    paused: bool = False
    """Whether the move's policy may have had the guest paused: then it stands still by our hand alone."""


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
        return Verdict.WAIT  # QEMU refuses to resume it; it comes to an end by itself, or when it is cancelled
    if now.source in _STOPPED | _BROKEN:
        # It stopped before everything was sent, so the target cannot have started.
        if now.target not in {GONE} | _LOADING:
            return Verdict.ASK
        return Verdict.RESUME_SOURCE if now.paused and now.source == "paused" else Verdict.KEEP_SOURCE
    return Verdict.ASK


def _without_source(now: Situation) -> Verdict:
    if now.target == GONE:
        return Verdict.LOST
    if now.target in _LOADING:
        return Verdict.WAIT if now.target_receives else Verdict.LOST
    if now.target in _STOPPED | _BROKEN:
        return Verdict.KEEP_TARGET  # the only copy there is, whatever became of it
    return Verdict.ASK


def _after_sending(now: Situation) -> Verdict:
    if now.target in _LOADING:
        return Verdict.WAIT
    if now.target in _STOPPED:
        return Verdict.KEEP_TARGET
    if now.target == GONE:
        return Verdict.ASK if now.target_may_have_run else Verdict.RESUME_SOURCE
    return Verdict.ASK
