"""What ``limosa migrate`` costs beside the migration itself, next to a bare QMP script that does the same work.

One lab, one guest, moved to and fro: by the whole command ``limosa migrate``, and by ``bare_qmp.py``, in turns and in
both directions alike (ABBA). Of each move the wall time of the whole process is taken, QEMU's own total time, and the
difference: launching Python and the target QEMU, talking, ending the source. It measures and judges nothing::

    python benchmarks/migrate.py --count 20                 the micro guest, which idles
    python benchmarks/migrate.py --count 20 --guest bare    boots at once; writes 8 MiB over and over

The lab ends with this script. Nothing is read from or written to your own state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from limosa import spec
from limosa.hosts.namespaces.host import NamespaceHost
from limosa.lab import Lab
from limosa.migration.settings import Settings
from limosa.results.statistics import Estimate, median, ratio_of_medians

LIMOSA = [sys.executable, "-P", "-m", "limosa"]
BARE_QMP = [sys.executable, "-I", "-S", str(Path(__file__).with_name("bare_qmp.py"))]
GUEST = "guest1"
WAYS = ("limosa migrate", "bare QMP")
MEMORY = {"micro": "512 MiB", "bare": "16 MiB"}
WARM_UP = 2
"""The first move of a guest is far slower (first touch of its memory): one of each way is thrown away."""


@dataclass(frozen=True, slots=True)
class Move:
    """One migration: the whole process, and what QEMU says of it. ``warm_up`` moves are left out of the figures."""

    way: str
    source: str
    target: str
    whole_ms: float
    qemu_total_ms: float
    qemu_downtime_ms: float
    warm_up: bool

    @property
    def around_ms(self) -> float:
        """What was not the migration itself."""
        return self.whole_ms - self.qemu_total_ms


@contextlib.contextmanager
def state() -> Iterator[None]:
    """A state directory for this script alone, for its children too."""
    with tempfile.TemporaryDirectory(prefix="limosa-bench-") as folder:
        os.environ["XDG_STATE_HOME"] = folder
        # As the launcher does: without bytecode, what is measured is the compiling.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        yield


@contextlib.asynccontextmanager
async def lab(image: str) -> AsyncIterator[Lab]:
    text = f"""
