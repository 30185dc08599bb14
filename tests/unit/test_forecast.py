"""Forecasts of many draws, and what simpler ways say of the same move."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from limosa.prediction.baselines import PreCopy, expected_downtime, gudkov, textbook
from limosa.prediction.dirty_memory import Region
from limosa.prediction.forecast import COUNT, drawn_costs, drawn_jitter, drawn_link, forecast, left_alone, of_moves
from limosa.prediction.move_inputs import ON_WIRE, Costs, Link, PredictedMove
from limosa.prediction.simulation import Simulated

MIB = float(1 << 20)
MEMORY, SET, RATE, LINK = 256 * MIB, 32 * MIB, 8 * MIB, 24 * MIB


def dirtied(seconds: float) -> float:
    return min(RATE * seconds, SET)


def _drawn(told_ms: int, sigma: float = 0.1) -> Callable[[random.Random], Simulated]:
    def drawn(chance: random.Random) -> Simulated:
        link, costs = drawn_link(chance, Link(LINK), sigma), drawn_costs(chance, Costs())
        return Simulated((Region(MEMORY, zero_share=0.5),), dirtied, link, {"downtime-limit": told_ms}, costs)

    return drawn


def test_a_forecast_has_medians_and_intervals() -> None:
    found = forecast(_drawn(300), left_alone(120.0), count=60)
    assert found.draws == 60 and found.completes == 1.0
    assert found.total_s is not None and found.pause_s is not None and found.sent_bytes is not None
    for each in (found.total_s, found.pause_s, found.sent_bytes):
        assert each.low < each.median < each.high
    assert found.total_s.median == pytest.approx((128 + 32 + 32 / 3 + 32 / 9) / 24, rel=0.1), "W saturates"
    assert found.exposure_s is not None and found.exposure_s.high == 0


def test_the_same_seed_gives_the_same_forecast() -> None:
    said = [forecast(_drawn(300), left_alone(60.0), count=10, seed=seed) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_policies_meet_the_same_draws() -> None:
    met: list[list[float]] = [[], []]
    for seen in met:

        def drive(simulated: Simulated, seen: list[float] = seen) -> None:
            seen.append(simulated.link.bytes_per_s)
            simulated.cancel()

        forecast(_drawn(300), drive, count=5)
    assert met[0] == met[1] and len(set(met[0])) == 5


def test_what_is_late_did_not_complete() -> None:
    all_of_it = forecast(_drawn(300), left_alone(120.0), count=40)
    assert all_of_it.total_s is not None
    half = forecast(_drawn(300), left_alone(120.0), count=40, deadline_s=all_of_it.total_s.median)
    assert half.completes == 0.5
    none = forecast(_drawn(300), left_alone(1.0), count=5)
    assert none.completes == 0.0 and none.total_s is None and none.pause_s is None
    with pytest.raises(ValueError, match="at least one"):
        of_moves([])


def test_quantiles_lie_between_values() -> None:
    moves = [PredictedMove(True, float(second), 0.1, 1.0) for second in range(101)]
    total = of_moves(moves).total_s
    assert total is not None and (total.median, total.low, total.high) == (50.0, 5.0, 95.0)
    assert COUNT >= 100, "or an interval of 90 % rests on a handful at either end"


def _pre_copy(rate: float, limit_s: float = 0.3, working_set: float = SET) -> PreCopy:
    return PreCopy(MEMORY, 0.5, lambda t: min(rate * t, working_set), LINK, limit_s)


def test_the_textbook_is_a_geometric_series() -> None:
    said = textbook(_pre_copy(8 * MIB))
    # λ = 1/3; 256 MiB, 85.3, 28.4, 9.5, 3.2: the first under 7.2 MiB is the fourth after the first.
    assert said.completed and said.sent_bytes == pytest.approx(MEMORY * (1 - 3**-5) / (1 - 1 / 3))
    assert said.total_s == pytest.approx(MEMORY * (1 - 3**-5) / (1 - 1 / 3) / LINK)
    assert said.pause_s == pytest.approx(MEMORY / 3**4 / LINK)
    assert not textbook(_pre_copy(24 * MIB)).completed, "though its working set is a plateau that a longer limit takes"
    idle = textbook(_pre_copy(0.0))
    assert idle.completed and idle.pause_s == 0 and idle.total_s == pytest.approx(MEMORY / LINK)
    whole = textbook(_pre_copy(8 * MIB, limit_s=60.0))
    assert whole.pause_s == whole.total_s == pytest.approx(MEMORY / LINK)


def test_whole_passes_over_a_curve() -> None:
    said = gudkov(_pre_copy(8 * MIB))
    first_s = (MEMORY / 2 * ON_WIRE + MEMORY / 2 * 8 / 4096) / LINK
    second_s = 32 * MIB * ON_WIRE / LINK  # 5.3 s at 8 MiB/s: all of the working set
    assert said.total_s is not None and said.total_s > first_s + second_s
    assert said.completed and said.pause_s is not None and said.pause_s <= 0.3
    assert not gudkov(_pre_copy(40 * MIB)).completed
    plateau = gudkov(_pre_copy(40 * MIB, limit_s=1.5))
    assert plateau.pause_s == pytest.approx(second_s) and plateau.total_s == pytest.approx(first_s + second_s)


def test_qemu_expects_a_pause() -> None:
    move = _pre_copy(40 * MIB)
    assert expected_downtime(move).pause_s == 0.3, "as long as it has no rates"
    simulated = Simulated((Region(MEMORY, zero_share=0.5),), dirtied, Link(LINK), {})
    nothing = simulated.next_look(simulated.now_s)
    assert not expected_downtime(move, nothing).completed
    look = simulated.advance(6.0)[-1]
    said = expected_downtime(move, look)
    assert said.pause_s == look.expected_downtime_s
    assert said.total_s == pytest.approx(6.0 + look.remaining_bytes / look.throughput_bytes_per_s)


def test_a_rate_that_is_not_even_spreads_the_pause() -> None:
    """Of a guest that goes on writing QEMU stops at the first window that says that the rest fits."""

    def drawn(sigma: float) -> Callable[[random.Random], Simulated]:
        return lambda chance: Simulated(
            (Region(MEMORY, zero_share=0.5),), dirtied, Link(LINK), {}, jitter=drawn_jitter(chance, sigma)
        )

    even, uneven = (forecast(drawn(sigma), left_alone(60.0), count=40) for sigma in (0.0, 0.1))
    assert even.pause_s is not None and uneven.pause_s is not None
    assert even.pause_s.low == even.pause_s.high
    assert uneven.pause_s.high - uneven.pause_s.low > 0.01
    assert uneven.completes == 1.0
