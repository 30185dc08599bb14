"""A wire: two directions of bytes to a ``python3`` somewhere, and the program that is sent over it first.

The bootstrap on the far command line is short and never changes; the program comes over the wire, so that nothing has
to be installed there and both ends are always of one version.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

FAR = Path(__file__).parent / "far"
_MODULES = ("frames", "counter", "system", "claims", "channels", "link")
"""In the order in which they import each other."""
_COMMAND = "exec(eval(open(0,'rb',0,closefd=False).readline()))"
"""The far command line: one line and few signs, so that any login shell hands it on. Unbuffered, to the line's end."""
_BOOTSTRAP = """
import json, os, sys, types
if sys.version_info < (3, 8):
    sys.exit("python3 is older than 3.8: it is " + sys.version.split()[0])
text = b""
while len(text) < SIZE:
    data = os.read(0, SIZE - len(text))
    if not data:
        sys.exit()
    text += data
for name, source in json.loads(text.decode()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
module.main()
"""


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
    """What is sent first: a line that reads and runs the rest, and the rest, the far end's modules."""
    named = [("limosa.hosts.far." + name, (FAR / f"{name}.py").read_text()) for name in _MODULES]
    packages = [(name, "") for name in ("limosa", "limosa.hosts", "limosa.hosts.far")]
    modules = json.dumps([*packages, *named]).encode()
    return repr(_BOOTSTRAP.replace("SIZE", str(len(modules)))).encode() + b"\n" + modules


def command(python: str = "python3") -> list[str]:
    """The command line of the far end; ``program`` has to be the first thing that it reads.

    Isolated, without site packages, and in UTF-8 whatever the locale, so that words and file names go through as bytes.
    """
    return [python, "-I", "-S", "-X", "utf8", "-c", _COMMAND]


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
        """See the protocol."""
        with contextlib.suppress(OSError):
            return await self._reader.read(1 << 18)
        return b""

    def write(self, data: bytes) -> None:
        """See the protocol."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def close(self) -> None:
        """See the protocol."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        if self._hang_up is not None:
            await self._hang_up()

    async def last_words(self) -> str:
        """See the protocol."""
        if self._complaints is None:
            return ""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1):
                return (await self._complaints.read(65536)).decode(errors="replace").strip()
        return ""
