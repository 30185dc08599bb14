"""Pictures of a guest's screen, taken by its QEMU and brought here, and keys pressed on its keyboard.

Everything goes through the guest's third monitor, so that neither who commands the guest nor who watches it waits.
Each picture costs QEMU's main loop some milliseconds, in which the guest's devices stand still: ask for few.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import Self

import numpy as np

from limosa.errors import BusyError, LimosaError, QmpError, StateError
from limosa.events import Events
from limosa.guest.screen.glyphs import Font, Pixels
from limosa.guest.screen.keyboard import Keyboard
from limosa.guest.screen.keys import Chord
from limosa.hosts.host import Host
from limosa.qemu.argv import SCREEN_SOCKET
from limosa.qemu.launches import runtime_directory
from limosa.qemu.monitor import Monitor

HOLD_MS = 10
"""How long a key is held down, and left alone after."""

TURN_S = 3.0
"""How long the screen's monitor may take to greet. It serves one client at a time."""

BIOS_AT, BIOS_BYTES = 0xC0000, 0x10000
"""Where a PC's VGA BIOS is, the font included."""

SEND_CHANGED = """\
cd "$1" || exit 1
if [ "$2" = changed ] && cmp -s screen.ppm screen.seen; then exit 0; fi
mv -f screen.ppm screen.seen && gzip -1 -c screen.seen
"""
"""Sends a picture only when it differs from the one before, and packed: text is a hundredth of its dots."""


class Camera:
    """The screen of one QEMU. Made by ``open``; ``close`` leaves nothing on the host."""

    def __init__(self, host: Host, guest: str, monitor: Monitor) -> None:
        self.host, self.guest = host, guest
        self._monitor = monitor
        self._directory = runtime_directory(host, guest)
        self._seen = False
        self._keyboard = Keyboard(monitor.execute, HOLD_MS)

    @classmethod
    async def open(cls, host: Host, guest: str) -> Self:
        """Connect. Raises BusyError when somebody else looks at this screen, StateError when QEMU is not there."""
        opening = Monitor.open(host, f"{runtime_directory(host, guest)}/{SCREEN_SOCKET}", guest, Events(), "screen")
        try:
            async with asyncio.timeout(TURN_S):
                return cls(host, guest, await opening)
        except TimeoutError as error:
            raise BusyError(
                f"another command shows the screen of {guest}", hint="one can look at a time: leave it there by Ctrl-]"
            ) from error

    async def close(self) -> None:
        """Hang up and remove the pictures."""
        await self._monitor.close()
        names = [f"{self._directory}/screen.{kind}" for kind in ("ppm", "seen", "png", "bios")]
        try:
            await self.host.run(["rm", "-f", "--", *names], check=False)
        except LimosaError:
            return  # a host that is off keeps nothing

    async def status(self) -> str:
        """QEMU's run state."""
        return await self._monitor.status()

    @property
    def stands(self) -> bool:
        """Whether the guest was stopped, as at the end of a migration, and does not run again here so far."""
        stop, resume = self._monitor.moment("STOP"), self._monitor.moment("RESUME")
        return stop is not None and (resume is None or resume < stop)

    async def picture(self) -> Pixels | None:
        """The dots of the screen as height x width x 3; None when nothing has changed since the last one."""
        await self._shoot("screen.ppm", "ppm")
        mode = "changed" if self._seen else "all"
        sent = (await self.host.run(["sh", "-c", SEND_CHANGED, "sh", self._directory, mode])).stdout
        self._seen = True
        return portable_pixmap(zlib.decompress(sent, zlib.MAX_WBITS | 16)) if sent else None

    async def png(self) -> bytes:
        """The screen as a PNG file. Raises StateError when this QEMU was built without PNG."""
        try:
            await self._shoot("screen.png", "png")
        except QmpError as error:
            if error.error_class in ("Gone", "Silent"):
                raise
            raise StateError(
                f"QEMU on {self.host.name} makes no PNG: {error.message}", hint="limosa screen GUEST --text"
            ) from error
        return (await self.host.run(["cat", f"{self._directory}/screen.png"])).stdout

    async def _shoot(self, name: str, kind: str) -> None:
        await self._monitor.execute("screendump", {"filename": f"{self._directory}/{name}", "format": kind})

    async def font(self) -> Font | None:
        """The font of the guest's VGA BIOS; None where there is none, as under UEFI."""
        path = f"{self._directory}/screen.bios"
        await self._monitor.execute("pmemsave", {"val": BIOS_AT, "size": BIOS_BYTES, "filename": path})
        return Font.found_in((await self.host.run(["cat", path])).stdout)

    async def press(self, chord: Chord) -> None:
        """Press keys together; see ``Keyboard``."""
        await self._keyboard.press(chord)


def portable_pixmap(data: bytes) -> Pixels:
    """The dots of a binary PPM (netpbm's P6) as QEMU writes it: a header of three lines, then the dots."""
    header = re.match(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n", data)
    if header is None:
        raise LimosaError("QEMU's picture of the screen is no portable pixmap")
    width, height = int(header[1]), int(header[2])
    if len(data) - header.end() != width * height * 3:
        raise LimosaError("QEMU's picture of the screen is cut off")
    return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)
