"""A QMP server on a real unix socket that says what a test tells it to, for what real QEMU does not do on demand.

Answers are looked up by command: a value to return, an ``Error``, a ``Late`` answer, ``SILENCE``, ``HANG_UP`` or a
function of the arguments; a list is used up one by one, its last entry stays. Each client gets the same script.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GREETING: dict[str, Any] = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}
}


@dataclass(frozen=True, slots=True)
class Error:
    """QEMU refuses the command."""

    text: str
    kind: str = "GenericError"


@dataclass(frozen=True, slots=True)
class Late:
    """The answer comes after *seconds*."""

    seconds: float
    answer: Any = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of an answer; empty ones close the connection."""

    data: bytes = b""


HANG_UP = Raw()
SILENCE = Raw(b" ")
"""No answer ever comes."""
Answer = Any
Script = dict[str, Answer | list[Answer] | Callable[[Mapping[str, Any]], Answer]]


@dataclass(slots=True)
class FakeQmp:
    """One listening socket. ``said`` are the commands that came, ``event`` sends one to whoever is connected."""

    path: Path
    script: Script = field(default_factory=dict)
    greeting: bytes = json.dumps(GREETING).encode() + b"\r\n"
    said: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    out_of_band: list[str] = field(default_factory=list)
    """Those of the commands that were to pass by the others."""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _met: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeQmp]:
        """Listen until the end of this context; then every connection is closed."""
        server = await asyncio.start_unix_server(self._serve, self.path)
        try:
            yield self
        finally:
            server.close()
            self.hang_up()
            await asyncio.sleep(0)

    async def wait_client(self) -> None:
        """Until somebody is connected."""
        await self._met.wait()

    def hang_up(self) -> None:
        """As QEMU's end: every connection closes, and nobody listens any more."""
        self.path.unlink(missing_ok=True)
        while self._writers:
            self._writers.pop().close()

    def event(self, name: str, at_ns: int | None = None, **data: Any) -> None:
        """Send an event."""
        now = time.time_ns() if at_ns is None else at_ns
        stamp = {"seconds": now // 10**9, "microseconds": now % 10**9 // 1000}
        self.write(json.dumps({"event": name, "data": data, "timestamp": stamp}).encode() + b"\r\n")

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._met.set()
        try:
            writer.write(self.greeting)
            if not self.greeting:
                return
            async with asyncio.TaskGroup() as late:
                # As QEMU does, take each object as soon as it is whole: clients need not end their lines.
                text = ""
                while data := await reader.read(65536):
                    text = (text + data.decode()).lstrip()
                    while text:
                        try:
                            asked, end = json.JSONDecoder().raw_decode(text)
                        except ValueError:
                            break
                        text = text[end:].lstrip()
                        self._answer(asked, writer, late)
        except ConnectionError:
            return
        finally:
            writer.close()

    def _answer(self, asked: dict[str, Any], writer: asyncio.StreamWriter, late: asyncio.TaskGroup) -> None:
        command, arguments = asked.get("execute") or asked["exec-oob"], asked.get("arguments", {})
        self.said.append((command, arguments))
        if "exec-oob" in asked:
            self.out_of_band.append(command)
        answer = self.script.get(command, {})
        if isinstance(answer, list) and command not in LISTS:
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(arguments)
        if isinstance(answer, Late):
            late.create_task(self._later(answer, asked.get("id"), writer))
        else:
            self._give(answer, asked.get("id"), writer)

    async def _later(self, answer: Late, number: str | None, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(answer.seconds)
        self._give(answer.answer, number, writer)

    def _give(self, answer: Answer, number: str | None, writer: asyncio.StreamWriter) -> None:
        if writer.is_closing():
            return
        if isinstance(answer, Raw):
            writer.write(answer.data)
            if not answer.data:
                writer.close()
            return
        reply: dict[str, Any] = {"return": answer}
        if isinstance(answer, Error):
            reply = {"error": {"class": answer.kind, "desc": answer.text}}
        if number is not None:  # a client need not number its commands
            reply["id"] = number
        writer.write(json.dumps(reply).encode() + b"\r\n")


LISTS = frozenset({"query-migrate-capabilities", "query-yank"})
"""Commands whose answer is a list itself, not one answer after another."""
