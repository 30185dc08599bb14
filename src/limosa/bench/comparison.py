"""Medians, intervals and ratios of a bench, computed from its repetitions alone.

From six repetitions on, the 95 % interval is the percentile bootstrap over their values. Five values cannot hold a
95 % interval for a median by themselves (``limosa.results.statistics.least_count``), so below six the bootstrap has
two stages: repetitions are drawn, then the seconds within each (Davison and Hinkley, Bootstrap Methods and their
Application, 1997, section 3.8). Fewer than five repetitions get no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limosa.bench.repetitions import Bench, Metric, Repetition
from limosa.results import statistics
from limosa.results.phrases import listed, times
from limosa.results.statistics import Estimate

LEVEL = 0.95
LEAST_TWO_STAGE = 5
"""Five values hold the median between them with 94 %; four only with 88 %."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one subject: its median, and the ratio to the baseline; None where there are no values."""

    metric: Metric
    subject: str
    estimate: Estimate | None
    ratio: Estimate | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bench and what was computed of it. The bootstrap takes its time, so it is done once and handed on."""

    bench: Bench
    rows: list[Row]

    def label(self, row: Row) -> str:
        """What a row is of: its subject, and its metric where there are several."""
        subject = self.bench.subject(row.subject).label
        return subject if len(self.bench.metrics) == 1 else f"{subject}, {row.metric.label}"

    def against(self, subject: str, other: str) -> Iterator[tuple[Metric, Estimate]]:
        """The ratio of *subject* to *other* in every metric that both have values of."""
        for metric in self.bench.metrics:
            ours, theirs = self.bench.values(subject, metric.name), self.bench.values(other, metric.name)
            ratio = ratio_of_medians(ours, theirs) if ours and theirs else None
            if ratio is not None:
                yield metric, ratio


def compare(bench: Bench) -> Comparison:
    """A row for each metric and subject, in the bench's order."""
    rows = []
    for metric in bench.metrics:
        base = bench.values(bench.baseline, metric.name) if bench.baseline else []
        for subject in bench.names:
            found = bench.values(subject, metric.name)
            estimate = median(found) if found else None
            ratio = ratio_of_medians(found, base) if found and base and subject != bench.baseline else None
            rows.append(Row(metric, subject, estimate, ratio))
    return Comparison(bench, rows)


def ratios(pairs: list[tuple[Metric, Estimate]]) -> str:
    """Metrics with the ratio in each, as part of a sentence."""
    return listed([f"{metric.label} {times(ratio)}" for metric, ratio in pairs])


def median(repetitions: Sequence[Repetition]) -> Estimate:
    """The median of the repetitions' values, with its interval where there can be one. Raises ValueError for none."""
    values = [r.value for r in repetitions]
    if not _two_stage(repetitions):
        return statistics.median(values, level=LEVEL)
    drawn = np.median(_drawn(repetitions, np.random.default_rng(statistics.SEED)), axis=1)
    return _estimate(float(np.median(values)), drawn, len(values))


def ratio_of_medians(above: Sequence[Repetition], below: Sequence[Repetition]) -> Estimate | None:
    """The ratio of two medians that were measured apart; None where the denominator is not above 0."""
    numerators, denominators = [r.value for r in above], [r.value for r in below]
    if min(denominators) <= 0:
        return None
    if not (_two_stage(above) and _two_stage(below)):
        return statistics.ratio_of_medians(numerators, denominators, level=LEVEL)
    random = np.random.default_rng(statistics.SEED)
    first, second = np.median(_drawn(above, random), axis=1), np.median(_drawn(below, random), axis=1)
    value = float(np.median(numerators) / np.median(denominators))
    return _estimate(value, first / np.where(second > 0, second, np.nan), min(len(above), len(below)))


def _two_stage(repetitions: Sequence[Repetition]) -> bool:
    """Whether there are too few repetitions for one stage, yet enough of them, each with seconds to draw from."""
    few = LEAST_TWO_STAGE <= len(repetitions) < statistics.least_count(LEVEL)
    return few and all(len(whole_seconds(r)) >= 2 for r in repetitions)


def whole_seconds(repetition: Repetition) -> list[float]:
    """The values of whole seconds: of a total's seconds the last is what was left, and no second."""
    return repetition.seconds if repetition.total is None else repetition.seconds[:-1]


def _drawn(repetitions: Sequence[Repetition], random: np.random.Generator) -> _Floats:
    """Values of resampled repetitions, a row each: the seconds' deviation from their mean is added to the value."""
    count = len(repetitions)
    noise = np.empty((statistics.RESAMPLES, count))
    values = np.array([r.value for r in repetitions])
    chosen = random.integers(count, size=(statistics.RESAMPLES, count))
    for index, repetition in enumerate(repetitions):
        seconds = np.array(whole_seconds(repetition))
        relative = seconds / seconds.mean() if seconds.mean() > 0 else np.ones_like(seconds)
        where = chosen == index
        picks = random.integers(len(seconds), size=(int(where.sum()), len(seconds)))
        noise[where] = relative[picks].mean(axis=1)
    return np.asarray(values[chosen] * noise, dtype=np.float64)


def _estimate(value: float, drawn: _Floats, count: int) -> Estimate:
    low, high = np.nanquantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, float(low), float(high), LEVEL, count)
