"""Gives the console of an installation to the person at the terminal, until Ctrl-] gives it back."""

from __future__ import annotations

import asyncio
import os
import sys

from limosa.errors import StateError
from limosa.guest.installer.player import Surprise
from limosa.guest.installer.text_console import Console
from limosa.guest.terminal import ESCAPE, keyboard, raw


def check_terminal() -> None:
    """Raise StateError when there is no terminal to take over with."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise StateError("--attach needs a terminal", hint="without it the screen is shown when something is amiss")


async def take_over(console: Console, surprise: Surprise) -> bool:
    """Join the terminal to *console*; whether to go on afterwards, with the script or with what the machine left."""
    descriptor = sys.stdin.fileno()
    keys: asyncio.Queue[bytes] = asyncio.Queue()
    print(f"\r\nlimosa: stopped at “{surprise.step.name}”: {surprise.why}", file=sys.stderr)
    print("limosa: the console is yours; Ctrl-] gives it back", file=sys.stderr)
    with raw(descriptor), keyboard(descriptor, keys.put_nowait):
        _show(b"\x1b[2J\x1b[H" + surprise.screen.replace("\n", "\r\n").encode())
        console.taps.append(_show)
        try:
            if not await _type(console, keys):
                return False
            console.taps.clear()
            while not keys.empty():  # typed at a machine that was gone
                keys.get_nowait()
            asked = "the machine is off: go on with what is on its disk" if console.ended else "go on with the script"
            _show(f"\r\nlimosa: {asked}? [Y/n] ".encode())
            answer = await keys.get()
            return answer[:1] not in (b"", b"n", b"N", b"\x03", ESCAPE)
        finally:
            console.taps.clear()
            _show(b"\r\n")


async def _type(console: Console, keys: asyncio.Queue[bytes]) -> bool:
    """Pass keys on until the console is given back or the machine is off; False when the terminal was hung up."""
    while not console.ended:
        try:
            async with asyncio.timeout(0.5):
                data = await keys.get()
        except TimeoutError:
            continue
        head, escape, _ = data.partition(ESCAPE)
        if head:
            await console.pass_on(head)
        if escape or not data:
            return bool(data)
    return True


def _show(data: bytes) -> None:
    os.write(sys.stdout.fileno(), data)
