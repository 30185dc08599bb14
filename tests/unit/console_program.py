"""Programs of our own behind a real pseudo-terminal, joined to an installer's console as QEMU's serial port is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from limosa.guest.installer import Console, Transcript


@asynccontextmanager
async def program(source: str, directory: Path, arguments: Sequence[str] = ()) -> AsyncIterator[Console]:
    """A console on which the Python program *source* runs in a terminal of its own."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-u", "-c", source, *arguments])
    ours, theirs = socket.socketpair()
    threads = [
        threading.Thread(target=_carry, args=(lambda: os.read(master, 4096), theirs.sendall, theirs)),
        threading.Thread(target=_carry, args=(lambda: theirs.recv(4096), lambda data: os.write(master, data), theirs)),
    ]
    for thread in threads:
        thread.start()
    transcript = Transcript(directory / "transcript", "test")
    try:
        async with Console.over(ours, transcript) as console:
            yield console
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        os.close(master)
        theirs.close()
        transcript.close()


def _carry(read, write, theirs: socket.socket) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with contextlib.suppress(OSError):
        while data := read():
            write(data)
    with contextlib.suppress(OSError):
        theirs.shutdown(socket.SHUT_RDWR)
