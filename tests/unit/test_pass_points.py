"""The working-set curve from the passes of a move: simulated guests, whose rate and working set are known."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from limosa.events import MigrationProgressed
from limosa.migration.passes import Pass
from limosa.prediction.pass_points import of_looks, of_passes, working_set

MB = 1e6
MEMORY = 160_000_000
LINK = 12 * MB


def dirtied(t_s: float, *, size: float = 30 * MB, rate: float = 14 * MB) -> float:
    return size * -math.expm1(-rate * t_s / size)


def passes(count: int, noise: float = 0.0, seed: int = 1) -> list[Pass]:
    """Of a guest that outruns its link, the first over all memory; what it writes varies by a factor from pass to
    pass."""
    chance, found, left = random.Random(seed), [Pass(0.0, MEMORY)], float(MEMORY)
    while len(found) < count:
        took_s = left / LINK
        left = dirtied(took_s) * math.exp(chance.gauss(0, noise))
        found.append(Pass(found[-1].began_s + took_s, left))
    return found


def looks(seen: list[Pass]) -> Iterator[MigrationProgressed]:
    """Every 50 ms; QEMU counts a pass before it knows what is dirty."""
    step_s, sent = 0.05, 0.0
    for number, each in enumerate(seen, 1):
        left = each.start_bytes
        while left > 0:
            at_ms = (each.began_s + (each.start_bytes - left) / LINK) * 1000
            yield MigrationProgressed(
                guest="g", status="active", elapsed_ms=at_ms, iteration=number,
                remaining_bytes=round(left), transferred_bytes=round(sent + each.start_bytes - left),
            )  # fmt: skip
            left -= step_s * LINK
        sent += each.start_bytes


def test_each_pass_is_a_point() -> None:
    found = of_passes(passes(4))
    assert found == [pytest.approx((t_s, dirtied(t_s))) for t_s, _ in found]
    assert len(found) == 3


def test_the_curve_is_the_guest_s() -> None:
    curve = working_set(of_passes(passes(12)), MEMORY)
    assert (curve.how, curve.pages, curve.zero_share) == ("passes", None, None)
    for t_s in (1.0, 1.5, 2.0, 5.0, 10.0):
        assert curve.dirtied_bytes(t_s) == pytest.approx(dirtied(t_s), rel=0.1)


def test_looks_tell_the_passes() -> None:
    real = passes(6)
    found = of_looks(looks(real))
    assert len(found) == len(real)
    for seen, each in zip(found, real, strict=True):
        assert seen.began_s == pytest.approx(each.began_s, abs=0.11)
        assert seen.start_bytes == pytest.approx(each.start_bytes, rel=0.03)


def test_without_passes_of_one_length_there_is_no_interval() -> None:
    curve = working_set([(1.0, 10 * MB), (4.0, 20 * MB)], MEMORY)
    assert [(point.low_bytes, point.high_bytes) for point in curve.points] == [(None, None)] * 2


def test_another_pass_is_inside_the_interval() -> None:
    inside, trials = 0, 400
    for seed in range(trials):
        *before, last = of_passes(passes(14, noise=0.15, seed=seed))
        curve = working_set(before, MEMORY)
        point = min(curve.points, key=lambda point: abs(point.t_s - last[0]))
        assert point.low_bytes is not None and point.high_bytes is not None
        # Told for passes of the point's length; this one was a little longer or shorter.
        there = last[1] * dirtied(point.t_s) / dirtied(last[0])
        inside += point.low_bytes <= there <= point.high_bytes
    assert inside >= 0.85 * trials


def test_none() -> None:
    with pytest.raises(ValueError, match="a pass that lasted"):
        working_set([], MEMORY)
    assert of_passes([Pass(0.0, 1.0)]) == []
    assert of_looks([MigrationProgressed(guest="g", status="setup", elapsed_ms=1.0)]) == []
