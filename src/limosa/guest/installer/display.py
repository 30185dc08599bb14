"""The machine's VGA screen and keyboard as if they were a serial console: for media that speak on nothing else.

Pictures of the screen are read as text, and what is new in them goes, as a terminal would get it, to one end of a
socket pair; what comes back is pressed as keys. So whoever plays a script, the transcript and a person who takes over
need not know which of the two they have. A line that was typed is looked for on the screen before Enter is pressed,
since a busy machine's keyboard may lose keys.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

from limosa import tasks, temporary
from limosa.errors import MachineError
from limosa.guest.screen.camera import BIOS_AT, BIOS_BYTES, portable_pixmap
from limosa.guest.screen.glyphs import Font, recognise
from limosa.guest.screen.keyboard import Keyboard
from limosa.guest.screen.keys import Chord, chords
from limosa.qemu.qmp import Ended, Qmp, Refused

LOOK_S = 0.3
HOLD_MS = 15
"""How long a key is held down, and left alone after."""

ECHO_S = 8.0
"""How long a screen stands still without the line that was typed, before that is taken back and typed again."""

NO_ECHO_S = 2.0
"""A screen that has not changed for so long since something was typed shows none of it, as with a password."""

TRIES = 4

_CANCEL_LINE: Chord = ("ctrl", "u")
_ENTER: Chord = ("ret",)


class Display:
    """The screen and the keyboard of one QEMU, through a monitor of its own. Made by ``over``."""

    def __init__(self, qmp: Qmp, folder: Path) -> None:
        self._qmp, self._folder = qmp, folder
        self._font: Font | None = None
        self.width = 80
        self._keyboard = Keyboard(self._execute, HOLD_MS)

    @classmethod
    @asynccontextmanager
    async def over(cls, connection: socket.socket) -> AsyncIterator[Display]:
        """Join to the monitor behind *connection*. Raises MachineError when nobody answers there."""
        with temporary.folder("screen") as folder:
            try:
                qmp = await Qmp.over(connection)
            except Ended as error:
                raise MachineError(f"QEMU's monitor does not answer: {error}") from error
            try:
                yield cls(qmp, folder)
            finally:
                await qmp.close()

    async def lines(self) -> tuple[str, ...] | None:
        """What the screen shows, as text without blanks at the ends; None while it shows something else than text.

        Raises MachineError when QEMU is gone.
        """
        if self._font is None:
            bios = self._folder / "bios"
            await self._execute("pmemsave", {"val": BIOS_AT, "size": BIOS_BYTES, "filename": str(bios)})
            self._font = Font.found_in(bios.read_bytes())
        if self._font is None:
            return None
        picture = self._folder / "screen.ppm"
        await self._execute("screendump", {"filename": str(picture)})
        seen = recognise(portable_pixmap(picture.read_bytes()), self._font)
        if seen is None:
            return None
        self.width = len(seen.lines[0])
        return trimmed(seen.lines)

    async def press(self, chord: Chord) -> None:
        """Press keys together; see ``Keyboard``. Raises MachineError when QEMU is gone."""
        await self._keyboard.press(chord)

    async def _execute(self, command: str, arguments: dict[str, object]) -> object:
        try:
            return await self._qmp.execute(command, arguments)
        except Refused as error:
            raise MachineError(f"QEMU refused {command}: {error}") from error
        except Ended as error:
            raise MachineError(f"QEMU's monitor does not answer any more: {error}") from error


def trimmed(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines without blanks at their ends and without empty lines below."""
    stripped = [line.rstrip() for line in lines]
    while stripped and not stripped[-1]:
        stripped.pop()
    return tuple(stripped)


def news(before: Sequence[str], now: Sequence[str], width: int) -> str:
    """What a terminal that shows *before* has to be sent to show *now*; both are trimmed.

    The screen has gone on below, has scrolled, has had its last line written anew, or is another one altogether.
    """
    if before == now:
        return ""
    for scrolled in range(len(before)):
        kept = before[scrolled:]
        last = len(kept) - 1
        if last < len(now) and tuple(kept[:-1]) == tuple(now[:last]) and now[last].startswith(kept[-1]):
            return _joined(now[last:], width)[len(kept[-1]) :]
    for scrolled in range(max(1, len(before) - 1)):
        kept = before[scrolled:]
        last = len(kept) - 1
        if kept and last < len(now) and tuple(kept[:-1]) == tuple(now[:last]):
            return "\r\x1b[K" + _joined(now[last:], width)
    return "\x1b[2J\x1b[H" + _joined(now, width)


def _joined(lines: Sequence[str], width: int) -> str:
    """Lines as a terminal gets them: one that is full goes on in the next by itself."""
    text = lines[0] if lines else ""
    for above, below in pairwise(lines):
        text += ("" if len(above) >= width else "\r\n") + below
    return text


class Teletype:
    """Carries between a display and a socket until either ends."""

    def __init__(self, display: Display, end: socket.socket) -> None:
        end.setblocking(False)
        self._display, self._end = display, end
        self._shown: tuple[str, ...] = ()
        self._changed_s = time.monotonic()
        self._looking = asyncio.Lock()

    async def carry(self) -> None:
        """Until QEMU or the other end of the socket is gone."""
        with self._end:
            await tasks.first_of(self._show(), self._type())

    async def _show(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        async with self._looking:
            lines = await self._display.lines()
            if lines is None or lines == self._shown:
                return
            new = news(self._shown, lines, self._display.width)
            self._shown, self._changed_s = lines, time.monotonic()
            await asyncio.get_running_loop().sock_sendall(self._end, new.encode())

    async def _type(self) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(self._end, 4096):
            pressed = list[Chord]()
            for chord in chords(data):
                if chord != _ENTER:
                    pressed.append(chord)
                    continue
                await (self._typed(pressed) if len(pressed) > 1 else self._press(pressed))
                pressed = []
                await self._display.press(_ENTER)
            await self._press(pressed)

    async def _press(self, pressed: Sequence[Chord]) -> None:
        for chord in pressed:
            await self._display.press(chord)

    async def _typed(self, pressed: Sequence[Chord]) -> None:
        """A line, seen on the screen in the end, or not shown there at all."""
        wanted = "".join(_SIGNS.get(chord, "") for chord in pressed)
        for _ in range(TRIES):
            before = _solid(self._shown)
            await self._press(pressed)
            typed_s = time.monotonic()
            while time.monotonic() - max(typed_s, self._changed_s) < ECHO_S:
                await self._look()
                now = _solid(self._shown)
                if _solid([wanted]) in now[-len(wanted) - 400 :]:
                    return
                if now == before and time.monotonic() - typed_s > NO_ECHO_S:
                    return
                await asyncio.sleep(LOOK_S / 2)
            await self._display.press(_CANCEL_LINE)
            await asyncio.sleep(LOOK_S)
            await self._look()
        # Half a command must not run: the console ends here, and the screen shows what became of it.
        raise MachineError(f"a line of {len(wanted)} characters did not come through the keyboard whole")


def _solid(lines: Sequence[str]) -> str:
    """All characters but blanks: where lines wrap does not matter then."""
    return "".join("".join(lines).split())


_SIGNS: dict[Chord, str] = {chord: chr(code) for code in range(32, 127) for chord in chords(chr(code).encode())}
