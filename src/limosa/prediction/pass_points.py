"""The working-set curve from the passes of a running move: each tells what was dirtied while it lasted. Pure.

QEMU's log counts every page that was written to, those too that hold the same bytes again, so there is no error of
sampling. What passes of about one length differ by is what the guest varies by, and how long its passes really were;
that is told as one share of the value for all lengths, since few passes are of any one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from limosa.events import MigrationProgressed
from limosa.migration.history import History, recorded
from limosa.migration.passes import Pass
from limosa.prediction.sampled_pages import student_95
from limosa.prediction.working_set import Point, WorkingSet

ALIKE = 1.25
"""How many times as long the longest of some passes may be as the shortest, for them to be one point: W then differs
by less than that."""


def of_passes(passes: Sequence[Pass]) -> list[tuple[float, float]]:
    """How long each pass that has ended lasted, in s, and the bytes that the next one had to send for it."""
    return [
        (now.began_s - before.began_s, now.start_bytes)
        for before, now in itertools.pairwise(passes)
        if now.began_s > before.began_s
    ]


def of_looks(looks: Iterable[MigrationProgressed]) -> list[Pass]:
    """The passes of a move by the *looks* at it, which began with the move; times are those of the move, in s."""
    history = History()
    for look in looks:
        history.add(recorded(look))
    return history.passes


def working_set(passes: Sequence[tuple[float, float]], memory_bytes: int) -> WorkingSet:
    """The curve from *passes*: their length in s, and the bytes that were dirtied meanwhile.

    Without two of about one length there is no interval. Raises ValueError where there is no pass.
    """
    if not passes or min(t_s for t_s, _ in passes) <= 0:
        raise ValueError("a curve takes a pass that lasted")
    alike = _alike(sorted(passes))
    bound = _bound(alike)
    return WorkingSet(
        points=tuple(_point(each, bound, memory_bytes) for each in alike), memory_bytes=memory_bytes, how="passes"
    )


def _alike(passes: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    found: list[list[tuple[float, float]]] = []
    for each in passes:
        if found and each[0] <= ALIKE * found[-1][0][0]:
            found[-1].append(each)
        else:
            found.append([each])
    return found


def _bound(alike: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    """How many times the median the upper end of the interval for one more pass is: passes of one length are taken to
    differ by a factor, normal in its logarithm, the same at all lengths."""
    squares, freedom = 0.0, 0
    for passes in alike:
        logs = [math.log(value) for _, value in passes if value > 0]
        mean = sum(logs) / len(logs) if logs else 0.0
        squares += sum((value - mean) ** 2 for value in logs)
        freedom += max(0, len(logs) - 1)
    return math.exp(student_95(freedom) * math.sqrt(squares / freedom)) if freedom else None


def _point(passes: Sequence[tuple[float, float]], bound: float | None, memory_bytes: int) -> Point:
    number = len(passes)
    t_s = sum(t_s for t_s, _ in passes) / number
    median = min(sum(value for _, value in passes) / number, float(memory_bytes))
    if bound is None:
        return Point(t_s, median)
    wider = bound ** math.sqrt(1 + 1 / number)  # one more, around a mean that is known from as many
    return Point(t_s, median, median / wider, min(median * wider, memory_bytes))
