"""The working-set curve from pages that were sampled, and how well it is known. Pure.

The share of pages that change within t is estimated by groups of pages, each with a first look of its own. Two things
make groups differ: which pages they took, and what the guest did at that moment. The interval is for the share in a
window of that length at *another* moment, as a move will find it: the error of the mean, and what the guest varies by
(Higgins, Thompson and Spiegelhalter, A re-evaluation of random-effects meta-analysis, J. R. Statist. Soc. A 172 (2009),
section 4). What it varies by is the variance between groups less what sampling alone makes, p (1 - p) / n (DerSimonian
and Laird, Controlled Clinical Trials 7 (1986)). The windows of groups overlap, so what changes more slowly than the
looks lasted cannot be told.

Sampling has Wilson's interval (Brown, Cai and DasGupta, Statistical Science 16 (2001)): that of a share near 0 is not
symmetric, and one of 0 has a width. What the guest varies by is added to each side of it by squares (Zou and Donner,
Statistics in Medicine 27 (2008)). Strata only make a sample better than a simple one, which is not counted on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec

from limosa.prediction.working_set import Point, WorkingSet, Z

_ONE_SIDED_95 = Z
"""The 95 % quantile of a standard normal: the same figure as the upper end of a two-sided 90 % interval."""


class Window(msgspec.Struct, frozen=True, array_like=True):
    """What a look found: how long after the first one, and of the group's pages those that had changed by then."""

    t_s: float
    dirtied: int
    dirtied_zeros: int = 0


class Group(msgspec.Struct, frozen=True):
    """Pages that were compared with one first look, in which ``zeros`` of them held nothing but zeros."""

    pages: int
    windows: tuple[Window, ...]
    zeros: int = 0


class Sample(msgspec.Struct, frozen=True):
    """All that was looked at; ``cpu_s`` is what that took of a processor. ``why``: it could not be;
    ``forbidden``: not by that user."""

    groups: tuple[Group, ...] = ()
    cpu_s: float = 0.0
    lasted_s: float = 0.0
    why: str = ""
    forbidden: bool = False


def working_set(sample: Sample, windows_s: Sequence[float], memory_bytes: int) -> WorkingSet:
    """W at *windows_s*. Raises ValueError for a sample without pages, or that cannot be one."""
    groups = sample.groups
    pages = sum(group.pages for group in groups)
    if not pages:
        raise ValueError("no pages were sampled")
    if not all(_possible(group) for group in groups):
        raise ValueError("no pages can be like these")
    dirtied = sum(group.windows[-1].dirtied for group in groups)
    zeros = sum(group.windows[-1].dirtied_zeros for group in groups)
    return WorkingSet(
        points=tuple(_point(groups, t_s, memory_bytes) for t_s in windows_s),
        memory_bytes=memory_bytes,
        how="memory",
        zero_share=sum(group.zeros for group in groups) / pages,
        dirtied_zero_share=zeros / dirtied if dirtied else None,
        pages=pages,
        lasted_s=sample.lasted_s,
        cpu_s=sample.cpu_s,
    )


def _possible(group: Group) -> bool:
    """Whether the times rise from above 0, and no more pages are counted than there are."""
    times = [0.0, *(window.t_s for window in group.windows)]
    counts = [group.zeros, *(count for window in group.windows for count in (window.dirtied, window.dirtied_zeros))]
    rising = all(before < after for before, after in itertools.pairwise(times))
    return len(times) > 1 and rising and 0 <= min(counts) <= max(counts) <= group.pages


def _point(groups: Sequence[Group], t_s: float, memory_bytes: int) -> Point:
    counts = [group.pages for group in groups]
    share, low, high = interval([_share(group, t_s) for group in groups], counts)
    return Point(t_s, share * memory_bytes, low * memory_bytes, high * memory_bytes)


def _share(group: Group, t_s: float) -> float:
    """The share at *t_s* itself: looks come late on a busy machine. From one to the next it is taken to rise evenly."""
    before, after = Window(0.0, 0), group.windows[0]
    for window in group.windows[1:]:
        if after.t_s >= t_s:
            break
        before, after = after, window
    rise = (after.dirtied - before.dirtied) / (after.t_s - before.t_s)
    return min(before.dirtied + rise * (t_s - before.t_s), group.pages) / group.pages


def interval(shares: Sequence[float], counts: Sequence[int]) -> tuple[float, float, float]:
    """The mean of *shares* that were found in groups of *counts* pages, and the ends of its 90 % interval."""
    pages, number = sum(counts), len(counts)
    mean = sum(share * count for share, count in zip(shares, counts, strict=True)) / pages
    if not 0 < mean < 1:
        return mean, *wilson(mean, pages)
    low, high = wilson(mean, pages)
    if number < 2:
        return mean, low, high
    sampling = mean * (1 - mean)
    excess = sum(count * (share - mean) ** 2 for share, count in zip(shares, counts, strict=True)) / sampling
    spread = (pages - sum(count**2 for count in counts) / pages) / sampling
    varies = max(0.0, excess - (number - 1)) / spread
    wider = student_95(number - 1) * math.sqrt(varies * (1 + 1 / number))
    return mean, max(0.0, mean - math.hypot(mean - low, wider)), min(1.0, mean + math.hypot(high - mean, wider))


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 90 % interval of a *share* that was found in *count* (Wilson 1927)."""
    widening = Z * Z / count
    if share == 0:  # whose lower end is exact
        return 0.0, widening / (1 + widening)
    middle = (share + widening / 2) / (1 + widening)
    half = Z / (1 + widening) * math.sqrt(share * (1 - share) / count + widening / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def student_95(freedom: int) -> float:
    """The 95 % quantile of Student's t, to 1 % from 3 degrees of *freedom* on (Abramowitz and Stegun, 26.7.5)."""
    x = _ONE_SIDED_95
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))
