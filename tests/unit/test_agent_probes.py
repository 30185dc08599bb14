from __future__ import annotations

import asyncio
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from agent_process import RunningAgent, program, running

from limosa.deadline import Deadline
from limosa.errors import BusyError
from limosa.guest.agent import AgentClient


class Tick(NamedTuple):
    magic: bytes
    version: int
    flags: int
    sequence: int
    monotonic_ns: int
    realtime_ns: int


@pytest.fixture
def binary() -> Any:
    return program()


@pytest.fixture
async def agent(binary: Any) -> AsyncIterator[RunningAgent]:
    async with running(binary) as started:
        yield started


@pytest.fixture
async def client(agent: RunningAgent) -> AgentClient:
    return await agent.client()


def drained(receiver: socket.socket) -> list[Tick]:
    ticks = []
    while True:
        try:
            ticks.append(Tick._make(struct.unpack("!4sHHQQQ", receiver.recv(100))))
        except BlockingIOError:
            return ticks


def collector(family: int = socket.AF_INET, address: str = "127.0.0.1") -> socket.socket:
    receiver = socket.socket(family, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    try:
        receiver.bind((address, 0))
    except OSError:
        receiver.close()
        pytest.skip(f"no address {address} on this machine")
    return receiver


async def test_ticks_have_the_format_and_the_rate(client: AgentClient) -> None:
    with collector() as receiver:
        before = time.monotonic_ns(), time.time_ns()
        await client.ticks_start("127.0.0.1", receiver.getsockname()[1])
        with pytest.raises(BusyError):
            await client.ticks_start("127.0.0.1", 9)
        await asyncio.sleep(0.2)
        status, after_ns = await client.ticks_stop(), time.monotonic_ns()
        ticks = drained(receiver)
    assert {tick[:3] for tick in ticks} == {(b"LMTK", 1, 0)}
    assert [tick.sequence for tick in ticks] == list(range(1, status.sent + 1))
    assert before[0] < ticks[0].monotonic_ns < before[0] + 1e9
    assert before[1] < ticks[0].realtime_ns < before[1] + 1e9
    # One is due each millisecond from the first to the stop, and each is either sent or counted as missed.
    due = (ticks[-1].monotonic_ns - ticks[0].monotonic_ns) / 1e6
    assert 20 < due <= status.sent + status.missed <= (after_ns - ticks[0].monotonic_ns) / 1e6 + 2
    assert (status.running, status.errors) == (False, 0)


async def test_ticks_go_over_ipv6(client: AgentClient) -> None:
    with collector(socket.AF_INET6, "::1") as receiver:
        await client.ticks_start("::1", receiver.getsockname()[1], interval_us=2000)
        ticks, deadline = drained(receiver), Deadline.after(10)
        async for _ in deadline.ticks(0.05):
            if len(ticks) > 5:
                break
            ticks += drained(receiver)
        await client.ticks_stop()
    assert len(ticks) > 5


async def test_a_paused_sender_does_not_burst(agent: RunningAgent) -> None:
    client = await agent.client()
    with collector() as receiver:
        await client.ticks_start("127.0.0.1", receiver.getsockname()[1])
        await asyncio.sleep(0.05)
        agent.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.1)
        drained(receiver)
        agent.process.send_signal(signal.SIGCONT)
        ticks, resumed = drained(receiver), time.monotonic()
        while len(ticks) <= 5 and time.monotonic() < resumed + 10:
            await asyncio.sleep(0.05)
            ticks += drained(receiver)
        status, took_ms = await client.ticks_stop(), (time.monotonic() - resumed) * 1000
    assert 5 < len(ticks) <= took_ms + 20, "no more than one a millisecond"
    assert status.missed >= 80
    sequences = [tick.sequence for tick in ticks]
    assert sequences == list(range(sequences[0], sequences[0] + len(ticks)))
    early = [tick for tick in ticks if tick.monotonic_ns < ticks[0].monotonic_ns + 10e6]
    assert len(early) <= 12


async def test_ticks_to_nobody_do_not_fail(client: AgentClient) -> None:
    """The kernel learns by ICMP that nobody listens; each tick is sent all the same."""
    with collector() as receiver:
        port = receiver.getsockname()[1]
    await client.ticks_start("127.0.0.1", port)
    await asyncio.sleep(0.03)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(("127.0.0.1", port))
        await asyncio.sleep(0.05)
        status = await client.ticks_stop()
        sequences = [tick.sequence for tick in drained(receiver)]
    assert sequences == list(range(sequences[0], status.sent + 1))
    assert status.errors == 0


