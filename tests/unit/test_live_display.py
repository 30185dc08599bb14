"""The live display of several guests: on the terminal every line that was finished stands once, and nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from limosa.cli.live import LiveFace
from limosa.events import Events

WORD = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])")


def screen(text: str) -> list[str]:
    """What a terminal shows of *text*, as far as this display commands it: lines that are not empty."""
    rows, row, column = [""], 0, 0
    for number, command, character in WORD.findall(text):
        if character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif command == "A":
            row -= int(number or 1)
        elif command == "K":
            rows[row] = ""
        elif character:
            rows[row] = rows[row].ljust(column)[:column] + character + rows[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in rows if line.strip()]


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Standard error is one; what was written to it is in the list afterwards."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    ours, theirs = os.openpty()
    read: list[bytes] = []
    told: list[str] = []

    def listen() -> None:
        try:
            while data := os.read(ours, 4096):
                read.append(data)
        except OSError:  # nobody has the other end any more
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield told
    listener.join()
    os.close(ours)
    told.append(b"".join(read).decode())


def test_each_finished_line_stands_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Rich's own thread drawing beside, some were drawn over, and lines of a moment ago were left."""

    async def guest(events: Events, name: str) -> None:
        with events.about(name):
            for step in range(20):
                with events.stage(f"step {step}"):
                    await asyncio.sleep(0.001)

    async def work(face: LiveFace) -> None:
        events = Events(face)
        with events.stage("all"):
            await asyncio.gather(*(guest(events, f"g{number}") for number in range(4)))

    monkeypatch.setattr("limosa.cli.live._EVERY_S", 0.0005)
    with terminal(monkeypatch) as told, LiveFace() as face:
        asyncio.run(work(face))
    found = sorted(re.sub(r" [0-9.]+ s$", "", line) for line in screen(told[0]))
    assert found == sorted(["✓ all", *(f"  ✓ g{number}: step {step}" for number in range(4) for step in range(20))])
