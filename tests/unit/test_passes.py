"""What passes come down to: simulated guests, whose rate and working set are known."""

from __future__ import annotations

import math

import pytest

from limosa.migration.passes import Pass, come_down_to

MB = 1e6
LINK = 12 * MB


def passes(rate: float, working_set: float, *, all_memory: float = 160 * MB, count: int = 3) -> list[Pass]:
    """Of a guest that writes at random, over a link of 12 MB/s."""
    found, left = [Pass(0.0, all_memory)], all_memory
    while len(found) < count:
        took_s = left / LINK
        left = working_set * -math.expm1(-rate * took_s / working_set)
        found.append(Pass(found[-1].began_s + took_s, left))
    return found


@pytest.mark.parametrize("working_set", [30 * MB, 100 * MB, 1000 * MB])
@pytest.mark.parametrize("ratio", [1.2, 2.0, 10.0])
def test_a_guest_that_outruns_its_link(ratio: float, working_set: float) -> None:
    """What is found after the second pass is what the two hundredth one begins with."""
    rate = ratio * LINK
    forecast = come_down_to(passes(rate, working_set))
    assert forecast == pytest.approx(passes(rate, working_set, count=200)[-1].start_bytes, rel=0.02)


@pytest.mark.parametrize("working_set", [30 * MB, 100 * MB, 1000 * MB])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0])
def test_one_that_does_not(ratio: float, working_set: float) -> None:
    assert come_down_to(passes(ratio * LINK, working_set)) == 0


def test_a_small_working_set_is_dirty_after_each_pass() -> None:
    assert come_down_to([Pass(0, 160 * MB), Pass(13, 5 * MB), Pass(13.4, 5 * MB)]) == 5 * MB
    assert come_down_to([Pass(0, 160 * MB), Pass(13, 5 * MB), Pass(13.4, 6 * MB)]) == 6 * MB


@pytest.mark.parametrize("seen", [
    [], [Pass(0, 160)], [Pass(0, 160), Pass(13, 60)],
    [Pass(0, 160), Pass(0, 60), Pass(1, 30)], [Pass(0, 160), Pass(13, 0), Pass(14, 30)],
    [Pass(0, 160), Pass(13, 60), Pass(14, 0)],
])  # fmt: skip
def test_what_cannot_be_told(seen: list[Pass]) -> None:
    assert come_down_to(seen) is None
