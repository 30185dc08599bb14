"""What goes wrong between the start of a guest's QEMU and the record of it leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa import spec
from limosa.errors import LimosaError, MachineError
from limosa.lab import Lab
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
