"""Real moves, recorded for the simulation in ``limosa.prediction`` to be held against.

``python -m tests.record_moves FOLDER`` makes them in a lab of its own, one guest whose writers are known over links
whose rates are known, and adds a line a move to the file of its QEMU's version. ``--only WORD`` makes those with that
word in their name, ``--qemu`` and ``--firmware`` take another QEMU. It measures and judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from benchmarks.migrate import GUEST, state
from limosa import spec
from limosa.deadline import Deadline
from limosa.events import MigrationProgressed
from limosa.lab import Lab
from limosa.migration.pause_estimate import stream
from limosa.migration.progress import Progress
from limosa.migration.settings import Settings
from limosa.migration.transfer import Outcome
from limosa.qemu.monitor import MigrateInfo
from limosa.results.exposure import exposure_ms
from limosa.spec.migration_options import OPTIONS
from tests.move_records import FOLDER, LIMIT_S, Block, RecordedMove, SeenLook, Writer

MIB = 1 << 20
MEMORY_BYTES = 192 * MIB
LOOK_S = 0.5
"""Between two looks that are kept; the first one of each pass is kept too."""
OBSERVED_S = 3.0
"""How long writers are watched before a move, for the rate that they reach."""


class Wanted(msgspec.Struct, frozen=True):
    """A move to make."""

    name: str
    rate: str
    writer: Writer | None = None
    options: dict[str, Any] = {}
    method: str = "pre-copy"


def _writer(mebibytes: int, mib_per_s: int, pattern: str = "uniform") -> Writer:
    return Writer(mebibytes * MIB, mib_per_s * MIB, pattern)


WANTED = (
    Wanted("idle-200", "200 Mbit/s"),
    Wanted("idle-200-limit-2000", "200 Mbit/s", options={"downtime-limit": 2000}),
    Wanted("idle-1000", "1 Gbit/s"),
    Wanted("gentle-200", "200 Mbit/s", _writer(32, 8)),
    Wanted("gentle-100", "100 Mbit/s", _writer(16, 6)),
    Wanted("small-set-200", "200 Mbit/s", _writer(6, 40)),
    Wanted("plateau-200-limit-300", "200 Mbit/s", _writer(48, 60)),
    Wanted("plateau-200-limit-2500", "200 Mbit/s", _writer(48, 60), {"downtime-limit": 2500}),
    Wanted("plateau-200-limit-5000", "200 Mbit/s", _writer(48, 60), {"downtime-limit": 5000}),
    Wanted("sequential-200", "200 Mbit/s", _writer(64, 15, "sequential"), {"downtime-limit": 500}),
    Wanted("near-link-200", "200 Mbit/s", _writer(64, 20), {"downtime-limit": 1000}),
    Wanted("busy-1000", "1 Gbit/s", _writer(64, 60)),
    Wanted("busy-400", "400 Mbit/s", _writer(64, 30)),
    Wanted("capped-400", "400 Mbit/s", _writer(32, 12), {"max-bandwidth": 20 * MIB, "downtime-limit": 500}),
    Wanted("greedy-converge-200", "200 Mbit/s", _writer(32, 0), {"auto-converge": True, "downtime-limit": 700}),
    Wanted("post-copy-200", "200 Mbit/s", _writer(48, 60), method="post-copy"),
    Wanted("post-copy-400", "400 Mbit/s", _writer(32, 40), method="post-copy"),
)


class _Looks:
    """Keeps of all looks those that tell something."""

    def __init__(self) -> None:
        self.kept: list[SeenLook] = []
        self._began_s: float | None = None

    def see(self, info: MigrateInfo, now_s: float) -> None:
        """One answer to query-migrate."""
        if info.ram is None or info.status not in ("active", "postcopy-active"):
            return
        self._began_s = now_s if self._began_s is None else self._began_s
        at_s, last = now_s - self._began_s, self.kept[-1] if self.kept else None
        if last and last.iteration == info.ram.dirty_sync_count and at_s < last.at_s + LOOK_S:
            return
        ram, raw = info.ram, info.raw
        self.kept.append(
            SeenLook(
                at_s=round(at_s, 3),
                iteration=ram.dirty_sync_count,
                remaining_bytes=ram.remaining,
                sent_bytes=ram.transferred,
                dirty_rate_bytes_per_s=ram.dirty_pages_rate * ram.page_size,
                throughput_bytes_per_s=round(ram.mbps * 1e6 / 8),
                expected_downtime_s=info.expected_downtime / 1000 if info.expected_downtime is not None else None,
                throttle_percent=raw.get("cpu-throttle-percentage"),
            )
        )


@contextlib.contextmanager
def _looked_at(looks: _Looks) -> Iterator[None]:
    """Every answer to query-migrate goes to *looks* too."""
    look = Progress.look

    def seen(progress: Progress, info: MigrateInfo, now_s: float) -> MigrationProgressed:
        looks.see(info, now_s)
        return look(progress, info, now_s)

    with patch.object(Progress, "look", seen):
        yield


async def _writing(lab: Lab, writer: Writer | None) -> Writer | None:
    """Have the guest write as *writer* says, and see how fast it does."""
    async with lab.guests.agent(GUEST) as agent:
        with contextlib.suppress(Exception):  # there was none
            await agent.memory_stop(release=True)
        if writer is None:
            return None
        await agent.memory_start(
            writer.working_set_bytes, rate_bytes_per_s=writer.asked_bytes_per_s, pattern=writer.pattern
        )
        await agent.wait_memory_filled(Deadline.after(60))
        first, began_s = await agent.memory_status(), time.monotonic()
        await asyncio.sleep(OBSERVED_S)
        last, took_s = await agent.memory_status(), time.monotonic() - began_s
    return msgspec.structs.replace(writer, reached_bytes_per_s=(last.bytes_written - first.bytes_written) / took_s)


_BLOCKS = """
import json, sys, time, zlib
pid, block, page, least = int(sys.argv[1]), int(sys.argv[2]), 4096, int(sys.argv[3])
maps = [line.split() for line in open(f"/proc/{pid}/maps")]
sizes = [(int(e[0].split("-")[1], 16) - int(e[0].split("-")[0], 16), e[0], e[1]) for e in maps]
size, where, _ = min(each for each in sizes if each[0] >= least and each[2].startswith("rw"))
memory, base, zeros = open(f"/proc/{pid}/mem", "rb", 0), int(where.split("-")[0], 16), zlib.crc32(bytes(page))
def sums():
    memory.seek(base)
    for _ in range(0, size, block):
        data = memory.read(min(block, base + size - memory.tell()))
        yield [zlib.crc32(data[at : at + page]) for at in range(0, len(data), page)]
