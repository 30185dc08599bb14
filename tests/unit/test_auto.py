"""Limosa's own policy, at the helm of simulated moves."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from limosa.migration.policies import auto, policy_table
from limosa.migration.policies.policy import Brief
from limosa.prediction.dirty_memory import Region
from limosa.prediction.move_inputs import Link, PredictedMove
from limosa.prediction.simulation import Simulated
from limosa.prediction.steered_simulation import Step, drive

MIB = 1 << 20
BRIEF = Brief(memory_bytes=256 * MIB)
RATE = 24 * MIB
Curve = Callable[[float], float]
POLICY = policy_table.named("auto")


def at_random(rate: float, size: float) -> Curve:
    """A guest that writes so many MiB/s at random over so many MiB."""
    return lambda seconds: size * MIB * -math.expm1(-rate * seconds / size)


def plateau(size: float, rate: float = 400.0) -> Curve:
    """A guest that writes the same MiB over and over."""
    return lambda seconds: min(size, rate * seconds) * MIB


CURVES = {
    "little": plateau(2.5),
    "some": plateau(10),
    "much": plateau(40),
    "faster": at_random(30, 200),
    "slower": at_random(20, 400),
}


def moved(curve: Curve, brief: Brief = BRIEF, rate: float = RATE, **options: int) -> tuple[PredictedMove, list[Step]]:
    simulated = simulation(curve, brief, rate)
    steps = list[Step]()
    drive(POLICY, brief, 300.0, steps.append)(simulated)
    return simulated.outcome(), steps


def simulation(curve: Curve, brief: Brief, rate: float = RATE) -> Simulated:
    return Simulated(
        [Region(100 * MIB), Region(156 * MIB, 0.9, 0.0)], curve, Link(rate, 2.6e6), POLICY.begins(brief), busy_share=0.9
    )


def outage_s(move: PredictedMove, brief: Brief) -> float:
    assert move.pause_s is not None
    return move.pause_s + brief.gap_s


def test_a_guest_at_rest_is_left_alone() -> None:
    move, steps = moved(plateau(1, 2))
    assert move.completed and steps == [] and outage_s(move, BRIEF) < BRIEF.outage_s


@pytest.mark.parametrize("limit_s", [0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("allowed", ["never", "ok"])
def test_the_limit_is_kept_wherever_it_gets_across(curve: Curve, limit_s: float, allowed: str) -> None:
    brief = replace(BRIEF, outage_s=limit_s, post_copy=allowed)
    move, steps = moved(curve, brief)
    kinds = [step.action.kind for step in steps]
    assert move.completed or kinds[-1] == "cancel"
    if move.completed:
        assert outage_s(move, brief) <= 1.1 * limit_s or outage_s(move, brief) <= limit_s + 0.03
    else:
        assert steps[-1].action.hint.startswith("it would get across with --outage")


def test_a_working_set_that_fits_gets_the_pause_that_it_needs() -> None:
    """40 MiB at 24 MiB/s are 1.67 s: of an outage of 2.5 s; no longer pause is planned than that."""
    brief = replace(BRIEF, outage_s=2.5)
    move, steps = moved(plateau(40), brief)
    assert move.completed and [step.action.kind for step in steps] == ["set"]
    assert steps[0].action.options["downtime-limit"] == pytest.approx(1.1 * 40 / 24 * 1000 + 10, rel=0.02)


def test_what_does_not_fit_is_given_up_with_what_would_do() -> None:
    move, steps = moved(plateau(40))
    assert not move.completed and steps[-1].action.kind == "cancel" and move.total_s is not None and move.total_s < 40
    price_s = auto.post_copy_outage_s(BRIEF, RATE)
    hint = steps[-1].action.hint
    assert "--outage '2.082 s'" in hint and f"--post-copy ok --outage '{price_s * 1100:.4g} ms'" in hint, hint
    for better in (replace(BRIEF, outage_s=2.2), replace(BRIEF, outage_s=price_s * 1.1, post_copy="ok")):
        assert moved(plateau(40), better)[0].completed, "the hint was true"


def test_post_copy_is_begun_where_it_helps_and_is_allowed() -> None:
    brief = replace(BRIEF, outage_s=0.6, post_copy="ok")
    move, steps = moved(plateau(40), brief)
    assert move.completed and move.exposure_s > 0 and steps[-1].action.kind == "post-copy"
    last, steps = moved(plateau(40), replace(brief, post_copy="last"))
    assert last.completed and steps[-1].after_s > 2 * move.exposure_s
    never, _ = moved(plateau(40), replace(brief, post_copy="never"))
    assert not never.completed


@pytest.mark.parametrize(
    ("more", "kind"), [({}, "cancel"), ({"exceed": True}, "set"), ({"post_copy": "last"}, "post-copy")]
)
def test_the_deadline_is_when_the_last_resort_is_over(more: dict[str, object], kind: str) -> None:
    brief = replace(BRIEF, outage_s=0.6, deadline_s=20.0, **more)
    move, steps = moved(plateau(40), brief)
    assert steps[-1].action.kind == kind and steps[-1].after_s < 20.0
    assert move.completed == (kind != "cancel")
    assert move.total_s is not None and move.total_s < 20.5


def test_nothing_that_cannot_be_undone_is_done_while_the_link_is_bad() -> None:
    """It falls to a tenth for 3 s as the third pass begins."""
    brief = replace(BRIEF, outage_s=0.6, post_copy="ok")
    simulated, steps = simulation(at_random(30, 200), brief), list[Step]()
    whole = simulated.link
    begun_s: list[float] = []
    drive_on = drive(POLICY, brief, 300.0, steps.append)
    next_look = simulated.next_look

    def looking(until_s: float) -> object:
        look = next_look(until_s)
        if look.iteration == 3 and not begun_s:
            begun_s.append(look.at_s)
        bad = bool(begun_s) and look.at_s < begun_s[0] + 3
        simulated.link = replace(whole, bytes_per_s=whole.bytes_per_s / 10) if bad else whole
        return look

    simulated.next_look = looking  # type: ignore[method-assign,assignment]
    drive_on(simulated)
    assert simulated.outcome().completed and begun_s
    assert all(not begun_s[0] + 0.5 < step.after_s < begun_s[0] + 3 for step in steps)


def test_a_short_pass_is_waited_for() -> None:
    """A guest that rests for 2 s in every 10: the first pass that fits is taken, and its pause is enough."""

    def curve(seconds: float) -> float:
        return min(40.0, 400 * seconds) * MIB

    simulated, steps = simulation(curve, replace(BRIEF, outage_s=0.6)), list[Step]()
    brief = replace(BRIEF, outage_s=0.6)
    memory, next_look = simulated._memory, simulated.next_look

    def looking(until_s: float) -> object:
        rests = simulated.now_s % 10 > 7
        memory._dirtied = (lambda seconds: min(4.0, 400 * seconds) * MIB) if rests else curve
        return next_look(until_s)

    simulated.next_look = looking  # type: ignore[method-assign,assignment]
    drive(POLICY, brief, 300.0, steps.append)(simulated)
    assert simulated.outcome().completed
    assert outage_s(simulated.outcome(), brief) <= 0.66


def test_a_throttle_is_tried_once_and_taken_back_where_it_does_not_help() -> None:
    """A guest that hardly computes writes as much as before."""
    brief = replace(BRIEF, throttle_percent=80)
    simulated, steps = simulation(plateau(40), brief), list[Step]()
    drive(POLICY, brief, 300.0, steps.append)(simulated)
    assert [step.action.options.get("max-cpu-throttle") for step in steps] == [80, 1, None]
    assert steps[-1].action.kind == "cancel"
    assert simulated.throttle.on, "it was begun with, parked"
