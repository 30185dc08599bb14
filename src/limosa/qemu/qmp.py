"""QMP as it goes over one connection: commands and their answers by number, and events as they come.

A message is one line of JSON. QEMU greets and says what it offers, the client says what of that it takes; from then on
either side speaks when it likes (https://www.qemu.org/docs/master/interop/qmp-spec.html). What comes is not trusted:
whatever is no QMP ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from limosa import tasks, untrusted

LONGEST_MESSAGE_BYTES = 16 << 20
"""Far above QEMU's longest answer: its whole schema takes 0.2 MiB."""

OUT_OF_BAND = "oob"
"""The capability by which a command may pass by those that wait for QEMU's main loop."""

HUNG_UP = "it hung up"
_PIECE_BYTES = 1 << 18


class Ended(Exception):
    """The connection is over, and why."""


class Refused(Exception):
    """QEMU does not do what it was told to, in its own words; ``error_class`` is QEMU's name for the kind of error."""

    def __init__(self, error_class: str, text: str) -> None:
        super().__init__(text)
        self.error_class = error_class


class Qmp(asyncio.Protocol):
    """The client's end of a connection. Made by ``over``; ``close`` is safe at any time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.events: list[dict[str, Any]] = []
        """All that came until now, in their order."""
        self.end = ""
        """Why the connection is over; empty while it is not."""
        self._begun = bytearray()
        """What has come of a message that is not whole."""
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._greeting: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._news, self._ended = asyncio.Event(), asyncio.Event()
        self._transport: asyncio.Transport

    @classmethod
    async def over(cls, connection: socket.socket) -> Qmp:
        """Meet the QEMU at the other end of *connection*, a stream, which is closed with this. Raises Ended."""
        try:
            _, qmp = await asyncio.get_running_loop().create_connection(lambda: cls(connection), sock=connection)
        except OSError as error:
            connection.close()
            raise Ended(error.strerror or str(error)) from error
        try:
            offered = await qmp._greeting
            await qmp.execute("qmp_capabilities", {"enable": [name for name in offered if name == OUT_OF_BAND]})
        except Refused as error:
            await qmp.close()
            raise Ended(f"it refuses to begin: {error}") from error
        except BaseException:
            await qmp.close()
            raise
        return qmp

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, out_of_band: bool = False
    ) -> Any:
        """What QEMU returns. Raises Refused or Ended. An answer that comes when nobody waits any more is dropped."""
        if self.end:
            raise Ended(self.end)
        number = str(next(self._numbers))
        message: dict[str, Any] = {"exec-oob" if out_of_band else "execute": command, "id": number}
        if arguments:
            message["arguments"] = dict(arguments)
        words = json.dumps(message).encode() + b"\r\n"
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        try:
            self._transport.write(words)
            return await answer
        finally:
            del self._answers[number]

    async def more_events(self, seen: int) -> None:
        """Until there are more than *seen* events, or there will be none any more."""
        while len(self.events) <= seen and not self.end:
            self._news.clear()
            await self._news.wait()

    async def close(self) -> None:
        """Hang up, whatever was on its way; QEMU, which serves one client at a time, may be met again then."""
        self._hang_up("it was closed")
        await self.ended()

    async def ended(self) -> None:
        """Until the connection is over and all that QEMU had said was taken."""
        await self._ended.wait()

    def _hang_up(self, why: str) -> None:
        self.end = self.end or why
        self._transport.abort()

    # -- what the event loop calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is somebody; what this sends goes out by *transport*."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Something came: pieces of messages, as they fall."""
        end, *others = data.split(b"\n")  # of what is new alone: a long message comes in many pieces
        self._begun += end
        for piece in others:
            if self._begun.strip() and not self.end:
                self._take(bytes(self._begun))
            self._begun = bytearray(piece)
        if len(self._begun) > LONGEST_MESSAGE_BYTES:
            self._hang_up(f"a message has more than {LONGEST_MESSAGE_BYTES} bytes")

    def eof_received(self) -> None:
        """Nothing will come any more; what of ours is still on its way is of no use then."""
        self._hang_up(HUNG_UP)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over. Whoever waits for anything hears it."""
        if error is not None:  # a command met the end: what QEMU had said before is still in the socket
            self._take_the_rest()
        self.end = self.end or (HUNG_UP if error is None or isinstance(error, ConnectionError) else str(error))
        for waiting in (self._greeting, *self._answers.values()):
            if not waiting.done():
                waiting.set_exception(Ended(self.end))
        tasks.heard(self._greeting)  # where nobody waits for it any more
        self._ended.set()
        self._news.set()

    def _take_the_rest(self) -> None:
        with contextlib.suppress(OSError):
            while not self.end and (data := self._connection.recv(_PIECE_BYTES)):
                self.data_received(data)

    def _take(self, line: bytes) -> None:
        try:
            message = untrusted.unchecked(line)
        except msgspec.DecodeError as error:
            self._hang_up(f"what it says is no QMP: {_shown(line)} ({error})")
            return
        match message:
            case {"event": str()}:
                self.events.append(message)
                self._news.set()
            case {"return": answer, "id": str(number)}:
                if asked := self._asked(number):
                    asked.set_result(answer)
            case {"error": {"class": str(error_class), "desc": str(text)}, "id": str(number)}:
                if asked := self._asked(number):
                    asked.set_exception(Refused(error_class, text))
            case {"QMP": {"capabilities": [*offered]}} if not self._greeting.done():
                self._greeting.set_result(offered)
            case _:
                self._hang_up(f"what it says is no QMP: {_shown(line)}")

    def _asked(self, number: str) -> asyncio.Future[Any] | None:
        """What waits for that answer; None when nobody does any more."""
        asked = self._answers.get(number)
        return None if asked is None or asked.done() else asked


def _shown(line: bytes) -> str:
    return line.decode(errors="replace").strip()[:200]
