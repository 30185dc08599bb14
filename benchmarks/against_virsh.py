"""What ``limosa migrate`` costs next to ``virsh migrate --live`` and to a bare QMP script, in turns, in one run.

Two guests of one image, of the same size, under the same load and the same accelerator, on two hosts of one lab:
libvirt has one of them, with a daemon of its own on each host, and Limosa the other, which ``bare_qmp.py`` moves too.
While one moves, the other is paused. Of each move are taken: the wall time of the whole command, QEMU's own total
time, and what the guest's clock lost; in moves of their own, as it disturbs the others, the longest gap between the
packets that the guest sends every 5 ms. It measures and judges nothing::

    python benchmarks/against_virsh.py --count 10                        idle, 512 MiB
    python benchmarks/against_virsh.py --load touched --rate '1 Gbit/s'  2 GiB, of which one was written once
    python benchmarks/against_virsh.py --load writer                     48 MiB written over and over, 40 MiB/s
    python benchmarks/against_virsh.py --how post-copy                   ``virsh migrate --postcopy`` and our method
    python benchmarks/against_virsh.py --how parallel                    four connections (multifd) in both

Bare QMP knows pre-copy alone.

Needs root and libvirt (Debian: libvirt-daemon, libvirt-daemon-driver-qemu, libvirt-clients). The lab, the daemons and
all their files go with this script.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from benchmarks import libvirt_hosts  # noqa: E402
from benchmarks.libvirt_hosts import Domain, LibvirtHost, watched  # noqa: E402
from benchmarks.migrate import BARE_QMP, LIMOSA, plan, shown, state, table, timed  # noqa: E402
from limosa import spec, units  # noqa: E402
from limosa.deadline import Deadline  # noqa: E402
from limosa.errors import LimosaError  # noqa: E402
from limosa.guest.agent.client import AgentClient  # noqa: E402
from limosa.lab import Lab  # noqa: E402
from limosa.results.statistics import median, ratio_of_medians  # noqa: E402

HOSTS = ("host1", "host2")
OURS, THEIRS = "guest1", "guest2"


@dataclass(frozen=True, slots=True)
class How:
    """A kind of migration: what virsh and limosa are told, and who knows it. In turns each way goes as often there as
    back, and none always after the same one."""

    virsh: tuple[str, ...] = ()
    limosa: tuple[str, ...] = ()
    ways: tuple[str, ...] = ("virsh", "limosa")

    @property
    def warm_up(self) -> int:
        """The first move of a guest is far slower, in each direction (first touch of its memory)."""
        return 2 * len(self.ways)


HOW = {
    "pre-copy": How(ways=("virsh", "limosa", "bare QMP")),
    "post-copy": How(("--postcopy", "--postcopy-after-precopy"), ("--method", "post-copy")),
    "parallel": How(("--parallel", "--parallel-connections", "4"), ("--set", "multifd-channels=4")),
}

TICK_US, TICK_PORT = 5000, 7070
CLOCK_READS = 12
MEMORY = {"idle": "512 MiB", "touched": "2 GiB", "writer": "512 MiB"}
TOUCHED_BYTES, WRITER_BYTES, WRITER_RATE = 1 << 30, 48 << 20, 40 << 20
SOUND_QEMU = (9, 0)
"""From this version on an emulated guest of whole MiB keeps what it writes in a move; libvirt has no other sizes."""

_GAPS = """
import select, socket, sys, time
taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taker.bind(("0.0.0.0", int(sys.argv[1])))
last, longest = None, 0.0
print("ready", flush=True)
while True:
    ready, _, _ = select.select([taker, sys.stdin], [], [])
    if taker in ready:
        taker.recv(2048)
        now = time.monotonic()
        longest = max(longest, now - last if last else 0.0)
        last = now
    elif sys.stdin in ready:
        print(longest * 1000, flush=True)
        break
"""
"""Runs on the client until its standard input ends; prints the longest gap between packets, in ms."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move. What was not read is None; ``warm_up`` moves are left out of the figures."""

    way: str
    source: str
    target: str
    whole_ms: float
    qemu_total_ms: float
    guest_lost_ms: float
    packet_gap_ms: float | None
    """Only of a move that was watched by packets, whose other figures are not counted."""
    warm_up: bool


