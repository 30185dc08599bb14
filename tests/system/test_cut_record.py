"""What is cut is on record before: where the disk does not take that, nothing is cut."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import spec
from limosa.errors import MachineError
from limosa.lab import Lab
from limosa.lab.record import LabDirectory

pytestmark = pytest.mark.system

KNOCK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), 2)
except ConnectionRefusedError:
    pass
"""
"""Ends well where somebody answers at that address, be it with a refusal."""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ls") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield Path(folder)


async def test_a_cut_that_cannot_be_recorded_is_not_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MachineError("no space left")

    async with Lab.open(spec.loads("name: uncut\nhosts: {host1: {}, host2: {}}"), ephemeral=True) as lab:
        await lab.up()
        knock = [sys.executable, "-c", KNOCK, lab.hosts.address("host2", "lan")]
        with monkeypatch.context() as patch:
            patch.setattr(LabDirectory, "save", full)
            with pytest.raises(MachineError, match="no space left"):
                await lab.hosts.cut("host1")
        await lab.host("host1").run(knock)
        assert {host.name: host.state for host in (await lab.status()).hosts} == {"host1": "on", "host2": "on"}
        await lab.hosts.cut("host1")
        assert (await lab.host("host1").run(knock, check=False)).returncode != 0
        await lab.hosts.restore("host1")
        await lab.host("host1").run(knock)
