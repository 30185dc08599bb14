"""The working-set curve as QEMU tells it by QMP, for a host on which the guest's memory may not be read.

Only by sampling pages. The other two modes count by the dirty log of KVM: under TCG a QEMU 7.2 that is asked for one of
them dies, and takes the guest with it, and a later one answers 0. QEMU compares checksums too, so a page that was
rewritten with the same bytes is not dirtied, and a window begins anew each time. It answers with whole MiB/s, rounded
down (migration/dirtyrate.c, update_dirtyrate): at 8 s that is 8 MiB.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from limosa import untrusted
from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError
from limosa.prediction.sampled_pages import wilson
from limosa.prediction.working_set import WINDOWS_S, Point, WorkingSet, concave
from limosa.qemu.features import Migrations
from limosa.qemu.monitor import Monitor

MODE = "page-sampling"
FINE = "argument calc-dirty-rate=calc-time-unit"
"""The feature of a QEMU whose windows may be shorter than a second, from 50 ms on (8.2)."""
SAMPLE_PAGES = 16384
"""A GiB: the most that QEMU takes (qapi/migration.json)."""
WHOLE_S = (1.0, 2.0, 4.0, 8.0)
"""The windows of a QEMU that takes whole seconds."""
SHORT_S, REPEATED = 1.0, 3
"""Windows up to that long are measured that often."""

_MIB = 1 << 20
_LOOK_S = 0.02
_RATES = 400
"""How many rates are tried for a curve that is fitted."""
_PATIENCE_S = 30.0
"""How much longer than the window it may take: QEMU computes checksums of up to 64 MiB a GiB of memory before and
after."""


class Rate(msgspec.Struct, frozen=True, rename="kebab"):
    """What query-dirty-rate says. ``dirty_rate``: distinct MiB/s; None or below 0 until it is measured."""

    status: str
    dirty_rate: int | None = None


async def read(monitor: Monitor, known: Migrations, memory_bytes: int) -> WorkingSet:
    """The curve of a running guest that is not being migrated, some 20 s from now; no other command may measure it.

    Raises QmpError where QEMU refuses, LimosaError where it does not come to an end.
    """
    began, fine = time.monotonic(), known.has(FINE)
    found: dict[float, list[int]] = {}
    for turn in range(REPEATED):
        for t_s in WINDOWS_S if fine else WHOLE_S:
            if turn == 0 or t_s <= SHORT_S:
                found.setdefault(t_s, []).append(await _rate(monitor, t_s, fine))
    samples = memory_bytes * SAMPLE_PAGES >> 30
    return working_set(found, memory_bytes, samples, time.monotonic() - began)


def arguments(t_s: float, fine: bool) -> Mapping[str, Any]:
    """Of calc-dirty-rate."""
    unit = {"calc-time": round(t_s * 1000), "calc-time-unit": "millisecond"} if fine else {"calc-time": round(t_s)}
    return {**unit, "mode": MODE, "sample-pages": SAMPLE_PAGES}


async def _rate(monitor: Monitor, t_s: float, fine: bool) -> int:
    """Distinct MiB/s in one window."""
    await monitor.execute("calc-dirty-rate", arguments(t_s, fine))
    async for _ in Deadline.after(t_s + _PATIENCE_S).ticks(_LOOK_S):
        said = await monitor.execute("query-dirty-rate")
        try:
            rate = untrusted.convert(said, Rate)
        except msgspec.ValidationError as error:
            raise QmpError(f"QEMU's answer to query-dirty-rate is none: {error}", error_class="Shape") from error
        if rate.status == "measured":  # for a moment it is "unstarted", until the thread that measures runs
            if rate.dirty_rate is None or rate.dirty_rate < 0:
                raise LimosaError("QEMU did not find out how fast the guest dirties its memory")
            return rate.dirty_rate
    raise LimosaError(f"QEMU did not end to measure the guest's memory within {t_s + _PATIENCE_S:g} s")


def working_set(
    found: Mapping[float, Sequence[int]], memory_bytes: int, samples: int, lasted_s: float | None = None
) -> WorkingSet:
    """From MiB/s by the length of the window in s, each found with that many *samples*. Raises ValueError for none."""
    points = [_point(t_s, found[t_s], memory_bytes, samples) for t_s in sorted(found)]
    if not points:
        raise ValueError("no window was measured")
    points = _sharpened(points, found)
    return WorkingSet(
        points=(*_earlier(points), *points), memory_bytes=memory_bytes, how="qmp", pages=samples, lasted_s=lasted_s
    )


def _point(t_s: float, rates: Sequence[int], memory_bytes: int, samples: int) -> Point:
    """A rate that was rounded down is in the middle half a MiB/s more; any value up to one more is as likely."""
    ends = [(rate * _MIB * t_s, (rate + 1) * _MIB * t_s) for rate in rates]
    number = len(ends)
    median = min(sum(low + high for low, high in ends) / (2 * number), memory_bytes)
    count = max(samples * number, 1)
    lows = [wilson(min(low / memory_bytes, 1.0), count)[0] for low, _ in ends]
    highs = [wilson(min(high / memory_bytes, 1.0), count)[1] for _, high in ends]
    # The outermost of the repetitions: there are too few of them to tell how they vary.
    return Point(t_s, median, min(lows) * memory_bytes, max(highs) * memory_bytes)


def _sharpened(points: Sequence[Point], found: Mapping[float, Sequence[int]]) -> list[Point]:
    """With the median of a long window, which is rounded by many MiB, as near to the curve through all points as the
    rounding allows."""
    risen = fitted(points)
    sharpened = []
    for point in points:
        mean = sum(found[point.t_s]) / len(found[point.t_s]) * _MIB * point.t_s
        median = min(max(risen(point.t_s), mean), mean + _MIB * point.t_s)
        sharpened.append(msgspec.structs.replace(point, median_bytes=min(median, point.high_bytes or median)))
    return sharpened


def _earlier(points: Sequence[Point]) -> list[Point]:
    """The times of WINDOWS_S before the first window that was measured, on the curve through all that were. They lie
    between a curve that rises evenly to the first, and the greatest concave one."""
    first, risen = points[0], fitted(points)
    times, values = concave([(point.t_s, point.high_bytes or 0.0) for point in points])
    slope = (values[1] - values[0]) / (times[1] - times[0]) if len(times) > 1 else values[0] / times[0]
    scale = first.median_bytes / risen(first.t_s) if first.median_bytes else 0.0
    return [
        Point(
            t_s,
            scale * risen(t_s),
            (first.low_bytes or 0.0) * t_s / first.t_s,
            values[0] - slope * (times[0] - t_s),
            fitted=True,
        )
        for t_s in WINDOWS_S
        if t_s < first.t_s
    ]


def fitted(points: Sequence[Point]) -> Callable[[float], float]:
    """The curve S (1 - exp(-rate t)) with the least squares of what it misses *points* by, each over the width of the
    point's interval: what a guest that writes at random dirties of a working set of S bytes. It may rise evenly."""

    def best(shape: Callable[[float], float]) -> tuple[float, float]:
        """By what to multiply *shape*, and the squares that are left."""
        weights = [((point.high_bytes or 0.0) - (point.low_bytes or 0.0)) ** -2 for point in points]
        pairs = [(shape(point.t_s), point.median_bytes) for point in points]
        above = sum(weight * x * y for weight, (x, y) in zip(weights, pairs, strict=True))
        factor = above / sum(weight * x * x for weight, (x, _) in zip(weights, pairs, strict=True))
        return factor, sum(weight * (factor * x - y) ** 2 for weight, (x, y) in zip(weights, pairs, strict=True))

    low, high = 1e-3 / points[-1].t_s, 20 / points[0].t_s
    rates = [low * (high / low) ** (step / _RATES) for step in range(_RATES + 1)]
    shapes: list[Callable[[float], float]] = [float, *(functools.partial(_filled, rate) for rate in rates)]
    shape = min(shapes, key=lambda each: best(each)[1])
    factor, _ = best(shape)
    return lambda t_s: factor * shape(t_s)


def _filled(rate: float, t_s: float) -> float:
    return -math.expm1(-rate * t_s)
