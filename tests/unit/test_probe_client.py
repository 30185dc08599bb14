"""The real client program against a guest of sockets on the loopback device."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from limosa import bundle, process
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.probes import ticks
from limosa.probes.arrival import Gap
from limosa.probes.client_probe import ClientProbe, Config, asked, program
from limosa.probes.sample_file import SampleFile
from limosa.probes.tcp_service import ServiceConfig
from limosa.probes.ticks import TickConfig
from limosa.probes.udp_echo import EchoConfig
from limosa.results.samples import LOST, read_exchanges, read_ticks


class Here:
    """A host that is this machine."""

    def interactive(self, argv: list[str]) -> list[str]:
        return argv


class FakeGuest(asyncio.DatagramProtocol):
    """Echoes datagrams and bytes; every *break_after*-th request breaks the connection instead."""

    def __init__(self, break_after: int = 0) -> None:
        self._break_after, self._requests = break_after, 0
        self.mute = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.udp = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.mute:
            self.udp.sendto(data, addr)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            self._requests += 1
            if self._requests == self._break_after:
                break
            # In two parts: the client has to put answers together.
            writer.write(data[:7])
            await writer.drain()
            writer.write(data[7:])
        writer.close()

    def tick(self, port: int, sequence: int, payload: bytes = b"") -> None:
        tick = struct.pack("!4sHHQQQ", b"LMTK", 1, 0, sequence, time.monotonic_ns(), time.time_ns())
        self.udp.sendto(payload or tick, ("127.0.0.1", port))


@asynccontextmanager
async def fake_guest(break_after: int = 0) -> AsyncIterator[tuple[FakeGuest, int]]:
    """A guest and the port of both its services."""
    loop = asyncio.get_running_loop()
    guest = FakeGuest(break_after)
    server = await asyncio.start_server(guest.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    udp, _ = await loop.create_datagram_endpoint(lambda: guest, local_addr=("127.0.0.1", port))
    try:
        yield guest, port
    finally:
        udp.close()
        server.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configs(port: int, ticks: int) -> list[Config]:
    return [
        TickConfig(port=ticks, address="127.0.0.1"),
        EchoConfig(address="127.0.0.1", port=port, rate_hz=200),
        ServiceConfig(address="127.0.0.1", port=port, interval_ms=5),
    ]


async def test_all_three_probes_write_what_the_kernel_saw(tmp_path: Path) -> None:
    ticks_port = free_port()
    async with fake_guest() as (guest, port):
        began_ns = time.time_ns()
        async with ClientProbe.open(Here(), configs(port, ticks_port), tmp_path) as probe:
            guest.tick(ticks_port, 99)
            await probe.start()
            for sequence in range(20):
                guest.tick(ticks_port, sequence)
                await asyncio.sleep(0.003)
            guest.tick(ticks_port, 0, b"not a tick")
            status = await probe.status()
            report = await probe.stop()
        ended_ns = time.time_ns()
    assert status.probes["ticks"].count == 20 and status.probes["ticks"].foreign == 1
    service = report.probes["service"]
    assert service.connections == 1 and service.broken == 0 and service.connected
    heard = read_ticks(tmp_path / "ticks.csv")
    assert list(heard.sequence) == list(range(20)), "the one sent before the start is not there"
    for exchanges, counts in (
        (read_exchanges(tmp_path / "echo.csv"), report.probes["echo"]),
        (read_exchanges(tmp_path / "service.csv"), report.probes["service"]),
    ):
        assert list(exchanges.sequence) == list(range(counts.sent))
        answered = exchanges.received_ns != LOST
        assert answered.sum() == counts.answered >= 3
        took_ns = (exchanges.received_ns - exchanges.sent_ns)[answered]
        assert (took_ns > 0).all() and began_ns < exchanges.sent_ns[0] and exchanges.received_ns.max() < ended_ns


async def test_the_gap_since_the_mark_is_live(tmp_path: Path) -> None:
    port = free_port()
    wanted = [TickConfig(port=port)]
    async with fake_guest() as (guest, _), ClientProbe.open(Here(), wanted, tmp_path) as probe:
        await probe.start()
        guest.tick(port, 0)
        await asyncio.sleep(0.5)
        guest.tick(port, 1)
        await probe.mark("migration 1")
        guest.tick(port, 2)
        status = await probe.status()
    assert status.probes["ticks"].longest_ms >= 495 > status.probes["ticks"].since_mark_ms


async def test_a_broken_connection_is_counted_and_made_again(tmp_path: Path) -> None:
    async with fake_guest(break_after=3) as (_, port):
        service = ServiceConfig(address="127.0.0.1", port=port, interval_ms=1)
        async with ClientProbe.open(Here(), [service], tmp_path) as probe:
            await probe.start()
            async for _ in Deadline.after(5).ticks(0.02):
                status = await probe.status()
                if status.probes["service"].connections == 2:
                    break
            report = await probe.stop()
    assert report.probes["service"].broken == 1
    assert report.probes["service"].last_error == "closed by the guest"
    assert read_exchanges(tmp_path / "service.csv").received_ns[2] == LOST


async def test_unanswered_echoes_are_lost_and_told(tmp_path: Path) -> None:
    async with fake_guest() as (guest, port):
        guest.mute = True
        echo = EchoConfig(address="127.0.0.1", port=port, rate_hz=100)
        async with ClientProbe.open(Here(), [echo], tmp_path) as probe:
            await probe.start()
            await asyncio.sleep(0.05)
            report = await probe.stop()
    assert report.probes["echo"].sent >= 3 and report.probes["echo"].answered == 0
    assert (read_exchanges(tmp_path / "echo.csv").received_ns == LOST).all()


async def test_a_guest_that_is_not_there_is_a_result_not_a_crash(tmp_path: Path) -> None:
    nobody = free_port()
    async with ClientProbe.open(Here(), configs(nobody, free_port()), tmp_path) as probe:
        await probe.start()
        await asyncio.sleep(0.05)
        report = await probe.stop()
    assert report.probes["service"].connections == 0
    assert "refused" in report.probes["service"].last_error
    assert report.probes["echo"].refused > 0 and report.probes["echo"].answered == 0


async def test_a_port_in_use_is_one_clear_sentence(tmp_path: Path) -> None:
    async with fake_guest() as (_, port):
        with pytest.raises(LimosaError, match="Address already in use"):
            async with ClientProbe.open(Here(), [TickConfig(port=port)], tmp_path):
                pytest.fail("it must not start")


@pytest.mark.parametrize("ending", ["end of file", "SIGTERM"])
async def test_it_ends_with_its_controller_and_writes_everything(tmp_path: Path, ending: str) -> None:
    port = free_port()
    wanted = asked([TickConfig(port=port, address="127.0.0.1")], tmp_path)
    child = await process.start(bundle.command(sys.executable, wanted))
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(program([ticks.__name__]))
    await child.stdout.readline()
    child.stdin.write(b'nonsense\n{"do": "start"}\n')
    assert json.loads(await child.stdout.readline())["did"] == "error"
    assert json.loads(await child.stdout.readline())["did"] == "start"
    async with fake_guest() as (guest, _):
        for sequence in range(5):
            guest.tick(port, sequence)
        await asyncio.sleep(0.01)
        if ending == "SIGTERM":
            child.terminate()
        else:
            child.stdin.close()
        async with asyncio.timeout(5):
            assert await child.wait() == 0
    child.stdin.close()
    assert len(read_ticks(tmp_path / "ticks.csv")) == 5


def test_a_full_disk_is_told_and_rows_are_kept() -> None:
    samples = SampleFile("/dev/full", ("a", "b"))
    assert "No space left" in samples.problem


def test_gaps_are_the_longest_and_since_the_mark() -> None:
    gap = Gap()
    assert gap.report() == {"longest_ms": None, "since_mark_ms": None, "silent_ms": None}, "nothing seen is no gap of 0"
    for at in (1_000_000, 3_000_000, 4_000_000):
        gap.arrived(at)
    assert (gap.longest_ns, gap.since_mark_ns) == (2_000_000, 2_000_000)
    assert (gap.report()["longest_ms"], gap.report()["since_mark_ms"]) == (2.0, 2.0)


async def test_a_client_that_dies_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(LimosaError, match="the probing client ended"):
        async with ClientProbe.open(Here(), [TickConfig(port=free_port())], tmp_path) as probe:
            probe._child.kill()
            await probe.status()


async def test_a_missing_python_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="/no/python"):
        async with ClientProbe.open(Here(), [], tmp_path, python="/no/python"):
            pytest.fail("it must not start")
