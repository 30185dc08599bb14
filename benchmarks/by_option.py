"""What a move takes by option and by method, in turns: its time, its pause, and the bytes that left the source.

The bytes are counted by the source's interface: QEMU 7.2 counts those of multifd before they are compressed. With
``--write`` the guest goes on writing, and is moved in the ways that are there for such a guest::

    python benchmarks/by_option.py --rate '200 Mbit/s' --count 3
    python benchmarks/by_option.py --rate '200 Mbit/s' --count 3 --write '40 MiB/s' --mebibytes 96

It measures and judges nothing. Its lab ends with it; nothing is read from or written to your own state directory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks.migrate import GUEST, shown, state, table  # noqa: E402
from limosa import spec  # noqa: E402
from limosa.deadline import Deadline  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.migration.settings import Settings  # noqa: E402
from limosa.results.exposure import exposure_ms  # noqa: E402
from limosa.results.statistics import median  # noqa: E402
from limosa.units import parse_bytes_per_s  # noqa: E402

MIB = 1 << 20
LIMIT_S = 120.0
WRITERS_LIMIT_S = 45.0
"""How long a guest that goes on writing has: one that does not converge would never end."""

_XBZRLE = Settings(options={"xbzrle": True, "xbzrle-cache-size": 256 * MIB})
_ZSTD = Settings(options={"multifd-compression": "zstd"})
OF_A_GUEST_AT_REST: Mapping[str, Settings] = {
    "plain": Settings(),
    "xbzrle": _XBZRLE,
    "multifd": Settings(options={"multifd": True}),
    "multifd, zlib": Settings(options={"multifd-compression": "zlib"}),
    "multifd, zstd": _ZSTD,
}
OF_A_WRITER: Mapping[str, Settings] = {
    "pre-copy": Settings(),
    "xbzrle": _XBZRLE,
    "multifd, zstd": _ZSTD,
    "auto-converge": Settings(options={"auto-converge": True}),
    "post-copy": Settings(method="post-copy"),
    "post-copy, no preempt": Settings(method="post-copy", options={"postcopy-preempt": False}),
}


@dataclass(frozen=True, slots=True)
class Taken:
    """One move; None: it had no exposure."""

    total_ms: float
    wire_bytes: int
    pause_ms: float
    exposure_ms: float | None = None


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


async def moved(lab: Lab, settings: Settings) -> Taken | str:
    """One move to the other host; or why it failed."""
    source = await lab.guests.where(GUEST)
    before = await sent_bytes(lab, source)
    outcome = await lab.attempt(GUEST, "host2" if source == "host1" else "host1", settings)
    sent = await sent_bytes(lab, source) - before
    if outcome.failure is not None or outcome.pause_ms is None:
        return "it did not complete" if outcome.failure is None else outcome.failure.message
    return Taken(outcome.info.total_time or 0, sent, outcome.pause_ms, exposure_ms(outcome.phases))


async def by_option(chosen: argparse.Namespace) -> list[list[str]]:
    """A row a way: *count* moves each, in turns, after one that is thrown away."""
    rate = parse_bytes_per_s(chosen.write) if chosen.write else 0
    ways, limit_s = (OF_A_WRITER, WRITERS_LIMIT_S) if rate else (OF_A_GUEST_AT_REST, LIMIT_S)
    found: dict[str, list[Taken]] = {way: [] for way in ways}
    async with Lab.open(spec.loads(text(chosen.qemu, chosen.firmware, chosen.rate, "384 MiB")), ephemeral=True) as lab:
        await lab.up()
        async with lab.guests.agent(GUEST) as agent:
            size_bytes = chosen.mebibytes * MIB
            await agent.memory_start(size_bytes, rate_bytes_per_s=rate or MIB, compressibility=chosen.compressible)
            await agent.wait_memory_filled(Deadline.after(120))
            if not rate:
                await agent.memory_stop()
        await moved(lab, Settings(timeout_s=limit_s))
        for _ in range(chosen.count):
            for way, settings in ways.items():
                taken = await moved(lab, replace(settings, timeout_s=limit_s))
                if isinstance(taken, Taken):
                    found[way].append(taken)
    return rows(found, chosen.count)


def rows(found: Mapping[str, Sequence[Taken]], count: int) -> list[list[str]]:
    """A row a way: medians of the moves that completed, of *count*."""
    told = [["", "moves", "QEMU's total time", "pause", "exposure", "sent"]]
    for way, each in found.items():
        exposed = [taken.exposure_ms for taken in each if taken.exposure_ms is not None]
        figures = [
            shown(median([taken.total_ms for taken in each])) if each else "",
            shown(median([taken.pause_ms for taken in each])) if each else "",
            shown(median(exposed)) if exposed else "",
            shown(median([taken.wire_bytes / MIB for taken in each]), " MiB") if each else "",
        ]
        told.append([way, f"{len(each)} of {count}", *figures])
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--rate", default="200 Mbit/s")
    parser.add_argument("--mebibytes", type=int, default=192)
    parser.add_argument("--compressible", type=float, default=0.7)
    parser.add_argument("--write", default="", help="how fast the guest goes on writing to that memory: '40 MiB/s'")
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--firmware", default="", help="folders, with commas between them")
    chosen = parser.parse_args()
    with state():
        print(table(asyncio.run(by_option(chosen))))
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
