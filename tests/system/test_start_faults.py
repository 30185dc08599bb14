"""What goes wrong between the start of a guest's QEMU and the record of it leaves nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import spec
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError
from limosa.events import Event, Events, Note
from limosa.lab import Lab, guest_access, start
from limosa.lab.guest import LabGuest
from limosa.lab.record import LabDirectory
from tests import leftovers

pytestmark = pytest.mark.system

BARE = """
name: unrecorded
hosts: {host1: {}}
guests: {guest1: {host: host1, image: bare, accel: tcg}}
"""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of its own, of which nothing may be left afterwards."""
    with tempfile.TemporaryDirectory(prefix="ls") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        before = leftovers.snapshot([folder])
        yield Path(folder)
        left = leftovers.wait_settled(before)
        assert not [line for line in left if not line.startswith("folder")], "\n".join(left)


async def test_a_guest_that_cannot_be_recorded_does_not_run(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise LimosaError("no space left")

    async with Lab.open(spec.loads(BARE), ephemeral=True) as lab:
        try:
            await lab.up(start=False)
        except MachineError as error:
            pytest.skip(f"this machine makes no lab: {error}")
        with monkeypatch.context() as patch:
            patch.setattr(LabDirectory, "save_guest", full)
            with pytest.raises(LimosaError, match="no space left"):
                await lab.start("guest1")
        assert [guest.state for guest in (await lab.status()).guests] == ["stopped"]
        assert await lab.start("guest1"), "it had been left running"


MICRO = """
name: login
hosts: {host1: {}}
guests: {guest1: {host: host1, memory: 128 MiB}}
"""
LATE = """
setsid sh -c '
    key=/run/limosa/ssh/host_key
    mv $key /run/aside
    kill $(cat /run/dropbear.pid)  # what init runs in its place sleeps, for lack of a key
    nc -l -p 2222
    mv /run/aside $key
    kill $(pidof sleep)
' </dev/null >/dev/null 2>&1 &
"""
CALL = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 10).close()"


async def test_a_guest_is_up_when_one_can_log_in(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its SSH server is held back for as long as the test says, while the agent answers."""
    heard: list[Event] = []
    async with Lab.open(spec.loads(MICRO), events=Events(heard.append), ephemeral=True) as lab:
        try:
            await lab.up()
        except MachineError as error:
            pytest.skip(f"this machine makes no lab: {error}")
        address = lab.guests["guest1"].address
        client = lab._hosts.the_client()

        async def call(port: int) -> bool:
            return (await client.run([sys.executable, "-c", CALL, address, str(port)], check=False)).returncode == 0

        async def log_in(script: str) -> int:
            words = lab.guests.ssh("guest1", [script])
            return await asyncio.to_thread(subprocess.call, words, stdin=subprocess.DEVNULL)

        assert await log_in(LATE) == 0
        async for _ in Deadline.after(60).ticks(0.1):
            if not await call(22):
                break
        assert await log_in("true") == 255
        guest = LabGuest(lab._hosts, lab.guests["guest1"])
        record = guest.known_record()
        assert record is not None
        monkeypatch.setattr(guest_access, "SSH_S", 1.0)
        await start.boot(guest, record)
        assert any(isinstance(event, Note) and "its SSH server does not listen" in event.text for event in heard)
        monkeypatch.setattr(guest_access, "SSH_S", 600.0)
        waiting = asyncio.create_task(start.boot(guest, record))
        assert not (await asyncio.wait([waiting], timeout=2))[0]
        assert await call(2222)
        await waiting
        assert await log_in("true") == 0
