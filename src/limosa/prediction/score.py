"""How well it was said beforehand what moves came to. Pure.

An error is |ln(said / came)|, which is the same for twice as much and half as much; a median of 0.1 is some 10 %. Of
90 % intervals nine in ten should hold what came. How sure it was that a move would complete is scored as Brier did
(Monthly Weather Review 78, 1950): the mean of the squared difference to 1 where it did, and to 0 where it did not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from limosa.prediction.forecast import Range


class Held(msgspec.Struct, frozen=True):
    """One prediction and what came."""

    time_ns: int
    """When the move was over, of CLOCK_REALTIME."""
    way: str
    machine: str
    """The accelerator and what the link takes: what is of one is not held against another."""
    completes: float
    """How sure it was, 0 to 1."""
    completed: bool
    total_s: Range | None = None
    """As was said; None: that it would not complete."""
    real_total_s: float | None = None
    """As QEMU told it; None: it did not complete."""
    pause_s: Range | None = None
    real_pause_s: float | None = None
    """STOP to RESUME; None: it is not known."""


class Score(msgspec.Struct, frozen=True):
    """How those of one way on one machine held. None: there was nothing to hold against each other."""

    way: str
    machine: str
    moves: int
    completed: int
    brier: float
    total_error: float | None
    """The median of |ln(said / came)|."""
    total_within: float | None
    """The share whose interval held what came."""
    pause_error: float | None
    pause_within: float | None


def scores(held: Iterable[Held]) -> list[Score]:
    """A row for each way on each machine, in the order in which they came first."""
    groups: dict[tuple[str, str], list[Held]] = {}
    for each in held:
        groups.setdefault((each.way, each.machine), []).append(each)
    return [_score(way, machine, found) for (way, machine), found in groups.items()]


def _score(way: str, machine: str, held: Sequence[Held]) -> Score:
    total = _errors(held, lambda each: (each.total_s, each.real_total_s))
    pause = _errors(held, lambda each: (each.pause_s, each.real_pause_s))
    return Score(
        way=way,
        machine=machine,
        moves=len(held),
        completed=sum(each.completed for each in held),
        brier=statistics.fmean((each.completes - each.completed) ** 2 for each in held),
        total_error=total[0],
        total_within=total[1],
        pause_error=pause[0],
        pause_within=pause[1],
    )


def _errors(
    held: Iterable[Held], of: Callable[[Held], tuple[Range | None, float | None]]
) -> tuple[float | None, float | None]:
    """The median error, and the share of intervals that held what came."""
    pairs = [(said, came) for said, came in map(of, held) if said is not None and came and said.median > 0]
    if not pairs:
        return None, None
    errors = [abs(math.log(said.median / came)) for said, came in pairs]
    within = [said.low <= came <= said.high for said, came in pairs]
    return statistics.median(errors), statistics.fmean(within)
