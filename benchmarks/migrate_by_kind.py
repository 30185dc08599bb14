"""What a whole ``limosa migrate`` costs beside the migration itself, on hosts of namespaces and over SSH, in turns.

Two labs of one idle micro guest each: hosts made of namespaces, and machines that are logged in to (namespace hosts
with a real sshd, reached over their network). Of each command the wall time is taken, QEMU's own total time, and the
difference. It measures and judges nothing::

    python benchmarks/migrate_by_kind.py --count 20

It takes root (sshd changes users). The labs end with this script.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from limosa.results.statistics import Estimate, median  # noqa: E402
from tests.limosa_command import Command  # noqa: E402
from tests.ssh_servers import ssh_servers  # noqa: E402

GUESTS = "guests: {guest1: {image: micro, host: host1, memory: 512 MiB}}\n"
NAMESPACES = "name: near\nhosts: {host1: {}, host2: {}}\n" + GUESTS
SSH = (
    """name: far
networks: {lan: {subnet: 10.77.1.0/24}}
storage: {shared: {path: /srv/vms}}
hosts:
  host1: {kind: ssh, machine: server1, links: {lan: br0}}
  host2: {kind: ssh, machine: server2, links: {lan: br0}}
"""
    + GUESTS
)
WARM_UP = 2


def move(command: Command, lab: str, target: str) -> tuple[float, float]:
    """One whole command, and QEMU's total time, in ms."""
    begun = time.monotonic()
    done = command.ok("migrate", "guest1", target, "--lab", lab, "--json")
    return (time.monotonic() - begun) * 1000, float(done.json["total_ms"])


async def measured(count: int) -> dict[str, list[tuple[float, float]]]:
    """Whole and total times by kind; the first moves of each are thrown away."""
    home = Path(tempfile.mkdtemp(prefix="limosa-bench-"))
    os.environ["XDG_STATE_HOME"] = str(home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: dict[str, list[tuple[float, float]]] = {"namespaces": [], "ssh": []}
    try:
        async with ssh_servers("bench-servers") as servers:
            far, near = servers.command, Command(home)
            for command, text, name in ((near, NAMESPACES, "near"), (far, SSH, "far")):
                file = command.home / f"{name}.yaml"
                file.write_text(text)
                await asyncio.to_thread(command.ok, "up", str(file))
            for number in range(WARM_UP + count):
                target = "host2" if number % 2 == 0 else "host1"
                turns = [("namespaces", near, "near"), ("ssh", far, "far")]
                for kind, command, lab in turns if number % 4 in (0, 3) else reversed(turns):
                    found[kind].append(await asyncio.to_thread(move, command, lab, target))
                print(f"\r{number + 1} of {WARM_UP + count} rounds", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            for command, lab in ((near, "near"), (far, "far")):
                await asyncio.to_thread(command.ok, "down", "--lab", lab)
    finally:
        shutil.rmtree(home)
    return {kind: times[WARM_UP:] for kind, times in found.items()}


def shown(estimate: Estimate) -> str:
    interval = "" if estimate.low is None else f" [{estimate.low:.0f}, {estimate.high:.0f}]"
    return f"{estimate.value:.0f} ms{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10, help="moves on each kind (default 10)")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    chosen = parser.parse_args()
    if chosen.count < 1:
        parser.error("--count has to be 1 or more")
    if os.geteuid() != 0:
        parser.error("it takes root: sshd changes users")
    load_before = os.getloadavg()[0]
    found = asyncio.run(measured(chosen.count))
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{os.cpu_count()} CPUs, load average {load_before:.1f} before, {os.getloadavg()[0]:.1f} after")
    around = {kind: median([whole - total for whole, total in times]) for kind, times in found.items()}
    for kind, times in found.items():
        whole, total = median([whole for whole, _ in times]), median([total for _, total in times])
        print(f"{kind:<11} whole {shown(whole)}, QEMU's total {shown(total)}, the difference {shown(around[kind])}")
    print(f"over SSH {around['ssh'].value - around['namespaces'].value:+.0f} ms at the median")


if __name__ == "__main__":
    main()
