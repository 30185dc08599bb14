"""The working-set curve of a real guest, beside what the writer in it says that it wrote.

The writer counts for each page how often it was written. These counts are taken again and again, so that what was
written in any window is known, however much or little of a processor the guest had just then.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limosa import Lab, Settings, spec
from limosa.deadline import Deadline
from limosa.events import Event, Events, MigrationProgressed
from limosa.guest.agent.client import AgentClient
from limosa.prediction import memory_look
from limosa.prediction.memory_look import NotRead
from limosa.prediction.working_set import WINDOWS_S, Point, WorkingSet

pytestmark = pytest.mark.system
MIB = 1 << 20
PAGE_BYTES, AT_ONCE = 4096, 4096
LAB = """\
name: curve
networks: {lan: }
hosts: {host1: {}, host2: {}}
guests: {guest1: {host: host1, memory: 160 MiB, accel: tcg}}
"""
SET_BYTES, RATE_BYTES_PER_S = 32 * MIB, 24 * MIB
LARGE = 0.05
"""The share of memory from which on a figure has to be within 10 %."""
APART_S = 0.2


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Lab.open(spec.loads(LAB), events=Events(), ephemeral=True) as opened:
        await opened.up()
        yield opened


class Written:
    """What the writer counted, and when."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.counts: list[NDArray[np.int64]] = []

    async def watch(self, agent: AgentClient) -> None:
        """Until it is cancelled."""
        while True:
            before, counts = time.monotonic(), list[int]()
            for first in range(0, SET_BYTES // PAGE_BYTES, AT_ONCE):
                counts += await agent.memory_counters(first=first, count=AT_ONCE)
            self.times_s.append((before + time.monotonic()) / 2)
            self.counts.append(np.array(counts))
            await asyncio.sleep(APART_S)

    def expected(self, t_s: float, within_s: float) -> float:
        """Distinct bytes in a window of *t_s*, the mean of those that began in the first *within_s*."""
        found = []
        for at, began_s in enumerate(self.times_s):
            end = bisect_left(self.times_s, began_s + t_s)
            if began_s > self.times_s[0] + within_s or end == len(self.times_s):
                break
            lengths = [self.times_s[each] - began_s for each in (end - 1, end)]
            distinct = [float((self.counts[each] != self.counts[at]).sum()) for each in (end - 1, end)]
            found.append(np.interp(t_s, lengths, distinct))
        return float(np.mean(found)) * PAGE_BYTES


@asynccontextmanager
async def writing(agent: AgentClient) -> AsyncIterator[Written]:
    written = Written()
    await agent.memory_start(SET_BYTES, rate_bytes_per_s=RATE_BYTES_PER_S)
    await agent.wait_memory_filled(Deadline.after(60))
    watching = asyncio.ensure_future(written.watch(agent))
    try:
        yield written
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


def assert_seen(points: Sequence[Point], idle: WorkingSet, written: Written, within_s: float) -> None:
    """Each point that is large is within 10 % of what the writer and the rest of the guest wrote."""
    compared = 0
    for point in points:
        if point.fitted or point.t_s < 2 * APART_S:
            continue
        own, rest = written.expected(point.t_s, within_s), idle.dirtied_bytes(point.t_s)
        print(f"{point.t_s:5.2f} s  {own / MIB:6.2f} written + {rest / MIB:.2f}, seen {point.median_bytes / MIB:6.2f} "
              f"[{(point.low_bytes or 0) / MIB:.2f}, {(point.high_bytes or 0) / MIB:.2f}] MiB")  # fmt: skip
        if own >= LARGE * idle.memory_bytes:
            compared += 1
            assert 0.9 * own <= point.median_bytes <= 1.1 * (own + rest), point
    assert compared >= 2


async def test_a_guest_that_writes_at_a_known_rate(lab: Lab) -> None:
    idle = await lab.guests.working_set("guest1")
    async with lab.guests.agent("guest1") as agent, writing(agent) as written:
        found = await lab.guests.working_set("guest1")
    assert (found.how, found.why) == ("memory", "")
    assert [point.t_s for point in found.points] == list(WINDOWS_S)
    assert_seen(found.points, idle, written, memory_look.SPREAD_S)
    assert idle.zero_share is not None and found.zero_share is not None
    assert 0 < found.zero_share < idle.zero_share < 1, "the writer filled what held zeros"
    assert found.cpu_s is not None and found.cpu_s < 2 * memory_look.CPU_S
    print(found.pages, "pages", found.cpu_s, "s of a processor in", found.lasted_s, "s")


async def forbidden(*_: object) -> NotRead:
    return NotRead("it may not be read")


@pytest.mark.slow
async def test_by_qmp_where_memory_may_not_be_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = await lab.guests.working_set("guest1")
    monkeypatch.setattr(memory_look, "read", forbidden)
    async with lab.guests.agent("guest1") as agent, writing(agent) as written:
        found = await lab.guests.working_set("guest1")
    assert (found.how, found.why) == ("qmp", "it may not be read")
    assert_seen(found.points, idle, written, found.lasted_s or 0)
    assert await lab.guests.where("guest1") == "host1", "QEMU has not died of it"


@pytest.mark.slow
async def test_during_a_move(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that does not end: by memory as ever, and where that may not be, by its passes."""
    idle, looks, endless = await lab.guests.working_set("guest1"), asyncio.Queue[int](), {"downtime-limit": 1}

    def hear(event: Event) -> None:
        if isinstance(event, MigrationProgressed) and event.iteration is not None:
            looks.put_nowait(event.iteration)

    lab.events.add(hear)
    async with lab.guests.agent("guest1") as agent, writing(agent) as written:
        moving = asyncio.ensure_future(
            lab.migrate("guest1", "host2", Settings(options=endless | {"max-bandwidth": 16 * MIB}))
        )
        try:
            while await looks.get() < 3:
                pass
            by_memory = await lab.guests.working_set("guest1")
            while await looks.get() < 12:
                pass
            monkeypatch.setattr(memory_look, "read", forbidden)
            by_passes = await lab.guests.working_set("guest1")
        finally:
            moving.cancel()
            await asyncio.wait({moving})
    assert (by_memory.how, by_passes.how, by_passes.why) == ("memory", "passes", "it may not be read")
    print("by memory")
    assert_seen(by_memory.points, idle, written, 60)
    print("by passes")
    assert_seen([point for point in by_passes.points if point.low_bytes is not None], idle, written, 60)
