"""What the passes of a pre-copy come down to, from those that were seen. Pure.

A guest that writes at random at *r* bytes/s over a working set of *S* has dirtied S (1 - exp(-r t / S)) after t
seconds (drawing with replacement): in a short time all that it wrote, in a long one all that it writes to. Two passes
that were seen give both. Where it writes faster than *b* goes over, a pass that begins with p bytes, and so lasts
p / b, leaves as many again at the one p that solves p = S (1 - exp(-r p / (b S))): no pass gets below that. QEMU's own
dirty rate counts a page once in a second or longer, and so falls short of *r*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

FASTER = 1.1
"""How many times as fast as memory goes over a guest has to write before that is said to be so: two figures that were
measured over some seconds each differ by less by chance."""

_STEPS = 200


class Pass(msgspec.Struct, frozen=True):
    """One pass over what was dirty."""

    began_s: float
    """By any clock that goes on evenly."""
    start_bytes: float
    """What there was to send as it began."""


def come_down_to(passes: Sequence[Pass]) -> float | None:
    """With how many bytes passes begin in the end, by the last three of them; 0: with ever less. None: fewer were seen.

    Of the first of the three only the beginning counts: what it had to send was not written meanwhile.
    """
    if len(passes) < 3:
        return None
    first, before, now = passes[-3:]
    times_s = (before.began_s - first.began_s, now.began_s - before.began_s)
    if min(*times_s, before.start_bytes, now.start_bytes) <= 0:
        return None
    sent_bytes_per_s = before.start_bytes / times_s[1]
    (short_s, little), (long_s, much) = sorted(zip(times_s, (before.start_bytes, now.start_bytes), strict=True))
    fill = _fill(much / little, long_s, short_s)
    if fill is None:  # it goes on writing elsewhere, however long that takes
        return now.start_bytes if much / long_s >= FASTER * sent_bytes_per_s else 0.0
    if math.isinf(fill):
        return now.start_bytes
    working_set = little / -math.expm1(-fill * short_s)
    ratio = fill * working_set / sent_bytes_per_s
    return 0.0 if ratio < FASTER else working_set * _fixed(ratio)


def _fill(dirtied: float, long_s: float, short_s: float) -> float | None:
    """r / S, where *dirtied* times as much was dirty after *long_s* as after *short_s*. None: as much more as that took
    longer, or more. Infinite: no more than in the short time, or less."""
    if dirtied <= 1:
        return math.inf
    if dirtied >= long_s / short_s:
        return None
    low, high = 0.0, 1e3 / short_s
    for _ in range(_STEPS):
        middle = (low + high) / 2
        more = math.expm1(-middle * long_s) / math.expm1(-middle * short_s)
        low, high = (middle, high) if more > dirtied else (low, middle)
    return low


def _fixed(ratio: float) -> float:
    """The x above 0 that solves x = 1 - exp(-ratio x)."""
    share = 1.0
    for _ in range(_STEPS):
        share = -math.expm1(-ratio * share)
    return share
