"""The serial console in the terminal: raw mode in between, Ctrl-] to leave, and a new connection after a migration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from limosa.errors import StateError

ESCAPE = b"\x1d"
"""Ctrl-], as in telnet."""


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """The terminal passes every key on, Ctrl-C included; restored whatever happens. What was typed ahead is kept."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def attach(sockets: AsyncIterator[socket.socket], guest: str) -> str:
    """Join the terminal to the console until Ctrl-] or the guest's end; return a sentence on why it ended.

    *sockets* yields the console's connection, a new one each time that the guest has moved.
    """
    if not sys.stdin.isatty():
        raise StateError("the console needs a terminal", hint=f"limosa logs {guest}, or limosa ssh {guest} -- COMMAND")
    keys: asyncio.Queue[bytes] = asyncio.Queue()
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    with _raw(descriptor):
        # Said only now, as whoever reads it may type at once.
        print(f"console of {guest}; Ctrl-] leaves", end="\r\n", file=sys.stderr, flush=True)
        loop.add_reader(descriptor, lambda: keys.put_nowait(os.read(descriptor, 4096)))
        try:
            async for connection in sockets:
                with connection:
                    if await _join(connection, keys):
                        return f"left the console; {guest} goes on"
        finally:
            loop.remove_reader(descriptor)
    return f"{guest} has ended"


async def _join(connection: socket.socket, keys: asyncio.Queue[bytes]) -> bool:
    """Carry bytes both ways; True: the person left, False: the other end hung up."""
    shown, typed = asyncio.ensure_future(_show(connection)), asyncio.ensure_future(_type(connection, keys))
    try:
        done, _ = await asyncio.wait({shown, typed}, return_when=asyncio.FIRST_COMPLETED)
        return typed in done and typed.exception() is None
    finally:
        for task in (shown, typed):
            task.cancel()
        await asyncio.gather(shown, typed, return_exceptions=True)


async def _show(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionResetError):
        while data := await loop.sock_recv(connection, 65536):
            os.write(sys.stdout.fileno(), data)


async def _type(connection: socket.socket, keys: asyncio.Queue[bytes]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data = await keys.get()
        head, escape, _ = data.partition(ESCAPE)
        await loop.sock_sendall(connection, head)
        if escape or not data:
            return