class Bed:
    """Two guests on two hosts: one that libvirt has, and one of the lab's."""

    def __init__(self, lab: Lab, hosts: dict[str, LibvirtHost], domain: Domain, how: How) -> None:
        self.lab, self.hosts, self.domain, self.how = lab, hosts, domain, how
        self.at = dict.fromkeys((OURS, THEIRS), HOSTS[0])

    @contextlib.asynccontextmanager
    async def agent(self, guest: str) -> AsyncIterator[AgentClient]:
        """A conversation with the agent inside a guest."""
        if guest == OURS:
            async with self.lab.guests.agent(OURS) as agent:
                yield agent
            return
        connection = await self.hosts[self.at[THEIRS]].host.connect(self.domain.agent_socket)
        agent = await AgentClient.open(connection)
        try:
            await agent.wait_ready(Deadline.after(120))
            yield agent
        finally:
            await agent.close()

    async def set_running(self, guest: str, running: bool) -> None:
        """Pause a guest or let it go on."""
        if guest == THEIRS:
            await self.hosts[self.at[THEIRS]].virsh("resume" if running else "suspend", THEIRS)
            return
        copy = await self.lab.guests.qemu(OURS)
        try:
            await (copy.qemu.control.resume() if running else copy.qemu.control.pause())
        finally:
            await copy.close()

    async def ahead_ms(self, guest: str) -> float:
        """By how much this machine's clock is ahead of the guest's: of many readings the one that took the least."""
        best_s, ahead_s = float("inf"), 0.0
        async with self.agent(guest) as agent:
            for _ in range(CLOCK_READS):
                before_s = time.monotonic()
                inside = await agent.clock()
                took_s = time.monotonic() - before_s
                if took_s < best_s:
                    best_s, ahead_s = took_s, before_s + took_s / 2 - inside.monotonic_ns / 1e9
        return ahead_s * 1000

    async def move(self, way: str) -> tuple[float, float]:
        """Move the way's guest to the other host; the wall time of the command and QEMU's own, both in ms."""
        guest = THEIRS if way == "virsh" else OURS
        source = self.at[guest]
        target = HOSTS[1 - HOSTS.index(source)]
        if way == "virsh":
            whole_ms, total_ms = await self._by_virsh(source, target)
        else:
            if way == "limosa":
                words = [*LIMOSA, "migrate", OURS, target, "--lab", self.lab.name, "--json", *self.how.limosa]
                given = b""
            else:
                words, given = BARE_QMP, json.dumps(plan(self.lab, source, target)).encode()
            whole_ms, said = await timed(words, given)
            total_ms = json.loads(said)["total_ms"]
        self.at[guest] = target
        return whole_ms, total_ms

    async def _by_virsh(self, source: str, target: str) -> tuple[float, float]:
        here, there = self.hosts[source], self.hosts[target]
        words = self.lab.hosts.interactive(source, here.migrate_words(self.domain, there, self.how.virsh))
        async with watched(here.host, self.domain) as total_ms:
            whole_ms, _ = await timed(words)
            return whole_ms, await asyncio.wait_for(total_ms, 10)


@contextlib.asynccontextmanager
async def gap_of(bed: Bed, guest: str) -> AsyncIterator[Callable[[], float]]:
    """Within, the guest sends packets to the client; afterwards, their longest gap in ms can be asked for."""
    words = bed.lab.hosts.interactive("client", [sys.executable, "-I", "-S", "-c", _GAPS, str(TICK_PORT)])
    taker = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert taker.stdin and taker.stdout
    longest: list[float] = []
    try:
        await taker.stdout.readline()
        async with bed.agent(guest) as agent:
            await agent.ticks_start(bed.lab.hosts.address("client", "lan"), TICK_PORT, interval_us=TICK_US)
        await asyncio.sleep(0.3)  # some packets before the move, between which gaps are counted
        yield lambda: longest[0]
        await asyncio.sleep(0.5)
        taker.stdin.close()
        longest.append(float(await taker.stdout.readline()))
        async with bed.agent(guest) as agent:
            await agent.ticks_stop()
    finally:
        if taker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                taker.kill()
        await taker.wait()


async def one(bed: Bed, way: str, *, watch: bool, warm_up: bool) -> Move:
    """One move, with the other guest paused."""
    guest, other = (THEIRS, OURS) if way == "virsh" else (OURS, THEIRS)
    source = bed.at[guest]
    await bed.set_running(other, False)
    try:
        before_ms, gap = await bed.ahead_ms(guest), None
        if watch:
            async with gap_of(bed, guest) as gap:
                whole_ms, total_ms = await bed.move(way)
        else:
            whole_ms, total_ms = await bed.move(way)
        lost_ms = await bed.ahead_ms(guest) - before_ms
    finally:
        await bed.set_running(other, True)
    return Move(way, source, bed.at[guest], whole_ms, total_ms, lost_ms, gap() if gap else None, warm_up)


