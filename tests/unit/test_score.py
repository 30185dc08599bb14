"""How predictions are held against what came."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from limosa.prediction.forecast import Range
from limosa.prediction.score import Held, scores

SAID = Range(10.0, 8.0, 12.0)
ONE = Held(
    time_ns=1, way="auto", machine="tcg", completes=0.9, completed=True, total_s=SAID, real_total_s=10.0,
    pause_s=Range(0.2, 0.1, 0.3), real_pause_s=0.4,
)  # fmt: skip


def test_errors_are_as_large_for_half_as_for_twice() -> None:
    (row,) = scores([ONE, replace(ONE, real_total_s=20.0), replace(ONE, real_total_s=5.0)])
    assert row.total_error == pytest.approx(math.log(2)) and row.total_within == pytest.approx(1 / 3)
    assert row.pause_error == pytest.approx(math.log(2)) and row.pause_within == 0
    assert (row.moves, row.completed, row.brier) == (3, 3, pytest.approx(0.01))


def test_what_did_not_complete_has_no_time_that_could_be_off() -> None:
    failed = replace(ONE, completed=False, real_total_s=None, real_pause_s=None)
    (row,) = scores([failed])
    assert (row.completed, row.total_error, row.total_within, row.pause_error) == (0, None, None, None)
    assert row.brier == pytest.approx(0.81)


def test_a_time_that_nobody_expected_counts_for_how_sure_it_was() -> None:
    (row,) = scores([replace(ONE, completes=0.0, total_s=None, pause_s=None)])
    assert (row.brier, row.total_error) == (1.0, None)


def test_ways_and_machines_are_apart() -> None:
    rows = scores([ONE, replace(ONE, way="qemu"), replace(ONE, machine="kvm"), ONE])
    assert [(row.way, row.machine, row.moves) for row in rows] == [
        ("auto", "tcg", 2), ("qemu", "tcg", 1), ("auto", "kvm", 1),
    ]  # fmt: skip
