"""One picture of a guest's screen, for a file, a script or a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from limosa.errors import StateError
from limosa.guest.screen import glyphs
from limosa.guest.screen.camera import Camera
from limosa.paths import cannot_write


class Shot(msgspec.Struct, frozen=True):
    """What the screen showed. ``text`` is None where it shows something else than text."""

    guest: str
    host: str
    width: int
    height: int
    text: str | None
    cursor: tuple[int, int] | None
    """Row and column from 0; None too when it is off, as every half second while it blinks."""
    png: str = ""
    """The file that was written."""

    @property
    def readable(self) -> str:
        """The text. Raises StateError where there is none."""
        if self.text is None:
            raise StateError(
                f"the screen of {self.guest} shows no text that can be read",
                hint=f"limosa screen {self.guest} --png FILE takes a picture",
            )
        return self.text


async def take(cameras: AsyncIterator[Camera], guest: str, png: str = "") -> Shot:
    """Look once, and with *png* write that file too. Raises LimosaError's children."""
    camera = await anext(cameras)
    try:
        font = await camera.font()
        pixels = await camera.picture()
        assert pixels is not None  # the first picture always comes
        if png:
            data = await camera.png()
            await asyncio.to_thread(_write, Path(png), data)
    finally:
        await camera.close()
    seen = glyphs.recognise(pixels, font) if font is not None else None
    height, width = pixels.shape[:2]
    text, cursor = (seen.text, seen.cursor) if seen is not None else (None, None)
    return Shot(guest, camera.host.name, width, height, text, cursor, png)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise cannot_write(error, path) from error
