"""How a measure went through a migration: its level before, during and after, and when it was back.

Pure functions on samples, for throughput and speed (more is better) as for waiting times (less is better). A sample
covers the time from its begin to its end. What is said here word by word is in ``docs/measuring.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limosa.results import statistics
from limosa.results.statistics import Estimate

SHARE = 0.95
"""How much of the earlier level counts as back."""

Floats = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """The moments of one migration in a measurement, CLOCK_REALTIME in ns."""

    begin_ns: int
    """The load had settled; "before" begins."""
    start_ns: int
    """The verb began: the target's QEMU is launched, then memory is sent."""
    stop_ns: int | None
    """The guest stopped on the source. None: it never did."""
    resume_ns: int | None
    """It runs on the target."""
    end_ns: int
    """The verb ended: the source is gone. "After" begins."""
    finish_ns: int
    """The measurement ended."""


@dataclass(frozen=True, slots=True)
class Series:
    """Samples in the order of time; three columns of equal length. ``inf`` is a wait that never ended."""

    begin_ns: Times
    end_ns: Times
    value: Floats
    more_is_better: bool = True

    def __len__(self) -> int:
        return len(self.value)

    def inside(self, first_ns: int, last_ns: int) -> Series:
        """The samples that lie wholly between two moments."""
        chosen = (self.begin_ns >= first_ns) & (self.end_ns <= last_ns)
        return self._those(chosen)

    def outside(self, first_ns: int, last_ns: int) -> Series:
        """The samples that do not touch the time between two moments."""
        return self._those((self.end_ns <= first_ns) | (self.begin_ns >= last_ns))

    def _those(self, chosen: NDArray[np.bool_]) -> Series:
        return Series(self.begin_ns[chosen], self.end_ns[chosen], self.value[chosen], self.more_is_better)


def series(rows: Sequence[tuple[int, int, float]], *, more_is_better: bool = True) -> Series:
    """A series from (begin_ns, end_ns, value), put in the order of their ends."""
    ordered = sorted(rows, key=lambda row: row[1])
    return Series(
        np.array([row[0] for row in ordered], dtype=np.int64),
        np.array([row[1] for row in ordered], dtype=np.int64),
        np.array([row[2] for row in ordered], dtype=np.float64),
        more_is_better,
    )


def joined(found: Series, span_ns: int) -> Series:
    """Neighbouring samples put together until they cover *span_ns*, each counted by how long it is; a rest is left out.

    For counts in small steps (iperf3 writes blocks of 128 KiB), where single samples are mostly the step.
    """
    rows: list[tuple[int, int, float]] = []
    begin, total = -1, 0.0
    for first, last, value in zip(found.begin_ns.tolist(), found.end_ns.tolist(), found.value.tolist(), strict=True):
        begin = first if begin < 0 else begin
        total += value * (last - first)
        if last - begin >= span_ns:
            rows.append((begin, last, total / (last - begin)))
            begin, total = -1, 0.0
    return series(rows, more_is_better=found.more_is_better)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one measure went through one migration; levels in the measure's own unit. None: no sample to tell by."""

    before: Estimate | None
    during: Estimate | None
    """While the migration was under way and the guest ran: samples that touch the blackout are left out."""
    after: Estimate | None
    during_ratio: Estimate | None
    """During over before; below 1 is slower where more is better, above 1 where less is."""
    after_ratio: Estimate | None
    recovered_ms: float | None
    """From the migration's end until the earlier level was back for good; None: not within the measurement."""
    steady: bool
    """Whether the level before the migration itself passes the test for being back: else ``recovered_ms`` is noise."""


def course(found: Series, moments: Moments, window_ns: int) -> Course:
    """Everything that is said of one series; *window_ns* is the moving window of ``recovered_ms``."""
    before = found.inside(moments.begin_ns, moments.start_ns)
    during = found.inside(moments.start_ns, moments.end_ns)
    if moments.stop_ns is not None and moments.resume_ns is not None:
        during = during.outside(moments.stop_ns, moments.resume_ns)
    after = found.inside(moments.end_ns, moments.finish_ns)
    return Course(
        before=_level(before),
        during=_level(during),
        after=_level(after),
        during_ratio=_ratio(during, before),
        after_ratio=_ratio(after, before),
        recovered_ms=recovered_ms(before, after, moments.end_ns, window_ns),
        steady=steady(before, window_ns),
    )


def recovered_ms(before: Series, after: Series, end_ns: int, window_ns: int) -> float | None:
    """From *end_ns* to the begin of the first window from which on every window is back at the level before.

    A window begins with each sample and holds those that end within *window_ns*; it is back when its median is at
    least 95 % of the median before (for waiting times: when it is at most the median before / 0.95) and no hole longer
    than a window follows it. None when the last window is not back, or when no window fits.
    """
    if not len(before):
        return None
    begins, back = windows(after, float(np.median(before.value)), window_ns)
    if not len(back) or not back[-1]:
        return None
    missed = np.flatnonzero(~back)
    first = int(missed[-1]) + 1 if len(missed) else 0
    return float(max(0, int(begins[first]) - end_ns)) / 1e6


def steady(before: Series, window_ns: int) -> bool:
    """Whether every window of *before* is within 95 % of the median of all of it."""
    if not len(before):
        return False
    _, back = windows(before, float(np.median(before.value)), window_ns)
    return bool(len(back) and back.all())


def windows(found: Series, level: float, window_ns: int) -> tuple[Times, NDArray[np.bool_]]:
    """When each whole window of *found* begins, and whether its median is back at *level*."""
    if not len(found):
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    whole = np.flatnonzero(found.begin_ns + window_ns <= found.end_ns[-1])
    ends = np.searchsorted(found.end_ns, found.begin_ns[whole] + window_ns, side="right")
    medians = np.array([np.median(found.value[i:j]) if j > i else np.nan for i, j in zip(whole, ends, strict=True)])
    # A silence is not back: neither a window without a sample (NaN compares as false), nor one after which none comes.
    back = medians >= SHARE * level if found.more_is_better else medians <= level / SHARE
    following = np.minimum(ends, len(found) - 1)
    hole_ns = found.begin_ns[following] - found.end_ns[np.maximum(ends - 1, 0)]
    return found.begin_ns[whole], np.asarray(back & (hole_ns <= window_ns), dtype=np.bool_)


def silence_ms(found: Series, first_ns: int, last_ns: int) -> float:
    """The longest stretch of samples of 0 that touches the time between two moments; for throughput."""
    longest = begun = 0
    running = False
    for begin, end, value in zip(found.begin_ns, found.end_ns, found.value, strict=True):
        if value > 0:
            running = False
            continue
        begun, running = (begun if running else int(begin)), True
        if int(end) >= first_ns and begun <= last_ns:
            longest = max(longest, int(end) - begun)
    return longest / 1e6


def _level(found: Series) -> Estimate | None:
    finite = found.value[np.isfinite(found.value)]
    return statistics.median(list(finite)) if len(finite) else None


def _ratio(above: Series, below: Series) -> Estimate | None:
    numerators, denominators = above.value[np.isfinite(above.value)], below.value[np.isfinite(below.value)]
    if not len(numerators) or not len(denominators) or denominators.min() <= 0:
        return None
    return statistics.ratio_of_medians(list(numerators), list(denominators))
