from __future__ import annotations

import asyncio
import signal
import struct
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agent_process import RunningAgent, program, running

from limosa.deadline import Deadline
from limosa.errors import BusyError, LimosaError, StateError
from limosa.guest.agent import AgentClient, MemoryStatus

PAGE_BYTES = 4096
MASK = (1 << 64) - 1


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


async def wait_written(client: AgentClient, size_bytes: int) -> MemoryStatus:
    async for _ in Deadline.after(10).ticks(0.005):
        status = await client.memory_status()
        if status.bytes_written >= size_bytes:
            return status
    raise AssertionError("the writer does not get on")


def mix64(value: int) -> int:
    """SplitMix64's finaliser, written a second time to check the agent's."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def content(count: int, key: int) -> list[int]:
    state, words = mix64(key) or 1, []
    for _ in range(count):
        state ^= state << 13 & MASK
        state ^= state >> 7
        state ^= state << 17 & MASK
        words.append(state)
    return words


def lm64(words: list[int]) -> str:
    state = 0x9AE16A3B2F90404F
    for word in words:
        state = (state ^ word) * 0x9FB21C651E98DF25 & MASK
        state = (state << 29 | state >> 35) & MASK
    return f"{mix64(state ^ len(words) * 8):016x}"


async def test_every_page_is_filled_and_found_sound_while_written(client: AgentClient) -> None:
    await client.memory_start(4 << 20)
    await client.wait_memory_filled(Deadline.after(5))
    await wait_written(client, 8 << 20)
    verdict = await client.memory_verify()
    assert (verdict.pages, verdict.corrupt, verdict.stale, verdict.first_bad_page) == (1024, 0, 0, None)
    assert (await client.memory_status()).phase == "writing"


@pytest.mark.parametrize(("how", "corrupt", "stale"), [("flip", 1, 0), ("stale", 0, 1)])
async def test_a_damaged_page_and_a_lost_write_are_seen(
    client: AgentClient, how: str, corrupt: int, stale: int
) -> None:
    await client.memory_start(1 << 20, pattern="sequential")
    await wait_written(client, 2 << 20)
    await client.memory_stop()
    await client.memory_corrupt(77, how=how)
    verdict = await client.memory_verify()
    assert (verdict.corrupt, verdict.stale, verdict.first_bad_page) == (corrupt, stale, 77)
    assert not verdict.sound


async def test_a_bit_flipped_behind_the_agents_back_is_seen(agent: RunningAgent) -> None:
    """The same by a write into the process from outside: the check does not know about it."""
    client = await agent.client()
    await client.memory_start(1 << 20, seed=0xC0FFEE)
    await client.wait_memory_filled(Deadline.after(5))
    await client.memory_stop()
    number = 5
    counter = (await client.memory_counters(first=number, count=1))[0]
    key = (mix64(0xC0FFEE ^ mix64(number)) + counter) & MASK
    header = struct.pack("=8sQQQ", b"LMSAPAGE", number, counter, key)
    with Path(f"/proc/{agent.process.pid}/mem").open("r+b", buffering=0) as memory:
        for line in Path(f"/proc/{agent.process.pid}/maps").read_text().splitlines():
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if high - low < 1 << 20 or " rw-p " not in line:
                continue
            memory.seek(low)
            at = memory.read(high - low).find(header)
            if at >= 0:
                memory.seek(low + at)
                page = memory.read(PAGE_BYTES)
                memory.seek(low + at + PAGE_BYTES - 1)
                memory.write(bytes([page[-1] ^ 0x80]))
                break
        else:
            raise AssertionError("the page is nowhere in the process")
    assert page[32:] == struct.pack("=508Q", *content(508, key))
    assert (await client.memory_verify()).first_bad_page == number


async def kept_up(client: AgentClient, rate_bytes_per_s: int) -> MemoryStatus:
    """The writer after 0.2 s in which it dropped nothing: for a machine that stood still it does not make up."""
    for _ in range(20):
        await client.memory_start(1 << 20, rate_bytes_per_s=rate_bytes_per_s)
        await client.wait_memory_filled(Deadline.after(5))
        await asyncio.sleep(0.2)
        status = await client.memory_status()
        if not status.slipped:
            return status
        await client.memory_stop()
    raise AssertionError("a backlog was dropped in each of 20 runs")


async def test_the_rate_is_kept(client: AgentClient) -> None:
    near = pytest.approx(40 << 20, rel=0.15)
    found = []
    for _ in range(10):  # a backlog of up to 20 ms is caught up with later: of many looks not all fall into one
        status = await kept_up(client, 40 << 20)
        found.append((status.bytes_written / status.elapsed_s, status.rate_bytes_per_s))
        if all(rate == near for rate in found[-1]):
            return
        await client.memory_stop()
    raise AssertionError(f"written and told, in bytes per second: {found}")


async def test_a_rate_below_one_page_a_batch_is_kept_too(client: AgentClient) -> None:
    status = await kept_up(client, 100 * PAGE_BYTES)
    assert status.bytes_written / PAGE_BYTES == pytest.approx(100 * status.elapsed_s, abs=4)


async def test_a_pause_is_not_made_up_for(agent: RunningAgent) -> None:
    """However long it is kept waiting besides: that is not made up for either, but for a backlog of 20 ms."""
    client, rate = await agent.client(), 40 << 20
    await client.memory_start(1 << 20, rate_bytes_per_s=rate)
    await client.wait_memory_filled(Deadline.after(5))
    before = await client.memory_status()
    stood_still_s = await stopped_for(agent, 0.4)
    async for _ in Deadline.after(10).ticks(0.005):
        status = await client.memory_status()
        if status.slipped > before.slipped:
            break
    assert status.slipped > before.slipped
    await wait_written(client, status.bytes_written + (8 << 20))
    after = await client.memory_stop()
    could_write_s = after.elapsed_s - before.elapsed_s - stood_still_s
    assert after.bytes_written - before.bytes_written < rate * (could_write_s + 0.05)


async def stopped_for(agent: RunningAgent, seconds: float) -> float:
    """Stop the agent and let it go on; how long it stood still for certain, in seconds."""
    agent.process.send_signal(signal.SIGSTOP)
    async for _ in Deadline.after(10).ticks(0.005):
        threads = Path(f"/proc/{agent.process.pid}/task").glob("*/stat")
        if all(thread.read_text().rpartition(") ")[2].startswith("T") for thread in threads):
            break
    began = time.monotonic()
    await asyncio.sleep(seconds)
    stood_still_s = time.monotonic() - began
    agent.process.send_signal(signal.SIGCONT)
    return stood_still_s


async def test_sequential_writes_every_page_equally_often(client: AgentClient) -> None:
    await client.memory_start(100 * PAGE_BYTES, pattern="sequential")
    await wait_written(client, 1000 * PAGE_BYTES)
    await client.memory_stop()
    counters = await client.memory_counters()
    assert len(counters) == 100
    assert max(counters) - min(counters) <= 1
    assert counters == sorted(counters, reverse=True)


async def test_uniform_writes_every_page_about_as_often(client: AgentClient) -> None:
    await client.memory_start(100 * PAGE_BYTES, pattern="uniform")
    await wait_written(client, 50_000 * PAGE_BYTES)
    status = await client.memory_stop()
    counters = await client.memory_counters()
    assert sum(counters) * PAGE_BYTES == status.bytes_written
    mean = sum(counters) / 100
    assert 60 < sum((counter - mean) ** 2 / mean for counter in counters) < 150  # chi-squared, 99 degrees


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.1, 2.0])
async def test_zipf_follows_its_law_and_scatters_hot_pages(client: AgentClient, exponent: float) -> None:
    pages, ranks = 1000, range(1, 1001)
    await client.memory_start(pages * PAGE_BYTES, pattern="zipf", zipf_s=exponent)
    await wait_written(client, 40_000 * PAGE_BYTES)
    await client.memory_stop()
    counters = await client.memory_counters()
    hottest = sorted(range(pages), key=counters.__getitem__, reverse=True)
    total, harmonic = sum(counters), sum(rank**-exponent for rank in ranks)
    for rank in (1, 2, 3, 10):
        share = rank**-exponent / harmonic
        assert counters[hottest[rank - 1]] / total == pytest.approx(share, rel=0.15)
    top = sum(counters[page] for page in hottest[:100]) / total
    assert top == pytest.approx(sum(rank**-exponent for rank in ranks[:100]) / harmonic, rel=0.05)
    assert min(abs(a - b) for a in hottest[:5] for b in hottest[:5] if a != b) > 10


@pytest.mark.parametrize(("compressibility", "least", "most"), [(0.0, 0.98, 1.01), (0.5, 0.45, 0.55)])
async def test_content_is_as_compressible_as_asked(
    agent: RunningAgent, compressibility: float, least: float, most: float
) -> None:
    client = await agent.client()
    await client.memory_start(2 << 20, compressibility=compressibility)
    await client.wait_memory_filled(Deadline.after(5))
    await client.memory_stop()
    assert (await client.memory_verify()).sound
    with Path(f"/proc/{agent.process.pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{agent.process.pid}/maps").read_text().splitlines():
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if high - low >= 2 << 20 and " rw-p " in line:
                memory.seek(low)
                data = memory.read(high - low)
                if b"LMSAPAGE" in data:
                    break
    at = data.index(b"LMSAPAGE")
    pages = data[at : at + (1 << 20)]
    assert least < len(zlib.compress(pages, 1)) / len(pages) < most


async def test_memory_is_given_back_and_one_writer_is_enough(client: AgentClient) -> None:
    await client.memory_start(1 << 20, rate_bytes_per_s=1 << 20)
    with pytest.raises(BusyError):
        await client.memory_start(1 << 20)
    assert (await client.memory_stop(release=True)).phase == "stopped"
    with pytest.raises(StateError, match="no working set"):
        await client.memory_verify()


async def test_a_regions_checksum_is_that_of_its_content(client: AgentClient) -> None:
    filled = await client.region_fill("still", 80_000, seed=7)
    assert filled.checksum == lm64(content(10_000, 7))
    assert await client.region_checksum("still") == filled
    assert (await client.region_fill("other", 80_000, seed=8)).checksum != filled.checksum
    with pytest.raises(BusyError):
        await client.region_fill("still", 8)
    await client.region_release("still")
    with pytest.raises(StateError):
        await client.region_checksum("still")


async def wait_acknowledged(client: AgentClient, count: int) -> None:
    async for _ in Deadline.after(10).ticks(0.005):
        if (await client.disk_status()).acknowledged >= count:
            return
    raise AssertionError("the writer does not get on")


async def written(agent: RunningAgent, count: int, **arguments: Any) -> tuple[AgentClient, Path, int]:
    """A file with at least *count* acknowledged records; the writer has stopped."""
    client, path = await agent.client(), agent.folder / "records"
    await client.disk_start(str(path), rate_per_s=0, **arguments)
    await wait_acknowledged(client, count)
    return client, path, (await client.disk_stop()).acknowledged


@pytest.mark.parametrize("arguments", [{}, {"size_blocks": 0}, {"size_blocks": 8}, {"block_bytes": 512}])
async def test_all_acknowledged_records_are_there(agent: RunningAgent, arguments: dict[str, int]) -> None:
    client, path, acknowledged = await written(agent, 20, **arguments)
    verdict = await client.disk_verify()
    assert verdict.sound
    assert verdict.last_sequence == acknowledged
    assert verdict.records == min(acknowledged, arguments.get("size_blocks") or acknowledged)
    assert verdict.torn == 0
    assert path.stat().st_size == verdict.records * arguments.get("block_bytes", PAGE_BYTES)
    assert await client.disk_verify() == verdict


async def test_a_file_is_removed_by_its_name_alone(agent: RunningAgent) -> None:
    client, path, acknowledged = await written(agent, 3)
    (other := agent.folder / "other").write_text("somebody's")
    assert (await client.disk_stop(remove=str(other))).acknowledged == acknowledged
    assert other.exists() and path.exists()
    for _ in range(2):
        assert (await client.disk_stop(remove=str(path))).acknowledged == acknowledged
        assert not path.exists()


async def test_a_file_is_checked_while_it_is_written(agent: RunningAgent) -> None:
    client = await agent.client()
    await client.disk_start(str(agent.folder / "records"), rate_per_s=0, size_blocks=16)
    await wait_acknowledged(client, 40)
    verdict = await client.disk_verify()
    assert verdict.sound
    assert verdict.records == 16
    await wait_acknowledged(client, verdict.last_sequence + 5)


async def test_a_truncated_file_lacks_records(agent: RunningAgent) -> None:
    client, path, acknowledged = await written(agent, 10)
    with path.open("r+b") as file:
        file.truncate((acknowledged - 3) * PAGE_BYTES + 100)
    verdict = await client.disk_verify()
    assert (verdict.records, verdict.missing, verdict.corrupt) == (acknowledged - 3, 3, 0)


@pytest.mark.parametrize("record", [0, 4, -1])
async def test_a_flipped_bit_is_seen_in_any_record(agent: RunningAgent, record: int) -> None:
    client, path, acknowledged = await written(agent, 10)
    data = bytearray(path.read_bytes())
    data[(record % acknowledged) * PAGE_BYTES + 2000] ^= 4
    path.write_bytes(data)
    verdict = await client.disk_verify()
    assert (verdict.records, verdict.missing, verdict.corrupt) == (acknowledged - 1, 0, 1)


async def test_an_older_record_in_its_place_is_a_lost_write(agent: RunningAgent) -> None:
    client, path = await agent.client(), agent.folder / "records"
    await client.disk_start(str(path), rate_per_s=200, size_blocks=4)
    await wait_acknowledged(client, 5)
    await client.disk_stop()
    old = path.read_bytes()
    await client.disk_start(str(path), rate_per_s=0, size_blocks=4)
    await wait_acknowledged(client, 4)
    await client.disk_stop()
    new = path.read_bytes()
    path.write_bytes(new[:PAGE_BYTES] + old[PAGE_BYTES : 2 * PAGE_BYTES] + new[2 * PAGE_BYTES :])
    verdict = await client.disk_verify()
    assert not verdict.sound
    assert verdict.records == 3


async def test_another_agent_checks_by_the_number_that_was_acknowledged(agent: RunningAgent, binary: Any) -> None:
    _, path, acknowledged = await written(agent, 10)
    with path.open("r+b") as file:
        file.truncate((acknowledged - 2) * PAGE_BYTES)
    async with running(binary) as other:
        client = await other.client()
        assert (await client.disk_verify(str(path))).sound  # it cannot know of the last two
        verdict = await client.disk_verify(str(path), acknowledged=acknowledged)
        assert verdict.missing == 2


async def test_a_torn_record_was_never_acknowledged(agent: RunningAgent, binary: Any) -> None:
    _, path, acknowledged = await written(agent, 10)
    with path.open("ab") as file:
        file.write(b"\x01" * 1000)
    async with running(binary) as other:
        verdict = await (await other.client()).disk_verify(str(path), acknowledged=acknowledged)
    assert (verdict.records, verdict.missing, verdict.corrupt, verdict.torn) == (acknowledged, 0, 0, 1)


async def test_a_failing_disk_is_not_acknowledged(agent: RunningAgent) -> None:
    client = await agent.client()
    await client.disk_start("/dev/full", rate_per_s=100)
    await asyncio.sleep(0.05)
    status = await client.disk_stop()
    assert status.acknowledged == 0
    assert status.errors >= 1
    assert status.last_error == "No space left on device"


@pytest.mark.alone
async def test_slow_loads_stop_at_once(agent: RunningAgent) -> None:
    """The next write is an hour away, and the stop does not wait for it."""
    client = await agent.client()
    await client.memory_start(1 << 20, rate_bytes_per_s=1)
    await client.disk_start(str(agent.folder / "records"), rate_per_s=0.0003)
    await client.cpu_start(interval_ms=60_000)
    await client.ticks_start("127.0.0.1", 9, interval_us=10_000_000)
    await wait_acknowledged(client, 1)
    async for _ in Deadline.after(10).ticks(0.005):  # the first is sent when the sender is scheduled
        if (await client.ticks_status()).sent:
            break
    began = time.monotonic()
    assert (await client.memory_stop()).bytes_written <= PAGE_BYTES
    assert (await client.disk_stop()).acknowledged == 1
    await client.cpu_stop()
    assert (await client.ticks_stop()).sent == 1
    assert time.monotonic() - began < 0.5


async def test_one_file_at_a_time(agent: RunningAgent) -> None:
    client = await agent.client()
    await client.disk_start(str(agent.folder / "a"))
    with pytest.raises(BusyError):
        await client.disk_start(str(agent.folder / "b"))
    with pytest.raises(LimosaError, match="block_bytes has to be a multiple"):
        await client.disk_verify(block_bytes=1000)
