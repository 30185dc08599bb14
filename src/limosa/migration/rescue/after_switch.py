"""Who keeps the guest once post-copy was asked for: one pure function, tested case by case.

From then on the guest's memory may be on both sides, so neither is ended while the other may live. QEMU itself takes a
guest back to the source only before the target has begun (10.2 and later); then the source runs.
"""

from __future__ import annotations

import msgspec

from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict
from limosa.qemu.monitor import PAUSED, POST_COPY

_WAITS = "inmigrate"
_OVER = frozenset({"failed", "cancelled"})
_MOVES = POST_COPY - {PAUSED}
_UNDECIDED = frozenset({"active", "device", "pre-switchover", "failing", "cancelling"})
"""QEMU says in a moment what becomes of it."""


class Situation(msgspec.Struct, frozen=True):
    """What is known: run states of both QEMUs (or GONE, UNREACHABLE), and what each says of the migration."""

    source: str
    target: str
    source_says: str = ""
    """The status of its migration; empty: it is not known."""
    target_says: str = ""


def decide(now: Situation) -> Verdict:
    """The verdict for *now*."""
    if UNREACHABLE in (now.source, now.target):
        return Verdict.GO_ON
    if now.source == "running":
        return _source_runs(now)
    if now.source == GONE:
        return _without_source(now)
    if now.source == "postmigrate" and now.source_says == "failed":
        # QEMU 7.2 stopped it and failed before it had sent what the target needs to begin.
        return Verdict.RESUME_SOURCE if now.target in {GONE, _WAITS} else Verdict.ASK
    if now.target == GONE:
        return Verdict.WAIT if now.source_says in _UNDECIDED else Verdict.LOST
    return _both(now)


def _source_runs(now: Situation) -> Verdict:
    """It has not stopped yet, or QEMU has taken the guest back: 10.2 and newer where the target has not begun. 10.0 and
    11.1 were also seen to do so when the connection broke at the very end: then the guest has gone on at the target."""
    if now.target not in {GONE, _WAITS}:
        return Verdict.STOP_SOURCE if now.source_says in _OVER else Verdict.ASK
    return Verdict.KEEP_SOURCE if now.source_says in {*_OVER, "none"} else Verdict.WAIT


def _without_source(now: Situation) -> Verdict:
    if now.target == GONE:
        return Verdict.LOST
    if now.target_says == "completed" and now.target != _WAITS:
        return Verdict.KEEP_TARGET
    # What was on its way may have been the last of it: a target that has all says so, one that lacks some pauses.
    return Verdict.LOST if now.target_says in {PAUSED, *_OVER} else Verdict.WAIT


def _both(now: Situation) -> Verdict:
    if now.source_says == "completed":
        return Verdict.WAIT if now.target == _WAITS or now.target_says in POST_COPY else Verdict.KEEP_TARGET
    if now.source_says == "failed":
        # QEMU would have taken it back and could not: the target had begun and holds the disk, and lacks memory. One
        # that was stopped again has the guest as it was when it was handed over.
        return Verdict.LOST if now.source == "finish-migrate" else Verdict.ASK
    if PAUSED in (now.source_says, now.target_says) or now.source_says in _MOVES:
        return Verdict.GO_ON
    return Verdict.WAIT if now.source_says in _UNDECIDED else Verdict.ASK
