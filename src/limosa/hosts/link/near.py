"""The near end of a link: channels over one wire, and the certainty that a lost wire is noticed by all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Self

from limosa import tasks
from limosa.errors import LimosaError, UnreachableError
from limosa.hosts.link.far import frames
from limosa.hosts.link.wire import Wire, program

BEGIN_S = 10.0
"""How long the far end may take to begin."""
PING_S = 3.0
PINGS_MISSED = 4
"""With so many pings in a row unanswered, the connection counts as lost."""
SILENCE_S = 15.0
"""After so long without a word from here, the far end takes us for gone."""


class BeginError(Exception):
    """The far end ended before it began: the text is what was said on standard error."""


class Refused(OSError):
    """The far end could not do what it was asked; ``errno`` is the far system's, 0 where it was no system call."""


class Channel:
    """One piece of work at the far end. ``with`` ends it there, if it has not ended by itself."""

    def __init__(self, link: Link, number: int, *, collect: bool) -> None:
        self._link, self._number, self._collect = link, number, collect
        self.credit = frames.WINDOW_BYTES
        self.parts: dict[int, list[bytes]] = {1: [], 2: []}
        """What came on each stream, of a channel that collects."""
        self.incoming = deque[tuple[int, bytes]]()
        """What came on stream 1 and waits to be taken by ``next``, of one that does not: DATA and SEEK."""
        self.answers: list[dict[str, Any]] = []
        self.ended: set[int] = set()
        self._consumed = {1: 0, 2: 0}
        self._pending = memoryview(b"")
        self._waiters: list[asyncio.Future[None]] = []
        self.finished = False
        """Whether the far end has forgotten this channel, so that it need not be told to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.forget(self._number, tell=not self.finished)

    def send(self, kind: int, stream: int = 0, payload: bytes = b"") -> None:
        """A frame of this channel."""
        self._link.send(kind, stream, self._number, payload)

    def request(self, **asked: Any) -> None:
        """Ask the far end to begin."""
        # The standard library's encoder also takes words that are not valid Unicode, as file names may be.
        self.send(frames.REQUEST, payload=json.dumps(asked).encode())

    def feed(self, data: bytes) -> None:
        """Send it all on stream 0, as the far end has room, and then the end."""
        self._pending = memoryview(data)
        self._pump()

    def _pump(self) -> None:
        while self._pending and self.credit > 0:
            piece = self._pending[: min(self.credit, frames.CHUNK_BYTES)]
            self._pending = self._pending[len(piece) :]
            self.credit -= len(piece)
            self.send(frames.DATA, 0, bytes(piece))
        if not self._pending and 0 not in self.ended:
            self.ended.add(0)
            self.send(frames.END, 0)

    def taken(self, stream: int, count: int) -> None:
        """So much has been used up: the far end may send as much again."""
        self._consumed[stream] += count
        if self._consumed[stream] >= frames.CREDIT_BYTES and stream not in self.ended:
            self.send(frames.CREDIT, stream, frames.NUMBER.pack(self._consumed[stream]))
            self._consumed[stream] = 0

    def arrived(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame for this channel."""
        if kind == frames.DATA:
            if self._collect:
                self.parts[stream].append(payload)
                self.taken(stream, len(payload))
            else:
                self.incoming.append((kind, payload))
        elif kind == frames.ANSWER:
            self.answers.append(json.loads(payload))
        elif kind == frames.END:
            self.ended.add(stream)
            if stream == 0:  # nobody reads any more
                self._pending = memoryview(b"")
        elif kind == frames.CREDIT:
            self.credit += frames.NUMBER.unpack(payload)[0]
            if self._pending:
                self._pump()
        elif kind == frames.SEEK:
            self.incoming.append((kind, payload))
        self.wake()

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for it. Raises UnreachableError when the link is lost first."""
        while not condition():
            if self._link.lost is not None:
                raise self._link.lost
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def next(self) -> tuple[int, bytes] | None:
        """The next frame of stream 1; None when it has ended or an answer came instead. Raises UnreachableError."""
        await self.until(lambda: bool(self.incoming or self.answers or 1 in self.ended))
        if not self.incoming:
            return None
        kind, payload = self.incoming.popleft()
        if kind == frames.DATA:
            self.taken(1, len(payload))
        return kind, payload

    async def answer(self) -> dict[str, Any]:
        """The next answer. Raises Refused when it is an error, UnreachableError when the link is lost."""
        await self.until(lambda: bool(self.answers))
        said = self.answers.pop(0)
        if "error" in said:
            self.finished = True
            raise Refused(said["errno"], said["error"])
        return said


class Link:
    """A wire with the far end's program running on it."""

    def __init__(self, wire: Wire, host: str) -> None:
        self.host, self.about = host, dict[str, Any]()
        self.lost: LimosaError | None = None
        self.beside = set[asyncio.Task[None]]()
        """What goes on beside, as long as the link: the two directions of each connection."""
        self._wire, self._channels, self._next = wire, dict[int, Channel](), 1
        self._heard, self._missed = asyncio.Event(), 0
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, wire: Wire, host: str, runtime: str = "", silence_s: float = SILENCE_S) -> Link:
        """Start the program and hear from it; the wire belongs to the link from now on.

        Raises BeginError when the far end ended instead, UnreachableError when it said nothing.
        """
        link = cls(wire, host)
        try:
            wire.write(program())
            with link.channel() as channel:
                channel.request(do="begin", silence_s=silence_s, runtime=runtime)
                try:
                    async with asyncio.timeout(BEGIN_S):
                        rest = await link._begin()
                        link._start(rest)
                        link.about = await channel.answer()
                except TimeoutError as error:
                    raise UnreachableError(f"python3 on {host} did not begin within {BEGIN_S:g} s") from error
                channel.finished = True
        except BaseException:
            await link.close()
            raise
        return link

    async def _begin(self) -> bytes:
        heard = b""
        while frames.MAGIC not in heard:
            data = await self._wire.read()
            if not data:
                said = heard.decode(errors="replace").strip()
                raise BeginError("\n".join(filter(None, [said, await self._wire.last_words()])))
            heard = heard[-65536:] + data
        return heard.partition(frames.MAGIC)[2]

    def _start(self, rest: bytes) -> None:
        self._tasks = [asyncio.create_task(self._receive(rest)), asyncio.create_task(self._keep_alive())]

    def channel(self, *, collect: bool = False) -> Channel:
        """A new piece of work. *collect*: what comes is kept, however much. Raises UnreachableError."""
        if self.lost is not None:
            raise self.lost
        number, self._next = self._next, self._next + 1
        self._channels[number] = channel = Channel(self, number, collect=collect)
        return channel

    def forget(self, number: int, *, tell: bool) -> None:
        """A channel is done with; *tell* ends it at the far end."""
        self._channels.pop(number, None)
        if tell:
            self.send(frames.CLOSE, 0, number)

    def send(self, kind: int, stream: int, channel: int, payload: bytes = b"") -> None:
        """A frame; nothing happens once the link is lost."""
        if self.lost is None:
            self._wire.write(frames.HEADER.pack(kind, stream, channel, len(payload)) + payload)

    async def ask(self, **asked: Any) -> dict[str, Any]:
        """One question, one answer. Raises Refused or UnreachableError."""
        with self.channel() as channel:
            channel.request(**asked)
            said = await channel.answer()
            channel.finished = True
        return said

    def beside_it(self, work: Coroutine[Any, Any, None]) -> None:
        """Let *work* go on for as long as the link, at most."""
        task = asyncio.create_task(work)
        self.beside.add(task)
        task.add_done_callback(self.beside.discard)
        task.add_done_callback(tasks.heard)

    def send_request(self, **asked: Any) -> None:
        """Ask without listening for an answer."""
        self.send(frames.REQUEST, 0, 0, json.dumps(asked).encode())

    async def ping(self) -> None:
        """Return when the far end has answered. Raises UnreachableError when the link is lost; has no time limit."""
        self._heard.clear()
        self.send(frames.PING, 0, 0)
        if self.lost is None:
            await self._heard.wait()
        if self.lost is not None:
            raise self.lost

    async def _receive(self, rest: bytes) -> None:
        waiting = bytearray(rest)
        try:
            while True:
                self._take(waiting)
                if not (data := await self._wire.read()):
                    break
                self._missed = 0
                waiting += data
        finally:  # nobody reads any more, whatever the reason
            self._lose()

    def _take(self, waiting: bytearray) -> None:
        place, size = 0, frames.HEADER.size
        while len(waiting) - place >= size:
            kind, stream, number, length = frames.HEADER.unpack_from(waiting, place)
            if len(waiting) - place < size + length:
                break
            begin, place = place + size, place + size + length
            if kind == frames.PING:
                self._heard.set()
            elif (channel := self._channels.get(number)) is not None:
                channel.arrived(kind, stream, bytes(waiting[begin:place]))
        del waiting[:place]

    async def _keep_alive(self) -> None:
        # Missed answers are counted, not seconds: a loop that was held up for long has to read before it may judge.
        while self._missed < PINGS_MISSED:
            await asyncio.sleep(PING_S)
            self._missed += 1
            self.send(frames.PING, 0, 0)
        self._lose()

    def _lose(self) -> None:
        if self.lost is None:
            self.lost = lost(self.host)
            self._heard.set()
            for channel in list(self._channels.values()):
                channel.wake()

    async def close(self) -> None:
        """Hang up: the far end kills what was not spawned to be kept."""
        self._lose()
        await tasks.ended([*self._tasks, *self.beside])
        with contextlib.suppress(Exception):  # whatever a dead connection may say, it is closed
            await self._wire.close()


def lost(host: str) -> UnreachableError:
    """The error of what was under way when the connection broke."""
    return UnreachableError(
        f"the connection to {host} was lost: the host, or the network on the way, went away",
        hint="guests there go on if the host does; limosa status shows where things stand",
    )
