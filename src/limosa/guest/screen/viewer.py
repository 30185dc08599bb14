"""The screen in the terminal: drawn while it changes, keys passed on, Ctrl-] to leave, and on after a migration."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

from limosa import tasks
from limosa.deadline import Deadline
from limosa.errors import QmpError, StateError
from limosa.guest.screen import glyphs, terminal_lines
from limosa.guest.screen.camera import Camera
from limosa.guest.screen.keys import Chord, chords
from limosa.guest.terminal import ESCAPE, keyboard, raw

FAST_S, SLOW_S = 0.1, 0.5
"""Between two looks: while something changes or somebody types, and while nothing does."""

CALM_S = 2.0
"""Without a change for so long, looks become slow: each costs the guest."""

STANDS_S = 30.0
"""How long a key waits for a guest that stands still. A hand-over takes far less; a paused guest misses the key."""

_BEGIN = "\x1b[?1049h\x1b[?25l\x1b[2J"
"""The terminal's other screen, without a cursor: what was there before comes back in the end (xterm's ctlseqs)."""
_END = "\x1b[0m\x1b[?25h\x1b[?1049l"


class Painter:
    """Writes only the lines that changed."""

    def __init__(self, guest: str) -> None:
        self._guest = guest
        self._shown: list[str] = []
        self._size = (0, 0)

    def show(self, pixels: glyphs.Pixels, font: glyphs.Font | None, host: str) -> None:
        """Draw a picture: as text where it is text."""
        width, height = _terminal_size()
        text = glyphs.recognise(pixels, font) if font is not None else None
        if text is not None:
            lines = terminal_lines.text_lines(text, width, height)
        else:
            lines = terminal_lines.picture_lines(pixels, width, height)
        if len(lines) < height:
            said = f"{self._guest} on {host}; Ctrl-] leaves"
            lines = [*lines, *[""] * (height - len(lines) - 1), f"\x1b[2m{said[:width]}\x1b[0m"]
        self._write(lines, (width, height))

    def _write(self, lines: list[str], size: tuple[int, int]) -> None:
        out = list[str]()
        if size != self._size:
            out.append("\x1b[2J")
            self._shown, self._size = [], size
        before = self._shown + [""] * (len(lines) - len(self._shown))
        for number, (line, old) in enumerate(zip(lines, before, strict=False), start=1):
            if line != old:
                out.append(f"\x1b[{number};1H{line}\x1b[0m\x1b[K")
        self._shown = lines
        put("".join(out))

    @property
    def outdated(self) -> bool:
        """Whether the terminal has another size now than what was drawn for."""
        return _terminal_size() != self._size


def _terminal_size() -> tuple[int, int]:
    """Columns and lines as they are now; a terminal that does not know gets a text mode's."""
    columns, lines = os.get_terminal_size(sys.stdout.fileno())
    return columns or 80, lines or 25


def put(text: str) -> None:
    """Write to the terminal, all of it."""
    data = memoryview(text.encode())
    while data:
        data = data[os.write(sys.stdout.fileno(), data) :]


async def attach(cameras: AsyncIterator[Camera], guest: str) -> str:
    """Show the screen and pass keys on until Ctrl-] or the guest's end; return a sentence on why it ended.

    *cameras* yields the guest's screen, another each time that it has moved. Raises StateError without a terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StateError(
            "the screen needs a terminal", hint=f"limosa screen {guest} --text, or --png FILE, takes one picture"
        )
    first = await anext(cameras)  # refused, perhaps, and then the terminal stays as it is
    painter, typed = Painter(guest), asyncio.Queue[bytes]()
    with raw(sys.stdin.fileno()):
        put(_BEGIN)
        try:
            with keyboard(sys.stdin.fileno(), typed.put_nowait):
                keys = _Keys(typed)
                camera: Camera | None = first
                while camera is not None:
                    if await _watch(camera, painter, keys):
                        return f"left the screen; {guest} goes on"
                    camera = await anext(cameras, None)
        finally:
            put(_END)
    return f"{guest} has ended"


class _Keys:
    """What was typed and not pressed yet; it outlives a connection, so that a migration loses none."""

    def __init__(self, typed: asyncio.Queue[bytes]) -> None:
        self._typed = typed
        self._waiting: list[Chord] = []
        self._left = False
        self.last_s = 0.0

    async def next(self) -> Chord | None:
        """The next keys to press; None once the person leaves. ``done`` takes them off."""
        while not self._waiting and not self._left:
            data = await self._typed.get()
            head, escape, _ = data.partition(ESCAPE)
            self._left = bool(escape) or not data
            self._waiting += chords(head)
            self.last_s = time.monotonic()
        return self._waiting[0] if self._waiting else None

    def done(self) -> None:
        """The first keys have been pressed."""
        del self._waiting[0]


async def _watch(camera: Camera, painter: Painter, keys: _Keys) -> bool:
    """One connection: True when the person left, False when QEMU ended."""
    try:
        async with tasks.beside(_show(camera, painter, keys), _press(camera, keys)) as (shown, pressed):
            await asyncio.wait({shown, pressed}, return_when=asyncio.FIRST_COMPLETED)
            for task in (shown, pressed):
                if task.done() and (error := task.exception()) is not None and not _gone(error):
                    raise error
            return pressed.done() and pressed.exception() is None
    finally:
        await camera.close()


def _gone(error: BaseException) -> bool:
    """Whether the other end is gone, as after a migration; where the guest is now is found anew."""
    return isinstance(error, StateError) or (isinstance(error, QmpError) and error.error_class in ("Gone", "Silent"))


async def _show(camera: Camera, painter: Painter, keys: _Keys) -> None:
    font, pixels, changed_s = await camera.font(), None, time.monotonic()
    while True:
        now_s = time.monotonic()
        if (fresh := await camera.picture()) is not None:
            pixels, changed_s = fresh, now_s
            font = font or await camera.font()  # a BIOS that had not run yet has no font
        if pixels is not None and (fresh is not None or painter.outdated):
            painter.show(pixels, font, camera.host.name)
        calm = now_s - max(changed_s, keys.last_s) > CALM_S
        await asyncio.sleep(SLOW_S if calm else FAST_S)


async def _press(camera: Camera, keys: _Keys) -> None:
    while (chord := await keys.next()) is not None:
        async for _ in Deadline.after(STANDS_S).ticks(FAST_S / 2):
            if not camera.stands:  # QEMU would drop it; after a hand-over it is for the other side
                break
        await camera.press(chord)
        keys.done()
