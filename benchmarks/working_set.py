"""How near the working-set curve comes to what a guest writes, and what reading it costs the guest.

A guest that is emulated writes at random to memory of a known size; how fast it really did it says itself. ::

    python benchmarks/working_set.py --count 10

First, for each load, the curve is read *count* times. W(t) that is expected follows from the size and the rate (drawing
with replacement), and what the guest dirties beside it is read before and added. Then the guest writes, and runs a loop
of its CPU, as fast as it can, in turns with and without its curve being read, and the ratio of the two speeds is its
loss. It measures and judges nothing. Its lab ends with it.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.by_option import text  # noqa: E402
from benchmarks.migrate import GUEST, shown, state, table  # noqa: E402
from limosa import spec  # noqa: E402
from limosa.deadline import Deadline  # noqa: E402
from limosa.guest.agent.client import AgentClient  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.prediction.working_set import WINDOWS_S, WorkingSet  # noqa: E402
from limosa.results.statistics import median, paired_ratio  # noqa: E402

MIB = 1 << 20
PAGE_BYTES = 4096
MEMORY = "256 MiB"
LOADS = ((16 * MIB, 2 * MIB), (64 * MIB, 16 * MIB), (128 * MIB, 64 * MIB))
"""Bytes that are written to, and bytes/s."""
APART_S = 1.0
"""Between two turns."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One curve beside what was written while it was read."""

    size: int
    bytes_per_s: float
    found: WorkingSet
    idle: WorkingSet

    def expected(self, t_s: float) -> float:
        """Distinct bytes within *t_s*."""
        pages = self.size / PAGE_BYTES
        own = -self.size * math.expm1(self.bytes_per_s * t_s / PAGE_BYTES * math.log1p(-1 / pages))
        return own + self.idle.dirtied_bytes(t_s)


@dataclass(frozen=True, slots=True)
class Speed:
    """What the guest did in one turn, by its own clock."""

    bytes_per_s: float
    loop_ns: float
    """The median time of the same piece of work."""


async def trials(lab: Lab, agent: AgentClient, count: int) -> list[Trial]:
    """Each load *count* times."""
    found, idle = list[Trial](), await lab.guests.working_set(GUEST)
    for size, rate in LOADS:
        await agent.memory_start(size, rate_bytes_per_s=rate)
        await agent.wait_memory_filled(Deadline.after(120))
        for _ in range(count):
            before = await agent.memory_status()
            curve = await lab.guests.working_set(GUEST)
            after = await agent.memory_status()
            written = (after.bytes_written - before.bytes_written) / (after.elapsed_s - before.elapsed_s)
            found.append(Trial(size, written, curve, idle))
        await agent.memory_stop(release=True)
    return found


async def speed(lab: Lab, agent: AgentClient, lasts_s: float, *, read: bool) -> tuple[Speed, WorkingSet | None]:
    """One turn, with the curve being *read* or for as long as that takes."""
    before, last = await agent.memory_status(), (await agent.cpu_read()).last
    curve = await lab.guests.working_set(GUEST) if read else None
    if not read:
        await asyncio.sleep(lasts_s)
    after = await agent.memory_status()
    loops = []
    while samples := (part := await agent.cpu_read(last)).samples:
        loops += [sample.duration_ns for sample in samples]
        last = part.samples[-1].index
    rate = (after.bytes_written - before.bytes_written) / (after.elapsed_s - before.elapsed_s)
    return Speed(rate, median(loops).value), curve


async def turns(lab: Lab, agent: AgentClient, count: int) -> tuple[list[tuple[Speed, Speed]], list[WorkingSet]]:
    """Pairs of turns, without and with; which comes first alternates."""
    await agent.memory_start(LOADS[1][0], rate_bytes_per_s=0)
    await agent.wait_memory_filled(Deadline.after(120))
    await agent.cpu_start()
    (_, first), pairs, curves = await speed(lab, agent, 0, read=True), list[tuple[Speed, Speed]](), list[WorkingSet]()
    assert first is not None
    for number in range(count):
        pair: dict[bool, Speed] = {}
        for read in (False, True) if number % 2 else (True, False):
            await asyncio.sleep(APART_S)
            pair[read], curve = await speed(lab, agent, first.lasted_s or 0, read=read)
            curves += [curve] if curve is not None else []
        pairs.append((pair[False], pair[True]))
    await agent.cpu_stop()
    await agent.memory_stop(release=True)
    return pairs, curves


def errors(found: Sequence[Trial]) -> list[list[str]]:
    """A row for each load and time: how far off the middle of the trials was, the worst of them, and how many had the
    expected value inside their interval."""
    rows = [["load", "t", "of memory", "expected", "error", "largest", "inside"]]
    for size, rate in LOADS:
        mine = [trial for trial in found if trial.size == size]
        for at, t_s in enumerate(WINDOWS_S):
            expected = [trial.expected(t_s) for trial in mine]
            points = [trial.found.points[at] for trial in mine]
            off = [100 * (point.median_bytes / value - 1) for point, value in zip(points, expected, strict=True)]
            inside = sum(
                (point.low_bytes or 0) <= value <= (point.high_bytes or math.inf)
                for point, value in zip(points, expected, strict=True)
            )
            share = 100 * median(expected).value / mine[0].found.memory_bytes
            rows.append([
                f"{size // MIB} MiB at {rate // MIB} MiB/s" if at == 0 else "", f"{t_s:g} s", f"{share:.1f} %",
                f"{median(expected).value / MIB:.1f} MiB", f"{median(off).value:+.1f} %",
                f"{max(off, key=abs):+.1f} %", f"{inside} of {len(mine)}",
            ])  # fmt: skip
    return rows


def losses(pairs: Sequence[tuple[Speed, Speed]], curves: Sequence[WorkingSet]) -> list[list[str]]:
    """What is left of the guest's speed while its curve is read, and what reading takes."""
    writes = paired_ratio([read.bytes_per_s for _, read in pairs], [alone.bytes_per_s for alone, _ in pairs])
    loops = paired_ratio([alone.loop_ns for alone, _ in pairs], [read.loop_ns for _, read in pairs])
    taken = median([1000 * (curve.cpu_s or 0) for curve in curves])
    return [
        ["pairs", "writes, read / not", "CPU loop, read / not", "processor time", "in", "pages"],
        [
            str(len(pairs)), shown(writes, "", 3), shown(loops, "", 3), shown(taken),
            f"{median([curve.lasted_s or 0 for curve in curves]).value:.1f} s",
            f"{median([float(curve.pages or 0) for curve in curves]).value:.0f}",
        ],
    ]  # fmt: skip


async def measured(chosen: argparse.Namespace) -> str:
    """Both tables."""
    async with Lab.open(spec.loads(text(chosen.qemu, "", "", MEMORY)), ephemeral=True) as lab:
        await lab.up()
        async with lab.guests.agent(GUEST) as agent:
            near = await trials(lab, agent, chosen.count)
            pairs, curves = await turns(lab, agent, chosen.pairs or chosen.count)
    return f"{table(errors(near))}\n\n{table(losses(pairs, curves))}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="how often each load's curve is read (default 10)")
    parser.add_argument("--pairs", type=int, default=0, help="pairs of turns for the loss (default: as many)")
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    chosen = parser.parse_args()
    with state():
        print(asyncio.run(measured(chosen)))
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