async def test_datagrams_come_back(client: AgentClient) -> None:
    port = await client.echo_start(0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(2)
        for size in (1, 0, 32, 1400, 60000):
            sender.sendto(b"e" * size, ("127.0.0.1", port))
            assert sender.recv(65536) == b"e" * size
    assert (await client.echo_stop()).datagrams == 5


async def test_tcp_clients_are_echoed_side_by_side(client: AgentClient) -> None:
    port = await client.echo_start(0)
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    blocks = [bytes([number]) * 300_000 for number in range(10)]

    async def exchange(number: int) -> None:
        reader, writer = streams[number]
        writer.write(blocks[number])
        assert await asyncio.wait_for(reader.readexactly(300_000), 5) == blocks[number]

    await asyncio.gather(*map(exchange, range(10)))
    status = await client.echo_status()
    assert (status.connected, status.accepted, status.stream_bytes) == (10, 10, 3_000_000)
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()
    async for _ in Deadline.after(2).ticks(0.005):
        if (await client.echo_status()).connected == 0:
            break
    assert (await client.echo_status()).connected == 0


async def test_a_client_that_does_not_read_holds_nobody_up(client: AgentClient) -> None:
    port = await client.echo_start(0)
    _, stuck = await asyncio.open_connection("127.0.0.1", port)
    stuck.transport.pause_reading()  # type: ignore[attr-defined]
    stuck.write(b"s" * 20_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 2) == b"ping"
    for end in (stuck, writer):
        end.transport.abort()


async def test_more_clients_than_places_are_turned_away_and_places_come_free(client: AgentClient) -> None:
    port = await client.echo_start(0)
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(66)]
    for reader, _ in streams[64:]:
        assert await asyncio.wait_for(reader.read(1), 2) == b""
    streams[0][1].close()
    async for _ in Deadline.after(2).ticks(0.005):
        if (await client.echo_status()).connected == 63:
            break
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), 2) == b"x"
    for _, end in [*streams, (reader, writer)]:
        end.transport.abort()


async def test_the_echo_can_be_stopped_and_started_on_its_port(client: AgentClient) -> None:
    port = await client.echo_start(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), 2) == b"x"
    await client.echo_stop()
    assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    assert await client.echo_start(port) == port


async def test_cpu_samples_come_at_their_interval_with_a_low_duty(client: AgentClient) -> None:
    began_ns = time.monotonic_ns()
    events = await client.cpu_start(interval_ms=5)
    with pytest.raises(BusyError):
        await client.cpu_start()
    await asyncio.sleep(0.15)
    await client.cpu_stop()
    after_ns, read = time.monotonic_ns(), await client.cpu_read()
    due = (read.samples[-1].monotonic_ns - read.samples[0].monotonic_ns) / 5e6
    assert 5 < due <= read.last + read.missed <= (after_ns - began_ns) / 5e6 + 2
    assert [sample.index for sample in read.samples] == list(range(1, read.last + 1))
    assert {sample.events for sample in read.samples} == {events}
    assert all(sample.cpu_ns > 0 for sample in read.samples)
    speed = read.samples[0].events_per_s
    assert speed == pytest.approx(events * 1e9 / read.samples[0].duration_ns)
    # The work is 5 % of 5 ms, by the fastest of several runs. Where all of these were disturbed it is less, never more;
    # of many calibrations not all are.
    works = [min(sample.cpu_ns for sample in read.samples)]
    while works[-1] < 100e3 and len(works) < 20:
        works.append(await _least_work_ns(client, interval_ms=5))
    assert works[-1] >= 100e3
    assert max(works) <= 400e3


async def _least_work_ns(client: AgentClient, *, interval_ms: int, loop_events: int = 0) -> int:
    """Of ten samples, whenever they come."""
    await client.cpu_start(interval_ms=interval_ms, loop_events=loop_events)
    async for _ in Deadline.after(30).ticks(0.01):
        if (await client.cpu_read()).last >= 10:
            break
    await client.cpu_stop()
    return min(sample.cpu_ns for sample in (await client.cpu_read()).samples)


async def test_more_work_takes_longer(client: AgentClient) -> None:
    """Who shares a CPU finds its caches full of other things: of many looks not all fall into that."""
    found: dict[int, list[int]] = {20: [], 200: []}
    for _ in range(20):
        for events, works in found.items():
            works.append(await _least_work_ns(client, interval_ms=2, loop_events=events))
        if min(found[200]) / min(found[20]) == pytest.approx(10, rel=0.5):
            return
    raise AssertionError(f"CPU time in nanoseconds by the events of a sample: {found}")


async def test_samples_are_read_in_batches(client: AgentClient) -> None:
    await client.cpu_start(interval_ms=1, loop_events=1)
    await asyncio.sleep(0.05)
    first = await client.cpu_read()
    await asyncio.sleep(0.02)
    await client.cpu_stop()
    second = await client.cpu_read(after=first.samples[-1].index)
    assert second.samples[0].index == first.samples[-1].index + 1
    assert second.samples[-1].index == second.last
    assert (await client.cpu_read(after=second.last)).samples == ()
    assert (await client.cpu_read(after=second.last + 5)).lost == 0
