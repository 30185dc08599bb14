"""A migration that was recorded, steered again by any policy, without a guest: what it would have done, and when. Pure.

That is known until it does something that the recorded move did not: from then on the move would have been another one.
What that would have been is simulated, with the guest as the passes until then show it, and marked so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from limosa.migration.history import History, Look
from limosa.migration.policies.helm import Helm
from limosa.migration.policies.policy import Action, Brief, Policy
from limosa.prediction import pass_points
from limosa.prediction.dirty_memory import Region
from limosa.prediction.move_inputs import Link, PredictedMove, SimulatedLook
from limosa.prediction.simulation import Simulated
from limosa.prediction.steered_simulation import Step, act, go_on
from limosa.spec.migration_options import Value

_HORIZON = 5.0
"""A simulated rest is followed for so many times as long as the recorded move took, and for a minute at least."""
_LEAST_HORIZON_S = 60.0


class Course(msgspec.Struct, frozen=True):
    """What a policy makes of a recorded move."""

    policy: str
    begins: dict[str, bool | int | str]
    """The options that it begins with, by name, which the recorded move had otherwise."""
    steps: tuple[Step, ...]
    """In order; those after ``leaves_s`` are of a move that is simulated."""
    leaves_s: float | None = None
    """When it does something that the recorded move did not; None: never."""
    rest: PredictedMove | None = None
    """What comes of the simulated move; None: it does not leave the record, or too little was seen by then."""


def replayed(
    policy: Policy,
    brief: Brief,
    looks: Sequence[Look],
    *,
    had: dict[str, bool | int | str],
    taken: Iterable[Action] = (),
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
            until_s = max(_LEAST_HORIZON_S, _HORIZON * looks[-1].at_s)
            rest = _rest(helm, seen, action, {**had, **begins}, until_s, steps)
            return Course(policy.name, begins, tuple(steps), each.at_s, rest)
    return Course(policy.name, begins, tuple(steps))


def _rest(
    helm: Helm, seen: History, action: Action, options: dict[str, Value], until_s: float, steps: list[Step]
) -> PredictedMove | None:
    """The move from here on, as it would be, with what the policy does in it added to *steps*."""
    if action.kind == "cancel":
        return None
    begun, rate = _taken_up(seen), seen.wire_bytes_per_s
    if begun is None or rate is None:
        return None
    points = pass_points.of_passes(seen.passes) or [(begun.at_s, begun.remaining_bytes)]
    memory = pass_points.working_set(points, round(begun.total_bytes))
    simulated = Simulated([Region(begun.total_bytes)], memory.dirtied_bytes, Link(rate), options)
    simulated.take_up(begun)
    act(simulated, action)
    go_on(simulated, helm, seen, until_s, steps.append)
    return simulated.outcome()


def _taken_up(seen: History) -> SimulatedLook | None:
    """The last look as one that a simulation goes on from; None in the first pass, and where QEMU had no figures."""
    now = seen.now
    if now.status != "active" or now.remaining_bytes is None or now.sent_bytes is None or now.total_bytes is None:
        return None
    if now.iteration is None or now.iteration < 2:
        return None
    return SimulatedLook(
        at_s=now.at_s,
        status="active",
        iteration=now.iteration,
        total_bytes=now.total_bytes,
        remaining_bytes=now.remaining_bytes,
        sent_bytes=now.sent_bytes,
        dirty_rate_bytes_per_s=now.dirty_rate_bytes_per_s or 0.0,
        throughput_bytes_per_s=seen.throughput_bytes_per_s or 0.0,
        expected_downtime_s=(now.expected_downtime_ms or 0.0) / 1000,
        throttle_percent=now.throttle_percent,
        boundary=seen.boundary,
    )
