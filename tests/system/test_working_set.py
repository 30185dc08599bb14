"""The working-set curve of a real guest, beside what the writer in it says that it wrote."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from limosa import Lab, spec
from limosa.deadline import Deadline
from limosa.events import Events
from limosa.guest.agent.client import AgentClient
from limosa.lab import guest_memory
from limosa.prediction import memory_look
from limosa.prediction.memory_look import NotRead
from limosa.prediction.working_set import WINDOWS_S, WorkingSet

pytestmark = pytest.mark.system
MIB = 1 << 20
LAB = """\
name: curve
networks: {lan: }
hosts: {host1: {}}
guests: {guest1: {host: host1, memory: 160 MiB, accel: tcg}}
"""
SET_BYTES, RATE_BYTES_PER_S = 32 * MIB, 24 * MIB
LARGE = 0.05
"""The share of memory from which on a figure has to be within 10 %."""


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with Lab.open(spec.loads(LAB), events=Events(), ephemeral=True) as opened:
        await opened.up()
        yield opened


class Written:
    """What the writer did while somebody looked."""

    def __init__(self) -> None:
        self.bytes_per_s = 0.0

    def expected(self, t_s: float) -> float:
        """Distinct bytes of a set that is written at random (drawing with replacement)."""
        pages = SET_BYTES / 4096
        return SET_BYTES * -math.expm1(self.bytes_per_s * t_s / 4096 * math.log1p(-1 / pages))


@asynccontextmanager
async def writing(agent: AgentClient) -> AsyncIterator[Written]:
    written = Written()
    await agent.memory_start(SET_BYTES, rate_bytes_per_s=RATE_BYTES_PER_S)
    before = await agent.wait_memory_filled(Deadline.after(60))
    yield written
    after = await agent.memory_stop(release=True)
    written.bytes_per_s = (after.bytes_written - before.bytes_written) / (after.elapsed_s - before.elapsed_s)


def assert_seen(found: WorkingSet, idle: WorkingSet, written: Written) -> None:
    """Each point that is large is within 10 % of what the writer and the rest of the guest wrote."""
    compared = 0
    for point in found.points:
        own, rest = written.expected(point.t_s), idle.dirtied_bytes(point.t_s)
        print(f"{point.t_s:5} s  {own / MIB:6.2f} written + {rest / MIB:.2f}, seen {point.median_bytes / MIB:6.2f} "
              f"[{(point.low_bytes or 0) / MIB:.2f}, {(point.high_bytes or 0) / MIB:.2f}] MiB")  # fmt: skip
        if own >= LARGE * found.memory_bytes and not point.fitted:
            compared += 1
            assert 0.9 * own <= point.median_bytes <= 1.1 * (own + rest), point
    assert compared >= 3


async def test_a_guest_that_writes_at_a_known_rate(lab: Lab) -> None:
    idle = await lab.guests.working_set("guest1")
    async with lab.guests.agent("guest1") as agent, writing(agent) as written:
        found = await lab.guests.working_set("guest1")
    assert (found.how, found.why) == ("memory", "")
    assert [point.t_s for point in found.points] == list(WINDOWS_S)
    assert_seen(found, idle, written)
    assert idle.zero_share is not None and found.zero_share is not None
    assert 0 < found.zero_share < idle.zero_share < 1, "the writer filled what held zeros"
    assert found.cpu_s is not None and found.cpu_s < 2 * memory_look.CPU_S
    print(found.pages, "pages", found.cpu_s, "s of a processor in", found.lasted_s, "s")


@pytest.mark.slow
async def test_by_qmp_where_memory_may_not_be_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = await lab.guests.working_set("guest1")

    async def forbidden(*_: object) -> NotRead:
        return NotRead("it may not be read")

    monkeypatch.setattr(guest_memory.memory_look, "read", forbidden)
    async with lab.guests.agent("guest1") as agent, writing(agent) as written:
        found = await lab.guests.working_set("guest1")
    assert (found.how, found.why) == ("qmp", "it may not be read")
    assert_seen(found, idle, written)
    assert await lab.guests.where("guest1") == "host1"
