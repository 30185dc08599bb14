"""A person's terminal while it is joined to a guest: every key is passed on, and afterwards it is as it was."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ESCAPE = b"\x1d"
"""Ctrl-], as in telnet."""

READ_BYTES = 4096


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """The terminal passes every key on, Ctrl-C included; restored whatever happens. What was typed ahead is kept."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def keyboard(descriptor: int, typed: Callable[[bytes], None]) -> Iterator[None]:
    """What is typed goes to *typed*, in the order in which it comes; empty bytes: the terminal was hung up."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            data = os.read(descriptor, READ_BYTES)
        except OSError:  # EIO: the other end of the terminal is gone
            data = b""
        if not data:
            loop.remove_reader(descriptor)
        typed(data)

    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
