"""A policy at the helm of a simulated move, as it would be at a real one. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from limosa.migration.history import History, Look
from limosa.migration.policies.helm import Helm
from limosa.migration.policies.policy import Action, Brief, Policy
from limosa.prediction.move_inputs import SimulatedLook
from limosa.prediction.simulation import Simulated

LOOK_S = 0.1
"""Between two looks. A real move is looked at more often; what policies judge by is whole after this."""


class Step(msgspec.Struct, frozen=True):
    """What a policy does at a look."""

    after_s: float
    """Since the migration began."""
    action: Action
    why: str


def drive(
    policy: Policy, brief: Brief, until_s: float, told: Callable[[Step], None] = lambda _: None
) -> Callable[[Simulated], None]:
    """What takes a simulated move to its end, or to *until_s*, as *policy* steers it; *told* hears of what it does.

    The simulated move begins with the options that the policy begins with: whoever makes it sees to that.
    """
    return lambda simulated: go_on(simulated, Helm(policy, brief), History(), until_s, told)


def go_on(
    simulated: Simulated, helm: Helm, seen: History, until_s: float, told: Callable[[Step], None] = lambda _: None
) -> None:
    """Take a move that is under way to its end, or to *until_s*, with what was *seen* of it before."""
    while not simulated.over and simulated.now_s < until_s:
        look = simulated.next_look(min(until_s, simulated.now_s + LOOK_S))
        seen.add(_seen(look))
        action, why = helm.judge(seen) if look.status == "active" else (None, "")
        if action is not None:
            told(Step(look.at_s, action, why))
            act(simulated, action)


def _seen(look: SimulatedLook) -> Look:
    return Look(
        at_s=look.at_s,
        status=look.status,
        iteration=look.iteration,
        total_bytes=round(look.total_bytes),
        remaining_bytes=round(look.remaining_bytes),
        sent_bytes=round(look.sent_bytes),
        dirty_rate_bytes_per_s=look.dirty_rate_bytes_per_s,
        expected_downtime_ms=look.expected_downtime_s * 1000,
        throttle_percent=look.throttle_percent,
    )


def act(simulated: Simulated, action: Action) -> None:
    """Have it done."""
    if action.kind == "cancel":
        simulated.cancel()
    elif action.kind == "pause":
        simulated.pause_guest()
    elif action.kind == "post-copy":
        simulated.start_post_copy()
    for name, value in action.options.items():
        simulated.set(name, value)
