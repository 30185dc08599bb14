"""The serial console in the terminal: raw mode in between, Ctrl-] to leave, and a new connection after a migration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator

from limosa import tasks
from limosa.errors import StateError
from limosa.guest.terminal import ESCAPE, keyboard, raw


async def attach(sockets: AsyncIterator[socket.socket], guest: str) -> str:
    """Join the terminal to the console until Ctrl-] or the guest's end; return a sentence on why it ended.

    *sockets* yields the console's connection, a new one each time that the guest has moved.
    """
    if not sys.stdin.isatty():
        raise StateError("the console needs a terminal", hint=f"limosa logs {guest}, or limosa ssh {guest} -- COMMAND")
    typed = Typed()
    with raw(sys.stdin.fileno()):
        # Said only now, as whoever reads it may type at once.
        print(f"console of {guest}; Ctrl-] leaves", end="\r\n", file=sys.stderr, flush=True)
        with keyboard(sys.stdin.fileno(), typed.put):
            async for connection in sockets:
                with connection:
                    if await join(connection, typed):
                        return f"left the console; {guest} goes on"
    return f"{guest} has ended"


class Typed:
    """What was typed and has not been sent yet; it outlives a connection, so that a migration loses nothing."""

    def __init__(self) -> None:
        self._pending = b""
        self._left = False
        self._come = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Take what a terminal sent; Ctrl-] or nothing (the terminal is gone) means that the person leaves."""
        if not self._left:
            head, escape, _ = data.partition(ESCAPE)
            self._pending += head
            self._left = bool(escape) or not data
        self._come.set()

    async def send(self, connection: socket.socket) -> None:
        """Send everything, and what comes later, until the person leaves."""
        loop = asyncio.get_running_loop()
        while True:
            while self._pending:
                self._come.clear()
                try:
                    sent = connection.send(self._pending)
                    self._pending = self._pending[sent:]
                except BlockingIOError:
                    await _writable(loop, connection)
            if self._left:
                return
            await self._come.wait()
            self._come.clear()


async def _writable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(connection, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(connection)


async def join(connection: socket.socket, typed: Typed) -> bool:
    """Carry bytes both ways; True: the person left, False: the other end hung up."""
    async with tasks.beside(_show(connection), typed.send(connection)) as (shown, sent):
        done, _ = await asyncio.wait({shown, sent}, return_when=asyncio.FIRST_COMPLETED)
        return sent in done and sent.exception() is None


async def _show(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):
        while data := await loop.sock_recv(connection, 65536):
            view = memoryview(data)
            while view:  # a terminal may take less at once
                view = view[os.write(sys.stdout.fileno(), view) :]
