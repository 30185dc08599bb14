"""How long the homework takes, said before it begins: a range, from what is to be measured and which guests start."""

from __future__ import annotations

import math
from collections.abc import Collection

from limosa.bench.entry import Chapter
from limosa.spec import resolved

STARTS_S = {True: (2.0, 45.0), False: (20.0, 600.0)}
"""How long a guest's start takes: of a system that limosa built, with KVM and emulated on a busy machine; and of any
other."""

MOVES_S = (12.0, 60.0)
"""The lab's own part: its moves, with the time around them."""

SKIPPED, SLOWED = 0.8, 2.0
"""Of the time that is measured: what is skipped where there is no KVM, and what setting up and a busy machine add."""


def range_s(chapters: Collection[Chapter], guest: resolved.Guest, *, quick: bool) -> tuple[float, float]:
    """From the least to the most that is to be expected, in seconds; downloads and installations not counted."""
    measured_s = sum(chapter.lasts.quick_s if quick else chapter.lasts.whole_s for chapter in chapters)
    theirs = 1 + sum(chapter.lasts.guests for chapter in chapters if chapter.own_lab)
    ours = sum(chapter.lasts.guests for chapter in chapters if not chapter.own_lab)
    starts_s = [
        ours * STARTS_S[True][end] + theirs * STARTS_S[guest.image_kind.built][end] for end in (0, 1)
    ]  # fmt: skip
    return SKIPPED * measured_s + MOVES_S[0] + starts_s[0], SLOWED * measured_s + MOVES_S[1] + starts_s[1]


def told(span_s: tuple[float, float]) -> str:
    """``some 3 to 13 minutes``."""
    least, most = max(1, math.floor(span_s[0] / 60)), math.ceil(span_s[1] / 60)
    return f"some {least} to {most} minutes"
