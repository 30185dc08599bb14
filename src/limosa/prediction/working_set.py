"""The working-set curve W(t) of a guest: the distinct bytes that it dirties within t seconds. Pure.

For a guest that goes on as it does, W rises ever slower: the slope at t is the rate at which it writes to pages that it
did not write to in the t seconds before, and that falls with t (Denning and Schwartz, Properties of the Working-Set
Model, CACM 15 (1972), sections 3 and 4). So points that were measured bound the curve everywhere else:

- between two points it lies above their chord and below the chords beside it, drawn on; midway between those two is
  again concave, and the slope does not jump at a point;
- left of the second point the greatest concave curve is taken, the worst case: the chord of the first two, drawn on
  (as A. Gudkov's ``predict_migration.py`` does, qemu-devel, 28 February 2023);
- right of the last point a slope that falls exponentially, A - B exp(-k t) through the last three points: a working
  set that is written at random fills up so. A slope that does not fall goes on. Memory is the bound.
"""

from __future__ import annotations

import functools
import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import msgspec

How = Literal["memory", "qmp", "passes"]

LEVEL = 0.9
"""The confidence of a point's interval."""
Z = 1.6448536269514722
"""The standard normal quantile that goes with LEVEL, two-sided."""

WINDOWS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The times at which the curve is measured."""

_STEPS = 100


class Point(msgspec.Struct, frozen=True):
    """W at one time, in bytes, with its 90 % interval: where it lies in a window of that length at a random moment."""

    t_s: float
    median_bytes: float
    low_bytes: float | None = None
    """None, as ``high_bytes``: there was too little to tell."""
    high_bytes: float | None = None
    fitted: bool = False
    """Not measured: taken from a curve through those that were."""


class Curve(msgspec.Struct, frozen=True, dict=True):
    """One curve: concave, through (0, 0), ``bytes_`` at ``times_s``; both rise. ``memory_bytes`` is its bound."""

    times_s: tuple[float, ...]
    bytes_: tuple[float, ...]
    memory_bytes: float

    def dirtied_bytes(self, t_s: float) -> float:
        """W(*t_s*); 0 for none. Raises ValueError for a time below 0 or that is no number."""
        if not t_s >= 0:
            raise ValueError(f"a time is not below 0, {t_s} is")
        times, values = self.times_s, self.bytes_
        if t_s == 0 or not times:
            return 0.0
        at = bisect_right(times, t_s)
        if at == len(times):
            found = values[-1] + self._beyond(t_s - times[-1])
        elif at == 0:
            found = values[0] - self._slope(1) * (times[0] - t_s)
        else:
            chord, after = self._slope(at), self._slope(at + 1)
            before = self._slope(at - 1) if at > 1 else chord  # as left of the first point
            ahead, behind = t_s - times[at - 1], times[at] - t_s
            most = min(values[at - 1] + before * ahead, values[at] - after * behind)
            found = (values[at - 1] + chord * ahead + most) / 2
        return min(max(found, 0.0), self.memory_bytes)

    def _slope(self, chord: int) -> float:
        """Of the chord that ends at that point, in bytes/s; the first begins at (0, 0), behind the last is the tail."""
        if chord >= len(self.times_s):
            rate, fall = self._tail
            return rate if math.isinf(fall) else rate / fall
        began_s, began = (self.times_s[chord - 1], self.bytes_[chord - 1]) if chord else (0.0, 0.0)
        return (self.bytes_[chord] - began) / (self.times_s[chord] - began_s)

    def _beyond(self, later_s: float) -> float:
        rate, fall = self._tail
        if math.isinf(fall):
            return rate * later_s
        return -rate * math.expm1(-later_s / fall)

    @functools.cached_property
    def _tail(self) -> tuple[float, float]:
        """What comes after the last point: bytes in all and the time constant in s by which their rate falls; where it
        does not fall (infinite), bytes/s."""
        points = [(0.0, 0.0), *zip(self.times_s, self.bytes_, strict=True)][-3:]
        (end_s, end), (before_s, before) = points[-1], points[-2]
        linear = (end - before) / (end_s - before_s), math.inf
        if len(points) < 3:
            return linear
        start_s, start = points[0]
        fall = _fall(before_s - start_s, before - start, end_s - before_s, end - before)
        if math.isinf(fall):
            return linear
        return (0.0, 1.0) if fall == 0 else ((end - before) / math.expm1((end_s - before_s) / fall), fall)


def _fall(first_s: float, first: float, second_s: float, second: float) -> float:
    """The time constant of A - B exp(-t / constant) that rises by *first* in *first_s*, then by *second* in *second_s*;
    infinite where it rises evenly or ever faster, 0 where it does not rise any more."""
    if second <= 0:
        return 0.0
    if first <= 0 or second / second_s >= first / first_s * (1 - 1e-9):
        return math.inf
    low, high = 0.0, 700 / (first_s + second_s)  # exp(-700) is about the least that there is
    for _ in range(_STEPS):
        rate = (low + high) / 2
        rises = math.exp(-rate * first_s) * math.expm1(-rate * second_s) / math.expm1(-rate * first_s)
        low, high = (rate, high) if rises > second / first else (low, rate)
    return 1 / high


class WorkingSet(msgspec.Struct, frozen=True, kw_only=True):
    """W(t) of one guest as it was measured."""

    points: tuple[Point, ...]
    """In the order of their times, which are above 0."""
    memory_bytes: int
    how: How
    """From where: the guest's memory, read on its host; QEMU, asked by QMP; the passes of its move."""
    zero_share: float | None = None
    """Of all pages, those that hold nothing but zeros, 0 to 1; None: not read."""
    dirtied_zero_share: float | None = None
    """The same of the pages that were dirtied; None: not read, or none was dirtied."""
    pages: int | None = None
    """How many were sampled; None: all pages were counted, or nobody says."""
    lasted_s: float | None = None
    """How long it was looked."""
    cpu_s: float | None = None
    """What the looking took of a processor; None: not known."""
    why: str = ""
    """Why it was not read from memory."""

    def dirtied_bytes(self, t_s: float) -> float:
        """The median of W(*t_s*). Raises ValueError for a time below 0."""
        return self.curve().dirtied_bytes(t_s)

    def curve(self, deviation: float = 0.0) -> Curve:
        """W for a guest that dirties more (above 0) or less (below 0) than the median: *deviation* is of a standard
        normal distribution, whose quantiles the points' are. All points deviate together: what is measured at one is
        counted at the next too, and a guest that has more to do has that at all of them."""
        points = ((point.t_s, self._value(point, deviation)) for point in self.points)
        times, values = concave([(t_s, min(value, self.memory_bytes)) for t_s, value in points])
        return Curve(times, values, float(self.memory_bytes))

    def drawn(self, chance: random.Random) -> Curve:
        """One plausible curve. The same *chance* gives the same one."""
        return self.curve(chance.gauss(0.0, 1.0))

    @staticmethod
    def _value(point: Point, deviation: float) -> float:
        bound = point.high_bytes if deviation > 0 else point.low_bytes
        if bound is None:
            return point.median_bytes
        return max(point.median_bytes + abs(deviation) / Z * (bound - point.median_bytes), 0.0)


def concave(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The times and values of the least concave curve through (0, 0) that lies nowhere below *points* and never falls.

    Its slopes are the least-squares fit of falling slopes to those of the points (Barlow et al., Statistical Inference
    under Order Restrictions, 1972, section 1.2). Raises ValueError for times that do not rise from above 0.
    """
    hull, most, last_s = [(0.0, 0.0)], 0.0, 0.0
    for t_s, value in points:
        if not t_s > last_s:
            raise ValueError(f"the times of the points rise from above 0; {t_s} follows {last_s}")
        most, last_s = max(most, value), t_s
        while len(hull) > 1 and _below(hull[-2], hull[-1], (t_s, most)):
            hull.pop()
        hull.append((t_s, most))
    return tuple(t_s for t_s, _ in hull[1:]), tuple(value for _, value in hull[1:])


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether *middle* lies below the chord of the others."""
    return (middle[1] - first[1]) * (last[0] - first[0]) < (last[1] - first[1]) * (middle[0] - first[0])
