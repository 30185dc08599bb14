"""How long commands take that change nothing, as ratios to the same interpreter's ``-c pass`` in the same run.

The commands run in turns. Of each the wall time of the whole process is taken, and the processor time, which other
programs on the machine disturb less. It measures and judges nothing::

    python benchmarks/start.py --count 40               a lab of two hosts with an idle guest
    python benchmarks/start.py --count 40 --guest bare  with one that keeps a processor busy

The lab that ``status`` is asked of ends with this script. Nothing is read from or written to your own state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.migrate import GUEST, LIMOSA, lab, shown, state, table  # noqa: E402
from limosa.results.statistics import median, ratio_of_medians  # noqa: E402

NOTHING = "python -c pass"


@dataclass(frozen=True, slots=True)
class Start:
    """One process from its start to its end."""

    wall_ms: float
    processor_ms: float


def started(argv: Sequence[str], environment: Mapping[str, str]) -> Start:
    """Run a command to its end, whatever its exit code is; what it prints goes nowhere."""
    silence = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    begun = time.monotonic()
    child = os.posix_spawn(argv[0], list(argv), environment, file_actions=silence)
    used = os.wait4(child, 0)[2]
    return Start((time.monotonic() - begun) * 1000, (used.ru_utime + used.ru_stime) * 1000)


async def starts(count: int, guest: str) -> dict[str, list[Start]]:
    """*count* starts of each command in turns, one more thrown away before them."""
    with tempfile.TemporaryDirectory(prefix="limosa-bench-") as empty:
        async with lab(guest) as opened:
            here, nowhere = dict(os.environ), os.environ | {"XDG_STATE_HOME": empty}
            named = ["--lab", opened.name]
            commands = {
                NOTHING: ([sys.executable, "-c", "pass"], here),
                "limosa --help": ([*LIMOSA, "--help"], here),
                "limosa migrate --help": ([*LIMOSA, "migrate", "--help"], here),
                "limosa status, no lab": ([*LIMOSA, "status"], nowhere),
                "limosa status, 2 hosts": ([*LIMOSA, "status", *named], here),
                "limosa start (it runs)": ([*LIMOSA, "start", GUEST, *named], here),
            }
            found: dict[str, list[Start]] = {name: [] for name in commands}
            for _ in range(count + 1):
                for name, (argv, environment) in commands.items():
                    found[name].append(await asyncio.to_thread(started, argv, environment))
    return {name: times[1:] for name, times in found.items()}


def summary(found: Mapping[str, Sequence[Start]]) -> str:
    """Medians with 95 % bootstrap intervals, and their ratios to Python alone."""
    rows = [["", "wall time", "ratio", "smallest", "processor time", "ratio"]]
    wall = {name: [each.wall_ms for each in times] for name, times in found.items()}
    used = {name: [each.processor_ms for each in times] for name, times in found.items()}
    for name in found:
        rows.append([
            name, shown(median(wall[name])), shown(ratio_of_medians(wall[name], wall[NOTHING]), " x", 1),
            f"{min(wall[name]):.0f} ms", shown(median(used[name])),
            shown(ratio_of_medians(used[name], used[NOTHING]), " x", 1),
        ])  # fmt: skip
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="starts of each command (default 20)")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    parser.add_argument(
        "--guest", choices=("micro", "bare"), default="micro", help="the lab's guest: idle, or one that computes always"
    )
    chosen = parser.parse_args()
    if chosen.count < 1:
        parser.error("--count has to be 1 or more")
    load_before = os.getloadavg()[0]
    with state():
        found = asyncio.run(starts(chosen.count, chosen.guest))
    if chosen.json:
        print(json.dumps({name: [asdict(each) for each in times] for name, times in found.items()}, indent=1))
        return
    load = f"load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {load}, guest {chosen.guest}")
    print(f"{chosen.count} starts of each in turns")
    print(summary(found))


if __name__ == "__main__":
    main()
