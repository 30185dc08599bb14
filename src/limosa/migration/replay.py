"""A migration that was recorded, steered again by any policy, without a guest: what it would have done, and when. Pure.

That is known until it does something that the recorded move did not: from then on the move would have been another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from limosa.events import MigrationProgressed
from limosa.migration.history import History, Look
from limosa.migration.policies.helm import Helm
from limosa.migration.policies.policy import Action, Brief, Policy


class Step(msgspec.Struct, frozen=True):
    """What a policy does at a look."""

    after_s: float
    """Since the migration began."""
    action: Action
    why: str


class Course(msgspec.Struct, frozen=True):
    """What a policy makes of a recorded move."""

    policy: str
    begins: dict[str, bool | int | str]
    """The options that it begins with, by name, which the recorded move had otherwise."""
    steps: tuple[Step, ...]
    """In order; the last one may be where it leaves the record."""
    leaves_s: float | None = None
    """When it does something that the recorded move did not; None: never."""


def look(event: MigrationProgressed) -> Look:
    """What a policy sees in a look that was recorded."""
    return Look(
        at_s=event.elapsed_ms / 1000,
        status=event.status,
        iteration=event.iteration,
        total_bytes=event.total_bytes,
        remaining_bytes=event.remaining_bytes,
        sent_bytes=event.transferred_bytes,
        dirty_rate_bytes_per_s=event.dirty_rate_bytes_per_s or 0.0,
        expected_downtime_ms=event.expected_downtime_ms,
        throttle_percent=event.throttle_percent,
    )


def replayed(
    policy: Policy,
    brief: Brief,
    looks: Iterable[Look],
    *,
    had: dict[str, bool | int | str],
    taken: Sequence[Action] = (),
) -> Course:
    """What *policy* does at these looks. *had*: the options of the recorded move; *taken*: what its own policy did, in
    order."""
    helm, seen, steps, left = Helm(policy, brief), History(), list[Step](), list(taken)
    begins = {name: value for name, value in policy.begins(brief).items() if had.get(name) != value}
    for each in looks:
        seen.add(each)
        action, why = helm.judge(seen)
        if action is None:
            continue
        steps.append(Step(each.at_s, action, why))
        if not left or left.pop(0) != action:
            return Course(policy.name, begins, tuple(steps), each.at_s)
    return Course(policy.name, begins, tuple(steps))
