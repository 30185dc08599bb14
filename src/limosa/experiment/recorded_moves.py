"""The migrations of a run, steered again by every policy (``limosa policy replay``)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from limosa.errors import StateError
from limosa.events import MigrationProgressed
from limosa.migration.history import recorded
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Action, Brief, Policy
from limosa.migration.settings import Settings
from limosa.prediction.replay import Course, replayed
from limosa.results import store
from limosa.results.format import Migration
from limosa.results.store import RunDirectory, read_events
from limosa.spec.migration_options import OPTIONS


class Replay(msgspec.Struct, frozen=True):
    """One recorded migration, and what each policy makes of it."""

    index: int
    """From 1, in order."""
    source: str
    target: str
    policy: str
    """What steered it."""
    outcome: str
    took_s: float
    courses: tuple[Course, ...]


def replay(run: RunDirectory, allowed: Settings) -> list[Replay]:
    """Each migration of *run*, by all policies, with what *allowed* lets them do.

    Where nothing is said of that, what the recorded move's policy was allowed holds for all. A policy that needs what
    is not allowed is left out. Raises StateError for a run without a look at a migration.
    """
    moves = run.read(store.MIGRATIONS)
    seen = [event for event in read_events(run) if isinstance(event, MigrationProgressed)]
    found = [_replay(run, move, seen, allowed) for move in moves or []]
    if not any(found):
        raise StateError(f"run {run.path.name} has no look at a migration", hint="limosa migrate GUEST HOST --measure")
    return [each for each in found if each is not None]


def _replay(run: RunDirectory, move: Migration, seen: list[MigrationProgressed], allowed: Settings) -> Replay | None:
    looks = [recorded(e) for e in seen if e.guest == move.guest and move.started_ns <= e.time_ns <= move.ended_ns]
    if not looks:
        return None
    had = {option.name: option.unasked for option in OPTIONS.values()} | dict(move.plan.get("options", {}))
    taken = [Action(each.action, each.options) for each in move.decisions]  # type: ignore[arg-type]
    brief = allowed.brief(max(each.total_bytes or 0 for each in looks))
    if allowed == Settings() and (steered := move.plan.get("brief")):
        brief = msgspec.convert(steered, Brief)
    courses = (replayed(policy, brief, looks, had=had, taken=taken) for policy in _able(brief))
    return Replay(
        index=move.index,
        source=move.source,
        target=move.target,
        policy=str(move.plan.get("policy", policy_table.NONE)),
        outcome=move.outcome,
        took_s=looks[-1].at_s,
        courses=tuple(courses),
    )


def _able(brief: Brief) -> Iterator[Policy]:
    for policy in policy_table.all_policies():
        if (policy.post_copy != "must" or brief.may_post_copy) and (brief.deadline_s or not policy.needs_deadline):
            yield policy