first = list(sums())
time.sleep(5)
for before, after in zip(first, list(sums())):
    changed = sum(a != b for a, b in zip(before, after))
    count = len(after)
    print(json.dumps([count * page, after.count(zeros) / count, changed / count]))
"""
_BLOCK_BYTES = 4 * MIB


async def _blocks(lab: Lab) -> list[Block]:
    """What the guest's memory holds where, read from outside."""
    copy = await lab.guests.qemu(GUEST)
    await copy.close()
    asked = [sys.executable, "-c", _BLOCKS, str(copy.running.pid), str(_BLOCK_BYTES), str(MEMORY_BYTES)]
    said = await lab.host(copy.host).run(asked, timeout_s=60)
    return [Block(*(round(each, 4) for each in json.loads(line))) for line in said.text.splitlines()]


def _told(outcome: Outcome) -> dict[str, Any]:
    in_force = dict.fromkeys(outcome.capabilities or (), True) | (outcome.parameters or {})
    return {name: in_force[name] for name, row in OPTIONS.items() if in_force.get(name, row.default) != row.default}


async def recorded(lab: Lab, wanted: Wanted, rate_bits_per_s: int, qemu: str) -> RecordedMove:
    """Make one move, and put down how it went."""
    writer, looks = await _writing(lab, wanted.writer), _Looks()
    blocks = await _blocks(lab)
    source = await lab.guests.where(GUEST)
    settings = Settings(options=wanted.options, method=wanted.method, timeout_s=LIMIT_S)  # type: ignore[arg-type]
    with _looked_at(looks):
        outcome = await lab.attempt(GUEST, "host2" if source == "host1" else "host1", settings)
    info, completed = outcome.info, outcome.failure is None
    ram = info.raw.get("ram", {})
    exposed_ms = exposure_ms(outcome.phases)
    return RecordedMove(
        name=wanted.name,
        qemu=qemu,
        memory_bytes=ram.get("total", 0),
        link_bytes_per_s=stream(rate_bits_per_s),
        writer=writer,
        method=wanted.method,
        told=_told(outcome),
        blocks=blocks,
        completed=completed,
        looks=looks.kept,
        total_s=_seconds(info.total_time) if completed else None,
        downtime_s=_seconds(info.downtime) if completed else None,
        pause_s=_seconds(outcome.pause_ms) if completed else None,
        exposure_s=_seconds(exposed_ms),
        sent_bytes=ram.get("transferred"),
        setup_s=_seconds(info.setup_time),
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 4)


def _lab_text(rate: str, qemu: str, firmware: str) -> str:
    host = f"{{qemu: {qemu}, qemu_firmware: [{firmware}]}}"
    return (
        f"name: moves-{os.getpid()}\nnetworks: {{lan: , move: {{purpose: migration, rate: {rate}}}}}\n"
        f"hosts: {{host1: {host}, host2: {host}}}\n"
        f"guests: {{{GUEST}: {{host: host1, memory: {MEMORY_BYTES // MIB} MiB, accel: tcg}}}}\n"
    )


def _version(qemu: str) -> str:
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    return said.split("version ")[1].split()[0]


async def record(chosen: argparse.Namespace) -> None:
    """All moves that are wanted, those over one link in one lab, each twice after one that is thrown away."""
    folder = Path(chosen.folder)
    folder.mkdir(parents=True, exist_ok=True)
    version = _version(chosen.qemu)
    wanted = [each for each in WANTED if chosen.only in each.name]
    for rate in dict.fromkeys(each.rate for each in wanted):
        described = spec.loads(_lab_text(rate, chosen.qemu, chosen.firmware))
        async with Lab.open(described, ephemeral=True) as lab:
            await lab.up()
            bits_per_s = described.migration_network.rate_bits_per_s
            assert bits_per_s is not None
            await recorded(lab, Wanted("thrown-away", rate), bits_per_s, version)
            for each in (each for each in wanted if each.rate == rate):
                for _ in range(chosen.count):
                    move = await recorded(lab, each, bits_per_s, version)
                    with (folder / f"moves-{version}.jsonl").open("ab") as file:
                        file.write(msgspec.json.encode(move) + b"\n")
                    print(move.name, move.completed, move.total_s, move.downtime_s, move.pause_s, flush=True)


def main() -> None:
    """Make the moves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=str(FOLDER))
    parser.add_argument("--only", default="")
    parser.add_argument("--count", type=int, default=2)
    parser.add_argument("--qemu", default=shutil.which("qemu-system-x86_64"))
    parser.add_argument("--firmware", default="")
    chosen = parser.parse_args()
    with state():
        asyncio.run(record(chosen))


if __name__ == "__main__":
    main()
