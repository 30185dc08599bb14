"""A serial console as a person sees it: a screen, and the plain text that has come since one typed last.

pyte interprets what the machine sends. Its answers to a terminal's questions (where is the cursor?) go back at once,
but never behind something that was typed meanwhile: a program that reads a line would take them for input.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyte

from limosa import tasks
from limosa.guest.installer.transcript import COLUMNS, ROWS, Transcript

SETTLED_S = 0.3
"""How long a console is quiet before what stands at its end counts as a prompt: a shell asks the terminal for the
cursor's place right behind its prompt, and programs print a question in pieces."""

_JUST_TYPED_S = 1.0
_KEPT_CHARACTERS = 400_000

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]+[0-~]|[0-Z\\^-~])"
)
"""A whole escape sequence, as ECMA-48 has them: control sequences, operating system commands, strings, short ones."""

_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)?\Z")
_ESCAPE_LIMIT = 512
"""An escape that is longer is none."""


class PlainText:
    """Turns pieces of terminal output into plain text: no escapes, one newline a line."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that has become certain with *piece*."""
        whole = self._held + piece
        cut = _UNFINISHED.search(whole)
        start = cut.start() if cut and len(whole) - cut.start() < _ESCAPE_LIMIT else len(whole)
        # A return at the end may be half of a line's end.
        start = len(whole[:start].rstrip("\r"))
        self._held = whole[start:]
        text = _ESCAPE.sub("", whole[:start])
        text = re.sub(r"\r+\n?|\n", "\n", text)
        return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text)


class _Screen(pyte.Screen):
    """Passes its answers on, and takes forms of control sequences that pyte's own methods refuse."""

    def __init__(self, answer: Callable[[str], None]) -> None:
        super().__init__(COLUMNS, ROWS)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        """pyte's hook for what the terminal answers."""
        self._answer(data)

    def report_device_status(self, mode: int = 0, **_: Any) -> None:
        """ESC [ n, the private form too."""
        super().report_device_status(mode)

    def report_device_attributes(self, mode: int = 0, **_: Any) -> None:
        """ESC [ c: not answered, as nobody here waits for it."""


class Console:
    """One connection to a machine's serial console, and all that came over it."""

    def __init__(self, connection: socket.socket, transcript: Transcript) -> None:
        connection.setblocking(False)
        self.transcript = transcript
        self.ended = False
        self.taps: list[Callable[[bytes], None]] = []
        """Whoever else wants the bytes as they come: a person's terminal."""
        self.last_words: Callable[[], str] = str
        """Asked why the machine ended, when it did."""
        self._connection = connection
        self._plain = PlainText()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._screen = _Screen(self._reply)
        self._stream = pyte.ByteStream(self._screen)
        self._text = ""
        self._mark = self._dropped = 0
        self._news = asyncio.Event()
        self._heard_s = self._typed_s = time.monotonic()
        self._replies: list[str] = []

    @classmethod
    @asynccontextmanager
    async def over(cls, connection: socket.socket, transcript: Transcript) -> AsyncIterator[Console]:
        """A console on *connection*, which is closed at the end, and read in between."""
        console = cls(connection, transcript)
        with connection:
            async with tasks.beside(console._read()):
                yield console

    @property
    def recent(self) -> str:
        """The plain text since something was typed last."""
        return self._text[self._mark :]

    @property
    def text(self) -> str:
        """All of the plain text that is kept."""
        return self._text

    @property
    def heard(self) -> int:
        """How many characters of plain text have come: a place to look back to with ``since``."""
        return self._dropped + len(self._text)

    def since(self, heard: int) -> str:
        """The plain text since so many characters had come, as far as it is kept."""
        return self._text[max(0, heard - self._dropped) :]

    @property
    def quiet_s(self) -> float:
        """For how long nothing has come."""
        return time.monotonic() - self._heard_s

    @property
    def screen(self) -> str:
        """What a person would see now, without empty lines below; secrets are masked."""
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return self.transcript.masked("\n".join(lines))

    async def wait_news(self, at_most_s: float) -> None:
        """Return when something has come, the other end hung up, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        self._news.clear()

    async def type(self, text: str, *, secret: bool = False) -> None:
        """Type *text* as it is; what came before it is no longer recent. A hang-up shows in ``ended``."""
        self._mark = len(self._text)
        self._typed_s = time.monotonic()
        if secret:
            self.transcript.keep_secret(text.strip("\r\n"))
        self.transcript.input(text, secret=secret)
        await self._send(text.encode())

    def look_again(self) -> None:
        """What stands in the line of the cursor, from now on, and nothing before it is recent: so a person left it."""
        self._heard_s = time.monotonic()
        row = self._screen.cursor.y
        line = self._screen.display[row].rstrip()
        while row and self._screen.display[row - 1][-1] != " ":
            row -= 1
            line = self._screen.display[row] + line
        self._text += "\n" + line
        self._mark = len(self._text) - len(line)

    def pass_over(self, characters: int) -> None:
        """The first *characters* of what is recent are dealt with."""
        self._mark += characters

    async def pass_on(self, data: bytes) -> None:
        """Send a person's keys; they are recorded without being known, so they are masked."""
        self._mark = len(self._text)
        self._typed_s = time.monotonic()
        self.transcript.input("", secret=True)
        await self._send(data)

    async def _send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            await asyncio.get_running_loop().sock_sendall(self._connection, data)

    def _reply(self, text: str) -> None:
        if time.monotonic() - self._typed_s > _JUST_TYPED_S:
            self._replies.append(text)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(self._connection, 65536):
                self._hear(data)
                replies, self._replies = self._replies, []
                for reply in replies:
                    await self._send(reply.encode())
        self.ended = True
        self._news.set()

    def _hear(self, data: bytes) -> None:
        self._heard_s = time.monotonic()
        self.transcript.output(data)
        for tap in self.taps:
            tap(data)
        text = self._plain.feed(self._decoder.decode(data))
        self.transcript.text(text)
        self._text += text
        if (surplus := len(self._text) - _KEPT_CHARACTERS) > _KEPT_CHARACTERS:
            self._text, self._mark = self._text[surplus:], max(0, self._mark - surplus)
            self._dropped += surplus
        try:
            self._stream.feed(data)
        except Exception:
            # pyte raises for a few sequences that no terminal has to know. The text is not touched by it.
            self._stream = pyte.ByteStream(self._screen)
        self._news.set()
