"""The working-set curve between, before and after the points that were measured."""

from __future__ import annotations

import itertools
import math
import random

import msgspec
import pytest

from limosa.prediction.working_set import LEVEL, WINDOWS_S, Curve, Point, WorkingSet, concave

MIB = 1 << 20
MEMORY = 512 * MIB
GRID = [0.01 * 1.09**step for step in range(100)]
"""From 10 ms to 50 s."""


def of(points: dict[float, float], spread: float = 0.0) -> WorkingSet:
    made = [Point(t_s, value, value * (1 - spread), value * (1 + spread)) for t_s, value in points.items()]
    return WorkingSet(points=tuple(made), memory_bytes=MEMORY, how="memory")


def filled(t_s: float, *, size: float = 64 * MIB, rate: float = 40 * MIB) -> float:
    """A guest that writes at random to *size* bytes at *rate* bytes/s."""
    return size * -math.expm1(-rate * t_s / size)


def at_random(chance: random.Random) -> dict[float, float]:
    """Points that sampling may give: neither concave nor rising for certain."""
    scale, bend = chance.uniform(1, 300) * MIB, chance.uniform(0.05, 1)
    return {t_s: scale * (t_s / 8) ** bend * chance.uniform(0.8, 1.2) for t_s in WINDOWS_S[: chance.randint(1, 8)]}


@pytest.mark.parametrize("seed", range(40))
def test_any_curve_rises_ever_slower_and_lies_nowhere_below_its_points(seed: int) -> None:
    points = at_random(random.Random(seed))
    curve = of(points).curve()
    assert all(curve.dirtied_bytes(t_s) >= value * (1 - 1e-12) for t_s, value in points.items() if value <= MEMORY)
    values = [(0.0, 0.0), *((t_s, curve.dirtied_bytes(t_s)) for t_s in GRID)]
    slopes = [(after[1] - now[1]) / (after[0] - now[0]) for now, after in itertools.pairwise(values)]
    assert min(slopes) >= 0
    assert all(later <= slope * (1 + 1e-6) + 1e-3 for slope, later in itertools.pairwise(slopes[1:]))
    assert values[-1][1] <= MEMORY


def test_points_that_are_concave_are_met() -> None:
    points = {t_s: filled(t_s) for t_s in WINDOWS_S}
    found = of(points)
    for t_s, value in points.items():
        assert found.dirtied_bytes(t_s) == pytest.approx(value)


def test_between_points_it_lies_between_the_least_and_the_greatest_concave_curve() -> None:
    found = of({1.0: 10 * MIB, 2.0: 16 * MIB, 4.0: 20 * MIB, 8.0: 24 * MIB})
    # At 3 s the chord has 18 MiB; those beside it, drawn on, 22 and 19.
    assert found.dirtied_bytes(3) == pytest.approx(18.5 * MIB)


@pytest.mark.parametrize("rate", [4 * MIB, 40 * MIB, 400 * MIB])
def test_between_the_windows_it_is_near_a_guest_that_writes_at_random(rate: float) -> None:
    found = of({t_s: filled(t_s, rate=rate) for t_s in WINDOWS_S})
    for t_s in (0.07, 0.18, 0.3, 0.75, 1.5, 3.0, 6.0):
        assert found.dirtied_bytes(t_s) == pytest.approx(filled(t_s, rate=rate), rel=0.04)


def test_before_the_first_point_it_is_the_worst_that_is_concave() -> None:
    found = of({1.0: 10 * MIB, 2.0: 12 * MIB, 4.0: 13 * MIB})
    assert found.dirtied_bytes(0.5) == pytest.approx(9 * MIB)
    assert found.dirtied_bytes(0) == 0


@pytest.mark.parametrize("t_s", [10.0, 16.0, 60.0])
def test_after_the_last_point_a_working_set_fills_up(t_s: float) -> None:
    found = of({t_s: filled(t_s, rate=6 * MIB) for t_s in WINDOWS_S})
    assert found.dirtied_bytes(t_s) == pytest.approx(filled(t_s, rate=6 * MIB), rel=0.01)


def test_what_goes_on_evenly_ends_at_all_memory() -> None:
    found = of({t_s: 30 * MIB * t_s for t_s in WINDOWS_S})
    assert found.dirtied_bytes(16) == pytest.approx(480 * MIB)
    assert found.dirtied_bytes(20) == MEMORY


def test_what_has_filled_up_stays_so() -> None:
    assert of({1.0: 8 * MIB, 2.0: 8 * MIB, 4.0: 8 * MIB}).dirtied_bytes(1000) == pytest.approx(8 * MIB)


def test_one_point_is_taken_for_a_rate() -> None:
    found = of({2.0: 8 * MIB})
    assert [found.dirtied_bytes(t_s) / MIB for t_s in (0.5, 2, 10)] == pytest.approx([2, 8, 40])


def test_a_guest_that_does_nothing() -> None:
    found = of(dict.fromkeys(WINDOWS_S, 0.0))
    assert [found.dirtied_bytes(t_s) for t_s in (0, 0.01, 0.3, 8, 100)] == [0] * 5


@pytest.mark.parametrize("t_s", [-1.0, math.nan])
def test_no_time(t_s: float) -> None:
    with pytest.raises(ValueError, match="a time is not below 0"):
        of({1.0: 1.0}).dirtied_bytes(t_s)


@pytest.mark.parametrize("times", [[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
def test_times_that_do_not_rise(times: list[float]) -> None:
    with pytest.raises(ValueError, match="rise"):
        concave([(t_s, 1.0) for t_s in times])


def test_curves_are_drawn_as_the_intervals_say() -> None:
    found = of({t_s: filled(t_s) for t_s in WINDOWS_S}, spread=0.2)
    chance = random.Random(7)
    curves = [found.drawn(chance) for _ in range(2000)]
    for point in found.points:
        assert point.low_bytes is not None and point.high_bytes is not None
        values = [curve.dirtied_bytes(point.t_s) for curve in curves]
        inside = sum(point.low_bytes <= value <= point.high_bytes for value in values) / len(values)
        assert inside == pytest.approx(LEVEL, abs=0.03)
        assert sum(value < point.median_bytes for value in values) / len(values) == pytest.approx(0.5, abs=0.05)


def test_the_same_chance_draws_the_same_curve() -> None:
    found = of({t_s: filled(t_s) for t_s in WINDOWS_S}, spread=0.2)
    first, again, other = (found.drawn(random.Random(seed)) for seed in (1, 1, 2))
    assert isinstance(first, Curve) and first == again != other


def test_without_intervals_every_curve_is_the_median() -> None:
    points = tuple(Point(t_s, filled(t_s)) for t_s in WINDOWS_S)
    found = WorkingSet(points=points, memory_bytes=MEMORY, how="passes")
    assert found.drawn(random.Random(1)) == found.curve()


def test_it_goes_to_a_file_and_back() -> None:
    found = of({t_s: filled(t_s) for t_s in WINDOWS_S}, spread=0.1)
    assert msgspec.json.decode(msgspec.json.encode(found), type=WorkingSet) == found
