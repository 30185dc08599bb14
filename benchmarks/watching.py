"""Whether looking at a migration disturbs it: the same move in turns, looked at seldom and often.

Seldom is every 1 s: then nearly all that is known comes from QEMU's events, which nobody asks for. ::

    python benchmarks/watching.py --count 20
    python benchmarks/watching.py --count 20 --method post-copy

Pause is from STOP to RESUME. It measures and judges nothing. Its lab ends with it; nothing is read from or written to
your own state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.by_option import text  # noqa: E402
from benchmarks.migrate import GUEST, shown, state, table  # noqa: E402
from limosa import spec  # noqa: E402
from limosa.events import Event, MigrationProgressed  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.migration.settings import Settings  # noqa: E402
from limosa.results.statistics import median, ratio_of_medians  # noqa: E402

EVERY_S: Mapping[str, float] = {"every 1 s": 1.0, "every 20 ms": 0.02, "every 2 ms": 0.002}
"""How often it is looked at; 20 ms is what a move does unless somebody says otherwise."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One move."""

    pause_ms: float
    total_ms: float
    looks: int


async def moved(lab: Lab, settings: Settings) -> Taken:
    """One move to the other host. Raises LimosaError when it does not complete."""
    looks: list[Event] = []
    heard = looks.append
    lab.events.add(heard)
    try:
        source = await lab.guests.where(GUEST)
        outcome = await lab.migrate(GUEST, "host2" if source == "host1" else "host1", settings)
    finally:
        lab.events.remove(heard)
    count = sum(isinstance(event, MigrationProgressed) for event in looks)
    return Taken(outcome.pause_ms or 0.0, outcome.info.total_time or 0, count)


async def watching(chosen: argparse.Namespace) -> str:
    """A row for each way of looking: *count* moves each, in turns, after one that is thrown away."""
    found: dict[str, list[Taken]] = {way: [] for way in EVERY_S}
    async with Lab.open(spec.loads(text(chosen.qemu, "", chosen.rate, "128 MiB")), ephemeral=True) as lab:
        await lab.up()
        for number in range(chosen.count + 1):
            ways = list(EVERY_S.items())
            for way, every_s in ways if number % 2 else reversed(ways):
                taken = await moved(lab, Settings(method=chosen.method, poll_s=every_s))
                if number:
                    found[way].append(taken)
    return table(rows(found))


def rows(found: Mapping[str, Sequence[Taken]]) -> list[list[str]]:
    """Medians, and for each way but the first its ratio to that one, with 95 % bootstrap intervals."""
    told = [["looked at", "moves", "looks", "pause", "QEMU's total time"]]
    first = next(iter(found.values()))
    for way, each in found.items():
        pauses, totals = [taken.pause_ms for taken in each], [taken.total_ms for taken in each]
        looks = f"{median([float(taken.looks) for taken in each]).value:.0f}"
        told.append([way, str(len(each)), looks, shown(median(pauses), digits=1), shown(median(totals))])
        if each is not first:
            ratios = (
                ratio_of_medians(pauses, [taken.pause_ms for taken in first]),
                ratio_of_medians(totals, [taken.total_ms for taken in first]),
            )
            told.append(["  / every 1 s", "", "", *(shown(ratio, "", 2) for ratio in ratios)])
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--rate", default="1 Gbit/s")
    parser.add_argument("--method", choices=("pre-copy", "post-copy"), default="pre-copy")
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    chosen = parser.parse_args()
    with state():
        print(asyncio.run(watching(chosen)))
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