async def moves(bed: Bed, count: int) -> list[Move]:
    """*count* moves of each way after the warm-up, then as many that are watched by packets."""
    found: list[Move] = []
    ways, warm_up = bed.how.ways, bed.how.warm_up
    for watch, number in ((False, warm_up + count * len(ways)), (True, count * len(ways))):
        for at, way in enumerate(itertools.islice(itertools.cycle((*ways, *reversed(ways))), number)):
            found.append(await one(bed, way, watch=watch, warm_up=not watch and at < warm_up))
            print(f"\r{len(found)} of {warm_up + 2 * count * len(ways)} moves", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


async def loaded(bed: Bed, load: str) -> None:
    """Give both guests the load."""
    for guest in (OURS, THEIRS):
        async with bed.agent(guest) as agent:
            if load == "touched":
                await agent.region_fill("touched", TOUCHED_BYTES)
            elif load == "writer":
                await agent.memory_start(WRITER_BYTES, rate_bytes_per_s=WRITER_RATE)
                await agent.wait_memory_filled(Deadline.after(120))


def described(chosen: argparse.Namespace) -> str:
    """The lab file."""
    rate = f", rate: {chosen.rate}" if chosen.rate else ""
    host = json.dumps({"qemu": chosen.qemu, "qemu_firmware": chosen.firmware} if chosen.qemu else {})
    guest = f"{{host: host1, image: micro, memory: {MEMORY[chosen.load]}, accel: {chosen.accel}}}"
    return f"""
name: bench-{os.getpid()}
networks:
  lan: {{subnet: 10.77.1.0/24}}
  migration: {{subnet: 10.77.2.0/24, purpose: migration{rate}}}
hosts: {{host1: {host}, host2: {host}}}
guests: {{{OURS}: {guest}, {THEIRS}: {guest}}}
"""


def domain_of(words: Sequence[tuple[str, str]], lab: Lab) -> Domain:
    """The guest that libvirt gets, from the command line of the lab's own with that name."""
    options = dict(option.split(" ", 1) for option, _ in words if " " in option)
    guest = lab.spec.guests[THEIRS]
    tap = next(word for word in options["-netdev"].split(",") if word.startswith("ifname="))
    return Domain(
        name=THEIRS,
        memory_bytes=guest.memory_bytes,
        emulator=shutil.which(words[0][0]) or words[0][0],
        accel=options["-accel"].split(",")[0],
        machine=options["-machine"].split(",")[0],
        cpu=options["-cpu"].split(",")[0].removesuffix("-v1"),
        kernel=options["-kernel"],
        initrd=options["-initrd"],
        append=options["-append"].strip("'"),
        disk=str(Path(options["-kernel"]).with_suffix(".raw")),
        tap=tap.removeprefix("ifname="),
        mac=guest.mac,
    )


@contextlib.asynccontextmanager
async def bed(chosen: argparse.Namespace, folder: Path) -> AsyncIterator[Bed]:
    """Both guests, each with its load."""
    async with Lab.open(spec.loads(described(chosen)), ephemeral=True) as lab:
        await lab.up()
        domain = domain_of(await lab.guests.explain(THEIRS), lab)
        await lab.stop(THEIRS)
        hosts = {name: LibvirtHost(lab.host(name), lab.hosts.address(name, "migration")) for name in HOSTS}
        for name, host in hosts.items():
            await host.start(folder / name)
        description = folder / "domain.xml"
        description.write_text(domain.xml())
        await hosts[HOSTS[0]].virsh("create", str(description))
        made = Bed(lab, hosts, domain, HOW[chosen.how])
        await loaded(made, chosen.load)
        yield made


def summary(found: Sequence[Move]) -> str:
    """Medians with 95 % bootstrap intervals, and the ratios to virsh's in this run."""
    columns: dict[str, Callable[[Move], float | None]] = {
        "whole command": lambda m: m.whole_ms if m.packet_gap_ms is None else None,
        "QEMU's total time": lambda m: m.qemu_total_ms if m.packet_gap_ms is None else None,
        "guest's lost time": lambda m: m.guest_lost_ms if m.packet_gap_ms is None else None,
        "packet gap": lambda m: m.packet_gap_ms,
    }
    ways = [way for way in HOW["pre-copy"].ways if any(move.way == way for move in found)]
    samples = {
        (way, name): [v for m in found if m.way == way and not m.warm_up and (v := take(m)) is not None]
        for way in ways
        for name, take in columns.items()
    }
    rows = [["", "moves", *columns]]
    for way in ways:
        rows.append([way, str(len(samples[way, "whole command"])), *(shown(median(samples[way, c])) for c in columns)])
    for way in ways[1:]:
        ratios = [ratio_of_medians(samples[way, c], samples[ways[0], c]) for c in columns]
        rows.append([f"{way} / virsh", "", *(shown(ratio, "", 2) for ratio in ratios)])
    return table(rows)


async def measured(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    async with bed(chosen, folder) as made:
        qemu = await made.lab.hosts.features(HOSTS[0])
        if chosen.load == "writer" and made.domain.accel == "tcg" and _version(qemu.version) < SOUND_QEMU:
            raise LimosaError(f"emulated by QEMU {qemu.version}, a guest in whole MiB that writes loses what it wrote")
        version = (await made.hosts[HOSTS[0]].virsh("--version")).text.strip()
        return {
            "load": chosen.load,
            "how": chosen.how,
            "rate": chosen.rate,
            "qemu": qemu.version,
            "virsh": version,
            "accel": made.domain.accel,
            "machine": made.domain.machine,
            "memory_bytes": {"virsh": made.domain.memory_bytes, "limosa": await _memory(made)},
            "cpus": os.cpu_count(),
            "python": sys.version.split()[0],
            "load_before": load_before,
            "moves": await moves(made, chosen.count),
            "load_after": os.getloadavg()[0],
        }


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


async def _memory(made: Bed) -> int:
    """The guest memory in bytes that the lab's own guest really has."""
    words = dict(option.split(" ", 1) for option, _ in await made.lab.guests.explain(OURS) if " " in option)
    size = words["-m"].removeprefix("size=").split(",")[0]
    return int(size.removesuffix("k")) << 10 if size.endswith("k") else int(size)


def show(result: dict[str, Any]) -> None:
    sizes = result["memory_bytes"]
    print(
        f"{result['how']}, {result['load']}, {result['rate'] or 'unshaped'}, QEMU {result['qemu']} ({result['accel']}, "
        f"{result['machine']}), virsh {result['virsh']}, Python {result['python']}, {result['cpus']} CPUs, "
        f"load average {result['load_before']:.1f} before, {result['load_after']:.1f} after"
    )
    print(f"memory: virsh's guest {sizes['virsh']} bytes, limosa's and bare QMP's {sizes['limosa']} bytes")
    print(summary(result["moves"]))


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """A folder for the daemons' state. What they leave mounted is gone with their namespaces."""
    with tempfile.TemporaryDirectory(prefix="limosa-libvirt-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=10, help="moves of each way, watched and not (default 10)")
    parser.add_argument("--load", choices=MEMORY, default="idle", help="what the guests do (default idle)")
    parser.add_argument("--how", choices=HOW, default="pre-copy", help="the kind of migration (default pre-copy)")
    parser.add_argument("--rate", default="", help="shape the network of migrations, as '1 Gbit/s'")
    parser.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto")
    parser.add_argument("--qemu", default="", metavar="PATH", help="another QEMU for both")
    parser.add_argument("--firmware", action="append", default=[], metavar="FOLDER", help="its firmware folders")
    parser.add_argument("--json", action="store_true", help="print every sample as JSON")
    chosen = parser.parse_args()
    if chosen.count < 2:
        parser.error("--count has to be 2 or more")
    if chosen.rate:
        units.parse_bits_per_s(chosen.rate)
    if os.geteuid() != 0:
        raise SystemExit("skipped: only root can have two libvirt daemons")
    if why := libvirt_hosts.missing():
        raise SystemExit(f"skipped: {why}")
    try:
        with state(), a_folder() as folder:
            result = asyncio.run(measured(chosen, folder))
    except LimosaError as error:
        raise SystemExit(f"{error.message}{f' ({error.hint})' if error.hint else ''}") from error
    if chosen.json:
        result["moves"] = [asdict(move) for move in result["moves"]]
        print(json.dumps(result, indent=1))
    else:
        show(result)


if __name__ == "__main__":
    main()
