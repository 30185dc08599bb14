"""QMP over a socket of this machine: what tests tell a QEMU that is nobody's guest."""

from __future__ import annotations

import socket
from pathlib import Path

from limosa.deadline import Deadline
from limosa.qemu.qmp import Qmp


async def met(path: Path) -> Qmp:
    """The QEMU that listens there. Raises OSError while there is none, Ended when it does not speak QMP."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return await Qmp.over(connection)


async def met_in_time(path: Path, seconds: float = 10) -> Qmp:
    """The QEMU that is about to listen there."""
    async for _ in Deadline.after(seconds).ticks(0.01):
        try:
            return await met(path)
        except OSError:
            continue
    raise AssertionError(f"nobody listens at {path}")
