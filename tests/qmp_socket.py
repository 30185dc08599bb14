"""QMP over a socket of this machine: what tests tell a QEMU that is nobody's guest."""

from __future__ import annotations

from pathlib import Path

from limosa.deadline import Deadline
from limosa.errors import StateError
from limosa.qemu.qmp import Qmp
from tests.local_host import LocalHost


async def met(path: Path) -> Qmp:
    """The QEMU that listens there. Raises StateError while there is none, Ended when it does not speak QMP."""
    return await Qmp.over(await LocalHost().connect(str(path)))


async def met_in_time(path: Path, seconds: float = 10) -> Qmp:
    """The QEMU that is about to listen there."""
    async for _ in Deadline.after(seconds).ticks(0.01):
        try:
            return await met(path)
        except StateError:
            continue
    raise AssertionError(f"nobody listens at {path}")
