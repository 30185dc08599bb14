"""Statistics: worked by hand where that is possible, by their promised coverage where it is not."""

from collections.abc import Callable

import numpy as np
import pytest

from limosa.results import statistics


def test_median_of_known_values() -> None:
    assert statistics.median([3, 1, 2, 10]).value == 2.5
    assert statistics.median([5]).value == 5


def test_too_few_values_have_no_interval() -> None:
    few = statistics.median([1, 2, 3, 4, 5])
    assert (few.low, few.high, few.count, few.level) == (None, None, 5, 0.95)
    enough = statistics.median([1, 2, 3, 4, 5, 6])
    assert enough.low is not None
    assert enough.high is not None
    assert 1 <= enough.low < 3.5 < enough.high <= 6


@pytest.mark.parametrize(("level", "count"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_least_count(level: float, count: int) -> None:
    assert statistics.least_count(level) == count
    assert 1 - 2.0 ** (1 - count) >= level > 1 - 2.0 ** (2 - count)


def test_the_interval_keeps_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over samples of a long-tailed law whose median is 1, a 95 % interval holds 1 about 95 times in 100."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    random = np.random.default_rng(5)
    trials, held = 120, 0
    for _ in range(trials):
        estimate = statistics.median(list(random.lognormal(0, 0.8, 15)))
        assert estimate.low is not None
        assert estimate.high is not None
        held += estimate.low <= 1 <= estimate.high
    assert 0.88 <= held / trials <= 0.99


def test_equal_values_have_an_interval_of_no_width() -> None:
    estimate = statistics.median([7.0] * 10)
    assert (estimate.value, estimate.low, estimate.high) == (7, 7, 7)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = list(np.random.default_rng(1).normal(100, 10, 30))
    assert statistics.median(samples) == statistics.median(samples)


def test_a_higher_level_is_wider() -> None:
    samples = list(np.random.default_rng(1).normal(100, 10, 30))
    narrow, wide = statistics.median(samples, level=0.8), statistics.median(samples, level=0.99)
    assert narrow.low is not None and narrow.high is not None
    assert wide.low is not None and wide.high is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_values_are_resampled_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = list(np.random.default_rng(1).normal(100, 10, 31))
    whole = statistics.median(samples)
    monkeypatch.setattr(statistics, "_BATCH_VALUES", 1000)
    assert statistics.median(samples) == whole


def test_paired_ratio_is_free_of_what_slows_both() -> None:
    load = np.random.default_rng(3).uniform(1, 10, 20)
    estimate = statistics.paired_ratio(list(3 * load), list(2 * load))
    assert estimate.value == pytest.approx(1.5)
    assert estimate.low == pytest.approx(1.5)
    assert estimate.high == pytest.approx(1.5)


def test_paired_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians() -> None:
    assert statistics.paired_ratio([1, 4, 9], [1, 2, 1]).value == 2
    assert statistics.ratio_of_medians([1, 4, 9], [1, 2, 1]).value == 4


def test_ratio_of_medians_of_sets_of_unlike_size() -> None:
    random = np.random.default_rng(4)
    estimate = statistics.ratio_of_medians(list(random.normal(20, 1, 40)), list(random.normal(10, 0.5, 25)))
    assert estimate.count == 25
    assert estimate.low is not None and estimate.high is not None
    assert 1.9 < estimate.low < 2 < estimate.high < 2.1


def test_spread_of_known_values() -> None:
    found = statistics.spread([1, 2, 3, 4, 100])
    assert found == statistics.Spread(
        mad_sigma=pytest.approx(1.4826), quartile_low=2, quartile_high=4, minimum=1, maximum=100
    )


def test_mad_agrees_with_the_standard_deviation_on_normal_data() -> None:
    samples = np.random.default_rng(6).normal(0, 3, 20_000)
    assert statistics.spread(list(samples)).mad_sigma == pytest.approx(3, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.median([]), "there are no samples"),
        (lambda: statistics.median([1, float("nan")]), "a sample is not a finite number"),
        (lambda: statistics.median([1, float("inf")]), "a sample is not a finite number"),
        (lambda: statistics.spread([]), "there are no samples"),
        (lambda: statistics.median([1], level=1), "a confidence level lies between 0 and 1, 1 does not"),
        (
            lambda: statistics.paired_ratio([1, 2], [1]),
            "pairs are needed, there are 2 numerators and 1 denominators",
        ),
        (lambda: statistics.paired_ratio([1], [0]), "a ratio needs denominators above 0"),
        (lambda: statistics.ratio_of_medians([1], [-1]), "a ratio needs denominators above 0"),
    ],
)
def test_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
