"""Which of a machine's two consoles speaks: the serial one, or, where a medium knows none, the screen."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from limosa import tasks
from limosa.events import Events
from limosa.guest.installer.display import Display, Teletype
from limosa.guest.installer.player import Surprise, TakeOver, play
from limosa.guest.installer.script import Script, Step
from limosa.guest.installer.text_console import Console
from limosa.guest.installer.virtual_machine import Running

GRACE_S = 60.0
"""For how long the screen alone has asked before it is taken: a machine that has both may ask on it first, and a busy
one much earlier, since the serial port's login is the last of seven."""

LOOK_S = 2.0


@asynccontextmanager
async def begun(
    script: Script, console: Console, machine: Running, events: Events, take_over: TakeOver | None
) -> AsyncIterator[tuple[Console, Script]]:
    """The console to go on with and the steps that are left, once the first step has come to its end on one of them.

    Raises Surprise as ``play`` does.
    """
    if machine.monitor is None:
        yield console, script
        return
    async with Display.over(machine.monitor) as display:
        with events.stage(f"{script.name}: {script.steps[0].name}"):
            rest = await _on_serial(script, console, display, take_over)
        if rest is not None:
            yield console, rest
            return
        events.note("the medium asks on its screen alone: its text is read there and its keys are pressed")
        async with _on_screen(display, console) as screen:
            yield screen, replace(script, steps=script.steps[1:])


async def _on_serial(script: Script, console: Console, display: Display, take_over: TakeOver | None) -> Script | None:
    """What is left once the first step was played on the serial console; None when the screen has asked meanwhile."""
    free = asyncio.Event()
    free.set()

    async def held(console: Console, surprise: Surprise) -> bool:
        assert take_over is not None
        free.clear()
        try:
            return await take_over(console, surprise)
        finally:
            free.set()

    # The stage is told of outside.
    work = play(script, console, Events(), held if take_over else None, steps=1)
    async with tasks.beside(work, _asks(display, script.steps[0], console, free)) as (playing, watching):
        await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not playing.done() and isinstance(given_up := watching.exception(), Surprise):
            raise given_up
        if playing.done() or watching.exception() is not None:
            left: Script = await playing
            return left
        return None


async def _asks(display: Display, step: Step, console: Console, free: asyncio.Event) -> None:
    """Return when the screen has shown for a while what ends *step*; raise Surprise when it shows what fails it.

    Neither while a person has the serial console, to whom the machine belongs then: *free* is not set.
    """
    patterns = [re.compile(rf"(?:{prompt.pattern})[ \t]*\Z") for prompt in step.prompts if prompt.ends]
    since_s: float | None = None
    while True:
        shown = "\n".join(await display.lines() or ())
        if not free.is_set():
            since_s = None
            await free.wait()
            continue
        for prompt in step.prompts:
            # A kernel that is silent on the serial port says only here that it has given up. What is said there too is
            # heard there, and may have been given to a person.
            match = re.search(prompt.pattern, shown + "\n") if prompt.fails else None
            if match and not re.search(prompt.pattern, console.text):
                raise Surprise(prompt.fails.format(match.group(0).strip()), step, console, shown)
        if not any(pattern.search(shown) for pattern in patterns):
            since_s = None
        elif since_s is None:
            since_s = time.monotonic()
        elif time.monotonic() - since_s > GRACE_S:
            return
        await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def _on_screen(display: Display, serial: Console) -> AsyncIterator[Console]:
    """A console that is the screen and the keyboard; it ends when the machine does."""
    near, far = socket.socketpair()
    async with tasks.beside(Teletype(display, far).carry()), Console.over(near, serial.transcript) as console:
        console.last_words = serial.last_words
        yield console
