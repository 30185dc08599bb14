"""Work that a full file system ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from limosa.errors import MachineError, StateError
from limosa.guest.installer import room


async def test_what_the_work_comes_to_is_passed_on(tmp_path: Path) -> None:
    async def fails() -> None:
        raise StateError("as it is")

    assert await room.while_room(tmp_path / "disk", asyncio.sleep(0.01, "done")) == "done"
    with pytest.raises(StateError, match="as it is"):
        await room.while_room(tmp_path / "disk", fails())


async def test_a_full_file_system_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(room, "LEAST_BYTES", 1 << 80)
    with pytest.raises(MachineError, match=r"no space left for disk.raw in .*" + tmp_path.name):
        await room.while_room(tmp_path / "disk.raw", work())
    assert ended.is_set()
