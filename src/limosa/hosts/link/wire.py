"""A wire: two directions of bytes to a ``python3`` somewhere, and the program that is sent over it first."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from limosa import bundle

FAR = Path(__file__).parent / "far"
_MODULES = ("frames", "system", "claims", "channels", "service")
"""In the order in which they import each other."""


class Wire(Protocol):
    """What a link needs of its connection. An implementation buffers what is written: windows keep that small."""

    async def read(self) -> bytes:
        """What has come, at least one byte; empty when it is over. Never raises but for cancellation."""
        ...

    def write(self, data: bytes) -> None:
        """Send it, soon. Once the connection is over this does nothing."""
        ...

    async def close(self) -> None:
        """Hang up and wait until that is done; more than once is no error."""
        ...

    async def last_words(self) -> str:
        """What was said on standard error, asked when the far end ended before it began."""
        ...


@functools.cache
def program() -> bytes:
    """What is sent first: the far end's modules."""
    return bundle.program([("limosa.hosts.link.far." + name, FAR / f"{name}.py") for name in _MODULES])


class StreamWire:
    """A wire made of asyncio's own streams; *hang_up* ends whatever is behind them."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hang_up: Callable[[], Awaitable[None]] | None = None,
        complaints: asyncio.StreamReader | None = None,
    ) -> None:
        self._reader, self._writer, self._hang_up, self._complaints = reader, writer, hang_up, complaints

    async def read(self) -> bytes:
        """What has come; a broken stream is its end."""
        with contextlib.suppress(OSError):
            return await self._reader.read(1 << 18)
        return b""

    def write(self, data: bytes) -> None:
        """Send it unless the stream is closing."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def close(self) -> None:
        """Close the stream, then end what is behind it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        if self._hang_up is not None:
            await self._hang_up()

    async def last_words(self) -> str:
        """What came on standard error; nothing when the wire does not have it."""
        if self._complaints is None:
            return ""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1):
                return (await self._complaints.read(65536)).decode(errors="replace").strip()
        return ""
