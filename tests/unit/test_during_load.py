"""A load whose figures cannot be kept any more: it says so at once, and its child is still read to the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from limosa.bench.during.load import Load
from limosa.errors import MachineError


def figure(line: str) -> tuple[object, ...] | None:
    return (line,)


async def test_a_full_disk(tmp_path: Path) -> None:
    """/dev/full takes nothing. The child writes more than a pipe holds: left unread, it would never end."""
    argv = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo $i; i=$((i+1)); done"]
    async with Load.open("it", argv, figure, Path("/dev/full"), ("at", "n"), tmp_path / "said") as load:
        with pytest.raises(MachineError, match="no space left"):
            await load.wait_first()
        with pytest.raises(MachineError, match="no space left"):
            load.require_whole()
        assert await load._child.wait() == 0


async def test_a_place_that_is_gone(tmp_path: Path) -> None:
    async with Load.open("it", ["echo", "1"], figure, tmp_path / "no" / "t", ("at", "n"), tmp_path / "said") as load:
        with pytest.raises(MachineError, match="cannot be written"):
            await load.wait_first()
