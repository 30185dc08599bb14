"""A recorded move, steered again."""

from __future__ import annotations

from msgspec.structs import replace

from limosa.events import MigrationProgressed
from limosa.migration.history import Look, recorded
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Brief, pause_of
from limosa.prediction.replay import replayed

MIB = 1 << 20
BRIEF = Brief(memory_bytes=2 << 30)
BRIEF_OK = Brief(memory_bytes=2 << 30, post_copy="ok")


def looks(until_s: int) -> list[Look]:
    """100 MiB are dirty again after each pass of a second."""
    return [
        Look(
            at_s=tenth / 10,
            iteration=1 + tenth // 10,
            remaining_bytes=(10 - tenth % 10) * 10 * MIB,
            sent_bytes=tenth * 10 * MIB,
            total_bytes=512 * MIB,
        )
        for tenth in range(until_s * 10)
    ]


def test_it_is_known_until_it_does_something_else() -> None:
    course = replayed(policy_table.named("nova"), BRIEF, looks(400), had={"downtime-limit": 300})
    assert course.steps[0].action == pause_of(95)
    assert course.leaves_s == course.steps[0].after_s == 150.0
    assert course.begins == {"downtime-limit": 50}


def test_what_follows_is_simulated_from_there() -> None:
    """It goes on with its steps; 100 MiB at 100 MiB/s do not fit into any of them, and post-copy ends it."""
    course = replayed(policy_table.named("nova"), BRIEF, looks(400), had={"downtime-limit": 300})
    assert course.rest is not None and not course.rest.completed
    later = [step.action.options.get("downtime-limit") for step in course.steps[1:]]
    assert later == [*range(140, 501, 45), None] and course.steps[-1].action.kind == "cancel"
    switched = replayed(policy_table.named("ganeti"), BRIEF_OK, looks(400), had={})
    assert switched.leaves_s == 1.0 and switched.rest is not None and switched.rest.completed
    assert 1.0 < (switched.rest.total_s or 0) < 8 and switched.rest.exposure_s > 0
    early = replayed(policy_table.named("virsh-timeout"), replace(BRIEF, deadline_s=0.5), looks(400), had={})
    assert early.leaves_s == 0.5 and early.rest is None, "in the first pass too little was seen"


def test_what_the_recorded_move_did_too_leaves_nothing() -> None:
    taken = [pause_of(95), pause_of(140)]
    course = replayed(policy_table.named("nova"), BRIEF, looks(400), had={"downtime-limit": 50}, taken=taken)
    assert [step.after_s for step in course.steps] == [150.0, 300.0]
    assert course.leaves_s is None and course.begins == {}


def test_one_that_does_nothing_stays_with_the_record() -> None:
    course = replayed(policy_table.named("virsh"), BRIEF, looks(400), had={})
    assert course.steps == () and course.leaves_s is None


def test_a_look_is_read_as_it_was_told() -> None:
    told = MigrationProgressed(guest="db", status="active", elapsed_ms=1500.0, iteration=3, remaining_bytes=7,
                               transferred_bytes=9, total_bytes=99, throttle_percent=20)  # fmt: skip
    assert recorded(told) == Look(
        at_s=1.5, status="active", iteration=3, remaining_bytes=7, sent_bytes=9, total_bytes=99, throttle_percent=20,
        dirty_rate_bytes_per_s=0.0,
    )  # fmt: skip
