"""Watches the file system that a machine's disk grows on: QEMU stops a machine whose disk cannot be written.

Without the watch that machine would stand there, silent, until the step's deadline.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from limosa import tasks
from limosa.errors import MachineError

Result = TypeVar("Result")

LEAST_BYTES = 8 << 20
"""Less than this is as good as nothing: a guest writes in pieces of megabytes."""

LOOK_S = 1.0


async def while_room(disk: Path, work: Coroutine[Any, Any, Result]) -> Result:
    """What *work* comes to. Raises MachineError as soon as the file system of *disk* is full, and cancels it then."""
    async with tasks.beside(work, _full(disk.parent)) as both:
        doing: asyncio.Future[Result] = both[0]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise MachineError(
                f"no space left for {disk.name} in {disk.parent}",
                hint="free some disk space, or set XDG_CACHE_HOME to a larger disk",
            )
        return await doing


async def _full(folder: Path) -> None:
    while True:
        found = os.statvfs(folder)
        if found.f_bavail * found.f_frsize < LEAST_BYTES:
            return
        await asyncio.sleep(LOOK_S)
