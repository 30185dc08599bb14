"""What was seen of a move: passes that are long, and passes between two looks."""

from __future__ import annotations

import pytest

from limosa.migration.history import History, Look

MIB = 1 << 20


def seen(*looks: tuple[float, int, int, int]) -> History:
    """Of (at_s, iteration, remaining MiB, sent MiB)."""
    history = History()
    for at_s, iteration, left, sent in looks:
        history.add(Look(at_s=at_s, iteration=iteration, remaining_bytes=left * MIB, sent_bytes=sent * MIB))
    return history


def test_a_pass_begins_with_what_is_left_and_what_was_sent_of_it_before_it_was_seen() -> None:
    history = seen((0, 1, 100, 0), (1, 1, 40, 60), (2, 2, 0, 110), (2.1, 2, 48, 112))
    assert [each.start_bytes / MIB for each in history.passes] == [100, 60]  # 10 of it before the first look, 2 after
    assert history.boundary and history.passes[1].began_s == 2


def test_passes_with_no_look_within_them_are_passes_too() -> None:
    """Each is seen as the next one is counted: with what was left, or with what has been sent since, if more."""
    history = seen(
        (0, 1, 100, 0), (1, 2, 5, 100), (1.1, 3, 5, 105), (1.2, 4, 0, 110), (1.3, 5, 5, 116), (1.4, 7, 5, 127)
    )
    assert [each.start_bytes / MIB for each in history.passes] == [100, 5, 5, 6, 5]
    assert history.boundary


def test_a_rate_takes_two_looks_that_are_a_tenth_of_a_second_apart() -> None:
    assert seen((0, 1, 100, 0), (0.05, 1, 98, 2)).rate(1.0) is None
    assert seen((0, 1, 100, 0), (1, 1, 76, 24), (2, 1, 52, 60)).rate(0.5) == pytest.approx(36 * MIB)
