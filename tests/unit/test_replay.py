"""A recorded move, steered again."""

from __future__ import annotations

from collections.abc import Iterator

from limosa.events import MigrationProgressed
from limosa.migration.history import Look
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Brief, pause_of
from limosa.migration.replay import look, replayed

MIB = 1 << 20
BRIEF = Brief(memory_bytes=2 << 30)


def looks(until_s: int) -> Iterator[Look]:
    """Always the same left, something sent each second."""
    return (
        Look(at_s=float(second), iteration=1 + second, remaining_bytes=100 * MIB, sent_bytes=second * MIB)
        for second in range(until_s)
    )


def test_it_is_known_until_it_does_something_else() -> None:
    course = replayed(policy_table.named("nova"), BRIEF, looks(400), had={"downtime-limit": 300})
    assert [step.action for step in course.steps] == [pause_of(95)]
    assert course.leaves_s == course.steps[0].after_s == 150.0
    assert course.begins == {"downtime-limit": 50}


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
    assert look(told) == Look(
        at_s=1.5, status="active", iteration=3, remaining_bytes=7, sent_bytes=9, total_bytes=99, throttle_percent=20,
        dirty_rate_bytes_per_s=0.0,
    )  # fmt: skip
