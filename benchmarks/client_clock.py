"""How well the client's clocks read pauses of known length, and what the client costs.

Two network namespaces joined by a veth pair: in one a stand-in for the guest ticks every millisecond, falls silent
for known times, and answers echoes and service requests; in the other the real client probes it. The stand-in
notes when each silence began and ended: the truth. Needs root, takes half a minute::

    python benchmarks/client_clock.py [ECHOES_PER_SECOND]
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

from limosa.probes.client_probe import ClientProbe, Config
from limosa.probes.tcp_service import ServiceConfig
from limosa.probes.ticks import TickConfig
from limosa.probes.udp_echo import EchoConfig
from limosa.results.format import Pause
from limosa.results.observation import observed_pauses
from limosa.results.samples import Samples, read_exchanges, read_ticks
from limosa.results.summary import clocks_of

PAUSES_MS = (5, 20, 100, 500)
REPEATS = 8
GUEST, CLIENT, TICK_PORT, ECHO_PORT = "10.99.0.2", "10.99.0.1", 7001, 7002


class Namespace:
    """A network namespace held by a sleeping process."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "300"])
        while Path(f"/proc/{self.holder.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            time.sleep(0.01)

    def interactive(self, argv: list[str]) -> list[str]:
        return ["nsenter", "-t", str(self.holder.pid), "-n", *argv]

    def ip(self, *words: str) -> None:
        subprocess.run(self.interactive(["ip", *words]), check=True)

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


def stand_in(pid: int, pipe: Connection) -> None:
    """The guest: ticks every millisecond, silences, echoes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    echo.bind((GUEST, ECHO_PORT))
    listener = socket.create_server((GUEST, ECHO_PORT))
    accepted: list[socket.socket] = []
    pipe.send("ready")
    sequence, lost_ns, truth = 0, 0, []
    # A fixed distance would meet the echoes at the same phase each time.
    phase = random.Random(1)
    plan = [p for _ in range(REPEATS) for p in PAUSES_MS]
    due_ns, next_pause_ns = time.monotonic_ns(), time.monotonic_ns() + 3_000_000_000
    while True:
        wait_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
        for ready in select.select([echo, listener, *accepted], [], [], wait_s)[0]:
            serve(ready, echo, listener, accepted)
        now_ns = time.monotonic_ns()
        if now_ns < due_ns:
            continue
        if plan and now_ns >= next_pause_ns:
            requested_ns = plan.pop(0) * 1_000_000
            stop_ns = time.time_ns()
            time.sleep(max(0.0, requested_ns / 1e9))
            resume_ns = time.time_ns()
            truth.append((requested_ns, stop_ns, resume_ns))
            # A stopped guest's clock stands still, and so does its timer.
            lost_ns += resume_ns - stop_ns
            due_ns += resume_ns - stop_ns
            next_pause_ns = time.monotonic_ns() + phase.randrange(500_000_000, 600_000_000)
            continue
        if not plan and now_ns >= next_pause_ns + 2_000_000_000:
            break
        guest_ns = time.monotonic_ns() - lost_ns
        udp.sendto(struct.pack("!4sHHQQQ", b"LMTK", 1, 0, sequence, guest_ns, time.time_ns()), (CLIENT, TICK_PORT))
        sequence, due_ns = sequence + 1, max(due_ns + 1_000_000, now_ns - 5_000_000)
    pipe.send((sequence, truth))


def serve(ready: socket.socket, echo: socket.socket, listener: socket.socket, accepted: list[socket.socket]) -> None:
    if ready is echo:
        data, sender = echo.recvfrom(2048)
        echo.sendto(data, sender)
    elif ready is listener:
        accepted.append(listener.accept()[0])
    else:
        data = ready.recv(2048)
        if data:
            ready.sendall(data)
        else:
            accepted.remove(ready)


async def main(echo_hz: float) -> None:
    client_side, guest_side = Namespace(), Namespace()
    try:
        client_side.ip("link", "add", "c0", "type", "veth", "peer", "name", "g0", "netns", str(guest_side.holder.pid))
        for side, name, address in ((client_side, "c0", CLIENT), (guest_side, "g0", GUEST)):
            side.ip("address", "add", f"{address}/24", "dev", name)
            side.ip("link", "set", name, "up")
        with tempfile.TemporaryDirectory(prefix="limosa-benchmark-") as folder:
            await measure(client_side, guest_side, Path(folder), echo_hz)
    finally:
        client_side.close()
        guest_side.close()


async def measure(client_side: Namespace, guest_side: Namespace, folder: Path, echo_hz: float) -> None:
    here, there = multiprocessing.Pipe()
    guest = multiprocessing.get_context("spawn").Process(target=stand_in, args=(guest_side.holder.pid, there))
    guest.start()
    assert here.recv() == "ready"
    configs: list[Config] = [
        TickConfig(port=TICK_PORT),
        EchoConfig(address=GUEST, port=ECHO_PORT, rate_hz=echo_hz),
        ServiceConfig(address=GUEST, port=ECHO_PORT),
    ]
    async with ClientProbe.open(client_side, configs, folder) as probe:
        await probe.start()
        sequence, truth = await asyncio.to_thread(here.recv)
        report = await probe.stop()
    guest.join()
    print(f"sent {sequence} ticks; load average {os.getloadavg()[0]:.2f}; Python {sys.version.split()[0]}")
    print(
        json.dumps(
            {
                "cpu_percent": 100 * report.cpu_s / report.wall_s,
                "wakeups_per_s": report.wakeups / report.wall_s,
            }
        )
    )
    for part in report.probes.values():
        print(part)
    print_errors(folder, truth)


def print_errors(folder: Path, truth: list[tuple[int, int, int]]) -> None:
    echo, service = read_exchanges(folder / "echo.csv"), read_exchanges(folder / "service.csv")
    samples = Samples(read_ticks(folder / "ticks.csv"), echo, service)
    pauses = [Pause(requested_ms=r / 1e6, stop_ns=stop, resume_ns=resume) for r, stop, resume in truth]
    errors: dict[tuple[float, str], list[float]] = {}
    for pause, observed in zip(pauses, observed_pauses(pauses, samples), strict=True):
        read = clocks_of(observed)
        for name in ("tick_gap_ms", "guest_lost_ms", "echo_gap_ms", "service_stall_ms"):
            reading, true_ms = getattr(read, name), (pause.resume_ns - pause.stop_ns) / 1e6
            if reading is not None:
                errors.setdefault((pause.requested_ms, name), []).append(reading - true_ms)
    for (requested_ms, name), e in sorted(errors.items()):
        worst = max(e, key=abs)
        print(f"{requested_ms:5g} ms  {name:18} error {median(e):+8.3f} ms  worst {worst:+8.3f}  n {len(e)}")


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0))
