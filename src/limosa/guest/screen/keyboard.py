"""A guest's keyboard, whose keys are pressed through a monitor of its QEMU no faster than the guest reads them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from limosa.deadline import Deadline
from limosa.guest.screen.keys import Chord

UNREAD_S = 2.0
"""How long the guest is given to read a key."""

STATUS = "i /b 0x64"
"""Reads the status of the PS/2 controller, which changes nothing; bit 0 says that a code waits to be read (IBM PC AT
Technical Reference, 8042). A machine without one answers 0xff."""

Execute = Callable[[str, dict[str, object]], Awaitable[Any]]
"""Carries a QMP command out and returns its answer."""


class Keyboard:
    """The keys of one QEMU, each held down for *hold_ms* and left alone for as long after."""

    def __init__(self, execute: Execute, hold_ms: int) -> None:
        self._execute, self._hold_ms = execute, hold_ms
        self._patience_s = UNREAD_S

    async def press(self, chord: Chord) -> None:
        """Press keys together; returns when they are up again and the guest has read them, so that no queue runs over.

        A PS/2 keyboard remembers 16 codes and drops what comes then; on a busy machine a guest reads none for a while.
        Raises what *execute* raises.
        """
        keys = [{"type": "qcode", "data": key} for key in chord]
        await self._execute("send-key", {"keys": keys, "hold-time": self._hold_ms})
        await asyncio.sleep(2 * len(chord) * self._hold_ms / 1000)
        async for _ in Deadline.after(self._patience_s).ticks(0.01):
            if not await self._unread():
                self._patience_s = UNREAD_S
                return
        self._patience_s = 0.0  # a guest without a driver for it reads none, and is not waited for again

    async def _unread(self) -> bool:
        said = await self._execute("human-monitor-command", {"command-line": STATUS})
        status = re.search(r"= 0x([0-9a-f]+)", str(said))
        return status is not None and status[1] != "ff" and bool(int(status[1], 16) & 1)
