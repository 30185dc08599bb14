"""What is said of pages that were sampled, by guests of which everything is known. All chance is seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from limosa.prediction.memory_look import GROUPS, PAGES
from limosa.prediction.sampled_pages import Group, Sample, Window, interval, student_95, wilson, working_set
from limosa.prediction.working_set import WINDOWS_S

MEMORY = 1 << 30
TRIALS = 400


def dirty(t_s: float, share: float, speed: float = 1.0) -> float:
    """The share of its memory that a guest has dirtied which writes at random to *share* of it."""
    return share * -math.expm1(-speed * t_s)


def seen(chance: np.random.Generator, share: float, speeds: Sequence[float], late_s: float = 0.0) -> Sample:
    """What groups of pages see of it, each at a moment at which it has another speed; looks come up to *late_s*
    late."""
    groups = []
    for speed in speeds:
        moments = chance.exponential(1 / speed, PAGES)
        moments[chance.random(PAGES) >= share] = math.inf
        times = [t_s + chance.uniform(0, late_s) for t_s in WINDOWS_S]
        groups.append(Group(PAGES, tuple(Window(t_s, int((moments <= t_s).sum())) for t_s in times)))
    return Sample(groups=tuple(groups))


@pytest.mark.parametrize("share", [0.004, 0.06, 0.2, 0.7])
def test_a_steady_guest_is_within_a_tenth_where_much_is_dirtied_and_else_inside_the_interval(share: float) -> None:
    chance = np.random.default_rng(11)
    for at, t_s in enumerate(WINDOWS_S):
        truth, off, inside = dirty(t_s, share) * MEMORY, [], 0
        for _ in range(TRIALS // 8):
            point = working_set(seen(chance, share, [1.0] * GROUPS), WINDOWS_S, MEMORY).points[at]
            assert point.low_bytes is not None and point.high_bytes is not None
            off.append(point.median_bytes / truth - 1)
            inside += point.low_bytes <= truth <= point.high_bytes
        if truth >= 0.05 * MEMORY:
            assert max(map(abs, off)) <= 0.1
        assert inside >= 0.85 * len(off)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.3, 0.95])
def test_the_interval_of_a_steady_guest_covers_and_is_not_biased(share: float) -> None:
    chance = np.random.default_rng(3)
    found = [interval((chance.binomial(PAGES, share, GROUPS) / PAGES).tolist(), [PAGES] * GROUPS) for _ in range(2000)]
    assert sum(low <= share <= high for _, low, high in found) >= 0.88 * len(found)
    assert sum(mean for mean, _, _ in found) / len(found) == pytest.approx(share, rel=0.03)
    sampling = math.sqrt(share * (1 - share) / (PAGES * GROUPS))
    widths = sorted((high - low) / (2 * 1.645 * sampling) for _, low, high in found)
    assert widths[len(widths) // 2] < 1.25, "it is no wider than what is not known"


@pytest.mark.parametrize("varies", [0.2, 0.4])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_another_moment_of_a_guest_that_varies_is_inside_the_interval(share: float, varies: float) -> None:
    chance = np.random.default_rng(5)
    inside = 0
    for _ in range(TRIALS):
        *shares, another = np.clip(chance.normal(share, varies * share, GROUPS + 1), 0, 1)
        drawn = [chance.binomial(PAGES, each) / PAGES for each in shares]
        _, low, high = interval(drawn, [PAGES] * GROUPS)
        inside += low <= another <= high
    assert inside >= 0.82 * TRIALS


def test_a_guest_that_varies_has_a_wider_interval_than_one_that_does_not() -> None:
    chance = np.random.default_rng(1)
    steady, varied = (
        working_set(seen(chance, 0.3, speeds), WINDOWS_S, MEMORY).points[4]
        for speeds in ([1.0] * GROUPS, [0.3, 1.7] * (GROUPS // 2))
    )
    widths = [(point.high_bytes or 0) - (point.low_bytes or 0) for point in (steady, varied)]
    assert widths[1] > 5 * widths[0]


def test_looks_that_come_late_are_no_bias() -> None:
    chance = np.random.default_rng(2)
    found = [working_set(seen(chance, 0.5, [1.0] * GROUPS, late_s=0.04), WINDOWS_S, MEMORY) for _ in range(20)]
    for at, t_s in enumerate(WINDOWS_S):
        mean = sum(each.points[at].median_bytes for each in found) / len(found)
        assert mean == pytest.approx(dirty(t_s, 0.5) * MEMORY, rel=0.03)


def test_nothing_dirtied_is_still_not_known_to_be_nothing() -> None:
    mean, low, high = interval([0.0] * GROUPS, [PAGES] * GROUPS)
    assert (mean, low) == (0, 0)
    assert 2 / (PAGES * GROUPS) < high < 4 / (PAGES * GROUPS)


def test_one_group_has_the_interval_of_a_sample() -> None:
    assert interval([0.25], [400]) == (0.25, *wilson(0.25, 400))


def test_zeros() -> None:
    windows = tuple(Window(t_s, 40, 10) for t_s in WINDOWS_S)
    found = working_set(Sample(groups=(Group(400, windows, 100), Group(400, windows, 300))), WINDOWS_S, MEMORY)
    assert (found.zero_share, found.dirtied_zero_share, found.pages) == (0.5, 0.25, 800)
    none = tuple(Window(t_s, 0) for t_s in WINDOWS_S)
    assert working_set(Sample(groups=(Group(400, none),)), WINDOWS_S, MEMORY).dirtied_zero_share is None


def test_nothing_sampled() -> None:
    with pytest.raises(ValueError, match="no pages"):
        working_set(Sample(), WINDOWS_S, MEMORY)


@pytest.mark.parametrize(
    "group",
    [
        Group(10, ()),
        Group(10, (Window(0.0, 1),)),
        Group(10, (Window(1.0, 1), Window(1.0, 2))),
        Group(10, (Window(1.0, 11),)),
        Group(10, (Window(1.0, -1),)),
        Group(10, (Window(1.0, 1),), 11),
    ],
)
def test_what_cannot_be(group: Group) -> None:
    with pytest.raises(ValueError, match="can be like these"):
        working_set(Sample(groups=(group,)), WINDOWS_S, MEMORY)


def test_quantiles() -> None:
    """By the tables."""
    for freedom, value in ((4, 2.132), (10, 1.812), (31, 1.696)):
        assert student_95(freedom) == pytest.approx(value, rel=0.01)