name: bench-{os.getpid()}
networks: {{lan: {{subnet: 10.77.1.0/24}}, migration: {{subnet: 10.77.2.0/24, purpose: migration}}}}
hosts: {{host1: {{}}, host2: {{}}}}
guests: {{{GUEST}: {{host: host1, image: {image}, memory: {MEMORY[image]}}}}}
"""
    async with Lab.open(spec.loads(text), ephemeral=True) as opened:
        await opened.up()
        yield opened


async def timed(argv: Sequence[str], stdin: bytes = b"") -> tuple[float, bytes]:
    """How long a process took, in ms, and what it printed. Raises SystemExit when it fails."""
    begun = time.monotonic()
    done = await asyncio.to_thread(subprocess.run, argv, input=stdin, capture_output=True, check=False)
    took_ms = (time.monotonic() - begun) * 1000
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}\n{(done.stdout + done.stderr).decode()}")
    return took_ms, done.stdout


async def by_limosa(opened: Lab, source: str, target: str) -> tuple[float, dict[str, Any]]:
    took_ms, said = await timed([*LIMOSA, "migrate", GUEST, target, "--lab", opened.name, "--json"])
    return took_ms, json.loads(said)


async def by_bare_qmp(opened: Lab, source: str, target: str) -> tuple[float, dict[str, Any]]:
    took_ms, said = await timed(BARE_QMP, json.dumps(plan(opened, source, target)).encode())
    return took_ms, json.loads(said)


def plan(opened: Lab, source: str, target: str) -> dict[str, Any]:
    """What bare_qmp.py has to know."""
    roots = {}
    for name in (source, target):
        host = opened.host(name)
        assert isinstance(host, NamespaceHost)
        roots[name] = f"/proc/{host.keeper.pid}/root"
    network = opened.spec.migration_network.name
    return {
        "guest": GUEST,
        "source_root": roots[source],
        "target_root": roots[target],
        "address": opened.spec.hosts[target].addresses[network],
        "enter": opened.hosts.interactive(target, []),
        "rename": [f"{GUEST}@{source}", f"{GUEST}@{target}"],
        "parameters": Settings().qemu_parameters(),
    }


async def moves(opened: Lab, count: int) -> list[Move]:
    """*count* moves of each way, after the warm-up."""
    ways = dict(zip(WAYS, (by_limosa, by_bare_qmp), strict=True))
    found: list[Move] = []
    while len(found) < WARM_UP + 2 * count:
        # ABBA: each way goes as often there as back.
        turn = len(found) % 4
        way = WAYS[turn in (1, 2)]
        source, target = ("host1", "host2") if turn % 2 == 0 else ("host2", "host1")
        whole_ms, said = await ways[way](opened, source, target)
        if await opened.guests.where(GUEST) != target:
            raise SystemExit(f"{GUEST} is not on {target} after {way}")
        warm_up = len(found) < WARM_UP
        found.append(Move(way, source, target, whole_ms, said["total_ms"], said["qemu_downtime_ms"], warm_up))
        print(f"\r{len(found)} of {WARM_UP + 2 * count} moves", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def shown(estimate: Estimate, unit: str = " ms", digits: int = 0) -> str:
    interval = "" if estimate.low is None else f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
    return f"{estimate.value:.{digits}f}{unit}{interval}"


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def summary(found: Sequence[Move]) -> str:
    """Medians with 95 % bootstrap intervals, and the ratio of the two ways in this run."""
    ways = {way: [m for m in found if m.way == way and not m.warm_up] for way in WAYS}
    rows = [["", "moves", "whole process", "QEMU's total time", "the difference", "QEMU's downtime"]]
    for way, its in ways.items():
        columns = [[m.whole_ms for m in its], [m.qemu_total_ms for m in its], [m.around_ms for m in its]]
        columns.append([m.qemu_downtime_ms for m in its])
        rows.append([way, str(len(its)), *(shown(median(column)) for column in columns)])
    limosa, bare = (ways[way] for way in WAYS)
    whole = ratio_of_medians([m.whole_ms for m in limosa], [m.whole_ms for m in bare])
    around = ratio_of_medians([m.around_ms for m in limosa], [m.around_ms for m in bare])
    ratios = f"limosa / bare QMP: whole process {shown(whole, '', 2)}, difference {shown(around, '', 2)}"
    return f"{table(rows)}\n{ratios}"


async def measured(chosen: argparse.Namespace) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    result: dict[str, Any] = {"python": sys.version.split()[0], "cpus": os.cpu_count(), "load_before": load_before}
    async with lab(chosen.guest) as opened:
        qemu = await opened.hosts.features("host1")
        status = (await opened.status()).guests[0]
        result |= {"guest": chosen.guest, "accel": status.accel, "machine": status.machine, "qemu": qemu.version}
        result["moves"] = await moves(opened, chosen.count)
    result["load_after"] = os.getloadavg()[0]
    return result


def show(result: dict[str, Any]) -> None:
    around = f"{result['cpus']} CPUs, load average {result['load_before']:.1f} before, {result['load_after']:.1f} after"
    print(f"guest {result['guest']}, QEMU {result['qemu']} ({result['accel']}), Python {result['python']}, {around}")
    print(summary(result["moves"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10, help="moves of each way (default 10)")
    parser.add_argument("--guest", choices=MEMORY, default="micro", help="the guest's image (default micro)")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    chosen = parser.parse_args()
    if chosen.count < 1:
        parser.error("--count has to be 1 or more")
    with state():
        result = asyncio.run(measured(chosen))
    if chosen.json:
        result["moves"] = [asdict(move) for move in result["moves"]]
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
