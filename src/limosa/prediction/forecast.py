"""What may come of a move, where what it is made of is known only within bounds: many simulations of it. Pure.

Each has a chance of its own to draw from, seeded by its number alone: two policies that are compared meet the same
guests and the same links.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import msgspec

from limosa.prediction.move_inputs import Costs, Link, PredictedMove
from limosa.prediction.simulation import Simulated

COUNT = 200
SEED = 20240229
LOW, HIGH = 0.05, 0.95
"""What a 90 % interval leaves out at either end."""
COST_SIGMA = 0.4
"""Of the logarithm. Pauses of like moves on a busy machine lie within a factor of two of each other, 19 in 20."""

RATE_SIGMA = 0.08
"""Of the logarithm, likewise: QEMU's rates of a tenth of a second, over links of 100 to 400 Mbit/s that were full. Of
the middle of some 600 windows it was 0.06, of all of them 0.11."""


class Range(msgspec.Struct, frozen=True):
    """Half lie under the median, and nine in ten from low to high."""

    median: float
    low: float
    high: float


class Forecast(msgspec.Struct, frozen=True):
    """What came of the draws. The ranges are those of the ones that completed in time; None: none did."""

    draws: int
    completes: float
    """The share of the draws that completed, and in time."""
    total_s: Range | None
    pause_s: Range | None
    sent_bytes: Range | None
    exposure_s: Range | None


def forecast(
    drawn: Callable[[random.Random], Simulated],
    drive: Callable[[Simulated], None],
    *,
    deadline_s: float = math.inf,
    count: int = COUNT,
    seed: int = SEED,
) -> Forecast:
    """Of *count* moves, each *drawn* by a chance and driven by *drive*, which takes it to its end or leaves it when it
    gives up. One that took longer than *deadline_s* did not complete in time."""
    moves = []
    for number in range(count):
        simulated = drawn(random.Random(f"{seed} {number}"))
        drive(simulated)
        moves.append(simulated.outcome())
    return of_moves(moves, deadline_s)


def of_moves(moves: Sequence[PredictedMove], deadline_s: float = math.inf) -> Forecast:
    """The same of moves that are known. Raises ValueError without any."""
    if not moves:
        raise ValueError("a forecast takes at least one draw")
    over = [move for move in moves if move.completed and move.total_s is not None and move.total_s <= deadline_s]
    return Forecast(
        draws=len(moves),
        completes=len(over) / len(moves),
        total_s=_range([move.total_s for move in over]),
        pause_s=_range([move.pause_s for move in over]),
        sent_bytes=_range([move.sent_bytes for move in over]),
        exposure_s=_range([move.exposure_s for move in over]),
    )


def left_alone(until_s: float) -> Callable[[Simulated], None]:
    """The drive of somebody who lets QEMU go on until then, and tells it nothing."""

    def drive(simulated: Simulated) -> None:
        simulated.advance(until_s)

    return drive


def drawn_costs(chance: random.Random, costs: Costs, sigma: float = COST_SIGMA) -> Costs:
    """Fixed costs as they may be where they are *costs* in the middle: each is scaled by itself, and never gets 0."""
    names = ("setup_s", "stop_s", "start_s", "post_copy_start_s", "post_copy_waits")
    scaled = {name: getattr(costs, name) * chance.lognormvariate(0.0, sigma) for name in names}
    return msgspec.structs.replace(costs, **scaled)


def drawn_link(chance: random.Random, link: Link, sigma: float) -> Link:
    """A link as it may be, whose rate is known to within *sigma*, of its logarithm."""
    return msgspec.structs.replace(link, bytes_per_s=link.bytes_per_s * chance.lognormvariate(0.0, sigma))


def drawn_jitter(chance: random.Random, sigma: float = RATE_SIGMA) -> Callable[[], float]:
    """How QEMU's rate of a window differs from the link's, another one each time."""
    return lambda: chance.lognormvariate(0.0, sigma)


def _range(values: Sequence[float | None]) -> Range | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return Range(*(_quantile(known, share) for share in (0.5, LOW, HIGH)))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two next to it (type 7 of Hyndman and Fan, The American Statistician 50, 1996)."""
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
