"""A namespace host that does not come to be ready is not left half-made, and the lab's others are not touched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.hosts.kind import HostState
from limosa.hosts.namespaces import first_process
from limosa.hosts.namespaces.marks import marked
from limosa.lab import Lab

pytestmark = pytest.mark.system

TWO = "name: half\nhosts: {host1: {}, host2: {}}\n"


@contextlib.asynccontextmanager
async def lab_with_host2_off(monkeypatch: pytest.MonkeyPatch, state: Path) -> AsyncIterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    async with Lab.open(spec.loads(TWO), ephemeral=True) as lab:
        try:
            await lab.up()
        except MachineError as error:
            pytest.skip(f"this machine makes no lab: {error}")
        await lab.hosts.power_off("host2")
        yield lab


def states(lab: Lab) -> list[HostState]:
    return [lab._hosts.state(name) for name in lab.spec.hosts]


async def test_one_that_is_not_ready_in_time_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab_with_host2_off(monkeypatch, tmp_path) as lab:
        others = marked(lab.directory.mark)
        with monkeypatch.context() as patch:
            patch.setattr(first_process, "READY_S", 0.0)
            with pytest.raises(LimosaError, match="not ready within") as caught:
                await lab.hosts.restore("host2")
        assert caught.value.hint
        assert marked(lab.directory.mark) == others and marked(lab.directory.mark, "host2") == []
        assert states(lab) == [HostState.ON, HostState.OFF]
        await lab.hosts.restore("host2")
        assert (await lab.host("host2").run(["hostname"])).text == "host2"


async def test_one_whose_making_is_cancelled_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab_with_host2_off(monkeypatch, tmp_path) as lab:
        others = marked(lab.directory.mark)
        making = asyncio.create_task(lab.hosts.restore("host2"))
        async for _ in Deadline.after(20).ticks(0.001):
            if marked(lab.directory.mark, "host2"):
                break
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert marked(lab.directory.mark) == others
        assert states(lab) == [HostState.ON, HostState.OFF]
