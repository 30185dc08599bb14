"""What a move takes with the options that send less, in turns: its time, and the bytes that left the source.

The bytes are counted by the source's interface: QEMU 7.2 counts those of multifd before they are compressed::

    python benchmarks/by_option.py --rate '200 Mbit/s' --count 3

It measures and judges nothing. Its lab ends with it; nothing is read from or written to your own state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.migrate import GUEST, shown, state, table  # noqa: E402
from limosa import spec  # noqa: E402
from limosa.deadline import Deadline  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.migration.settings import Settings  # noqa: E402
from limosa.results.statistics import median  # noqa: E402
from limosa.spec.migration_options import Value  # noqa: E402

MIB = 1 << 20
WAYS: Mapping[str, Mapping[str, Value]] = {
    "plain": {},
    "xbzrle": {"xbzrle": True, "xbzrle-cache-size": 256 * MIB},
    "multifd": {"multifd": True},
    "multifd, zlib": {"multifd-compression": "zlib"},
    "multifd, zstd": {"multifd-compression": "zstd"},
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One move."""

    total_ms: float
    wire_bytes: int
    pause_ms: float


def text(qemu: str, firmware: str, rate: str, memory: str) -> str:
    """A lab whose migrations go over a network of their own, with that rate; without it one that is not shaped."""
    host = f"{{qemu: {qemu}, qemu_firmware: [{firmware}]}}"
    shaped = f", rate: {rate}" if rate else ""
    return (
        f"name: bench-{os.getpid()}\nnetworks: {{lan: , move: {{purpose: migration{shaped}}}}}\n"
        f"hosts: {{host1: {host}, host2: {host}}}\n"
        f"guests: {{{GUEST}: {{host: host1, memory: {memory}, accel: tcg}}}}\n"
    )


async def sent_bytes(lab: Lab, host: str) -> int:
    """What has left *host* until now."""
    said = await lab.host(host).run(["ip", "-s", "-j", "link"])
    return sum(link["stats64"]["tx"]["bytes"] for link in json.loads(said.text) if link["ifname"] == "eth1")


async def moved(lab: Lab, options: Mapping[str, Value], limit_s: float) -> Taken | str:
    """One move to the other host; or why it failed."""
    source = await lab.guests.where(GUEST)
    before = await sent_bytes(lab, source)
    outcome = await lab.attempt(
        GUEST, "host2" if source == "host1" else "host1", Settings(options=dict(options), timeout_s=limit_s)
    )
    sent = await sent_bytes(lab, source) - before
    if outcome.failure is not None or outcome.resume_ns is None or outcome.stop_ns is None:
        return "it did not complete" if outcome.failure is None else outcome.failure.message
    return Taken(outcome.info.total_time or 0, sent, (outcome.resume_ns - outcome.stop_ns) / 1e6)


async def by_option(chosen: argparse.Namespace) -> list[list[str]]:
    """A row a way: *count* moves each, in turns, after one that is thrown away."""
    found: dict[str, list[Taken]] = {way: [] for way in WAYS}
    async with Lab.open(spec.loads(text(chosen.qemu, chosen.firmware, chosen.rate, "384 MiB")), ephemeral=True) as lab:
        await lab.up()
        async with lab.guests.agent(GUEST) as agent:
            await agent.memory_start(chosen.mebibytes * MIB, rate_bytes_per_s=MIB, compressibility=chosen.compressible)
            await agent.wait_memory_filled(Deadline.after(120))
            await agent.memory_stop()
        await moved(lab, {}, 120)
        for _ in range(chosen.count):
            for way, options in WAYS.items():
                taken = await moved(lab, options, 120)
                if isinstance(taken, Taken):
                    found[way].append(taken)
    rows = [["", "moves", "QEMU's total time", "sent"]]
    for way, each in found.items():
        if each:
            sent = median([taken.wire_bytes / MIB for taken in each])
            total = median([taken.total_ms for taken in each])
            rows.append([way, str(len(each)), shown(total), shown(sent, " MiB")])
        else:
            rows.append([way, "0", "", ""])
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--rate", default="200 Mbit/s")
    parser.add_argument("--mebibytes", type=int, default=192)
    parser.add_argument("--compressible", type=float, default=0.7)
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--firmware", default="", help="folders, with commas between them")
    chosen = parser.parse_args()
    with state():
        print(table(asyncio.run(by_option(chosen))))
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
