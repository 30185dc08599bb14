"""What a channel of a link can be at the far end: a process, a connection, a file that comes or goes."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import selectors
import signal
import socket
import stat
import time
from collections.abc import Callable
from typing import Any, Protocol

from limosa.hosts.link.far.frames import (
    CHUNK_BYTES,
    CREDIT,
    CREDIT_BYTES,
    DATA,
    END,
    NUMBER,
    SEEK,
    WINDOW_BYTES,
)
from limosa.hosts.link.far.system import environment, start

_CONNECT_S = 0.5
"""A listener that is behind is waited for so long, and all other channels with it."""
AFTER_EXIT_S = 1.0
"""How long output is awaited when a process has ended, each time that some came."""
HELD_S = 10.0
"""How long in all."""
_EXTENTS = 5000
"""In so many pieces at most a file is described; the rest counts as data."""


class Loop(Protocol):
    """What a channel needs of the link that it is part of."""

    selector: selectors.BaseSelector
    channels: dict[int, Any]
    processes: dict[int, Process]
    lingering: set[Process]
    busy: dict[int, FileOut]
    sources: set[Source]
    congested: bool

    def send(self, kind: int, stream: int, channel: int, payload: bytes = b"") -> None:
        """A frame, at once or when there is room."""

    def answer(self, channel: int, said: dict[str, Any]) -> None:
        """An answer to a request."""


class Source:
    """What is read here and sent: the output of a process, or a connection."""

    def __init__(self, link: Loop, channel: int, stream: int, descriptor: int, ended: Callable[[], None]) -> None:
        self.link, self.channel, self.stream, self.descriptor, self.ended = link, channel, stream, descriptor, ended
        self.credit, self.watched, self.read_s = WINDOW_BYTES, False, 0.0
        os.set_blocking(descriptor, False)
        link.sources.add(self)
        self.watch()

    def watch(self) -> None:
        """Read when it may be sent, and only then."""
        wanted = self.descriptor >= 0 and self.credit > 0 and not self.link.congested
        if wanted and not self.watched:
            self.link.selector.register(self.descriptor, selectors.EVENT_READ, self.readable)
        elif self.watched and not wanted:
            self.link.selector.unregister(self.descriptor)
        self.watched = wanted

    def readable(self) -> None:
        """Send a piece on."""
        try:
            data = os.read(self.descriptor, min(CHUNK_BYTES, self.credit))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self.read_s = time.monotonic()
            self.credit -= len(data)
            self.link.send(DATA, self.stream, self.channel, data)
            self.watch()
            return
        self.close()
        self.link.send(END, self.stream, self.channel)
        self.ended()

    def close(self) -> None:
        """Let go; more than once is no error."""
        number, self.descriptor = self.descriptor, -1
        if number >= 0:
            if self.watched:
                self.link.selector.unregister(number)
                self.watched = False
            self.link.sources.discard(self)
            os.close(number)


class Sink:
    """What comes over the link and is written here: the input of a process, or a connection."""

    def __init__(self, link: Loop, channel: int, descriptor: int, shut: Callable[[], None] | None = None) -> None:
        self.link, self.channel, self.descriptor, self.shut = link, channel, descriptor, shut
        self.waiting: collections.deque[memoryview] = collections.deque()
        self.written, self.ending, self.watched = 0, False, False
        os.set_blocking(descriptor, False)

    def take(self, data: bytes) -> None:
        """Write it, now or when there is room."""
        if self.descriptor >= 0:
            self.waiting.append(memoryview(data))
            self.writable()

    def end(self) -> None:
        """Nothing more comes."""
        self.ending = True
        if self.descriptor >= 0:
            self.writable()

    def writable(self) -> None:
        """Write as much as there is room for."""
        try:
            while self.waiting:
                done = os.write(self.descriptor, self.waiting[0])
                self._credit(done)
                if done == len(self.waiting[0]):
                    self.waiting.popleft()
                else:
                    self.waiting[0] = self.waiting[0][done:]
        except (BlockingIOError, InterruptedError):
            self._watch(True)
            return
        except OSError:  # the reader went away: whoever sends may stop
            self.close()
            self.link.send(END, 0, self.channel)
            return
        self._watch(False)
        if self.ending:
            if self.shut is not None:
                with contextlib.suppress(OSError):
                    self.shut()
            self.close()

    def _credit(self, count: int) -> None:
        self.written += count
        if self.written >= CREDIT_BYTES:
            self.link.send(CREDIT, 0, self.channel, NUMBER.pack(self.written))
            self.written = 0

    def _watch(self, wanted: bool) -> None:
        if wanted != self.watched:
            if wanted:
                self.link.selector.register(self.descriptor, selectors.EVENT_WRITE, self.writable)
            else:
                self.link.selector.unregister(self.descriptor)
            self.watched = wanted

    def close(self) -> None:
        """Let go; more than once is no error."""
        if self.descriptor >= 0:
            self._watch(False)
            number, self.descriptor = self.descriptor, -1
            os.close(number)
            self.waiting.clear()


class Process:
    """A channel that is a process: it ends with the channel."""

    def __init__(self, link: Loop, number: int, asked: dict[str, Any]) -> None:
        self.link, self.number = link, number
        pipes = [os.pipe(), os.pipe(), os.pipe()]
        (child_in, our_in), (our_out, child_out), (our_err, child_err) = pipes
        try:
            env = environment(asked.get("env") or {})
            self.pid = start(asked, [child_in, child_out, child_err], env, asked["argv"])
        except BaseException:
            for one in (our_in, our_out, our_err):
                os.close(one)
            raise
        finally:
            for one in (child_in, child_out, child_err):
                os.close(one)
        self.running, self.exited_s = True, 0.0
        self.sink = Sink(link, number, our_in)
        self.sources = [
            Source(link, number, place + 1, one, self.check) for place, one in enumerate((our_out, our_err))
        ]
        link.processes[self.pid] = self

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame for this channel."""
        if kind == DATA:
            self.sink.take(payload)
        elif kind == END:
            self.sink.end()
        elif kind == CREDIT and stream in (1, 2):
            source = self.sources[stream - 1]
            source.credit += NUMBER.unpack(payload)[0]
            source.watch()

    def exited(self, status: int) -> None:
        """The process itself has ended; what it wrote may still be on its way."""
        self.running, self.exited_s = False, time.monotonic()
        self.sink.close()
        self.link.answer(self.number, {"exit": status})
        self.link.lingering.add(self)
        self.check()

    def held(self) -> bool:
        """Whether a child that was left behind holds the output open: nothing came for a while, or it never ends."""
        open_still = [source for source in self.sources if source.descriptor >= 0]
        now = time.monotonic()
        # What cannot be sent is not read, so its silence says nothing.
        silent = all(source.watched and now - max(self.exited_s, source.read_s) > AFTER_EXIT_S for source in open_still)
        return bool(open_still) and (silent or now - self.exited_s > HELD_S)

    def check(self) -> None:
        """Forget the channel when all is over."""
        if not self.running and all(source.descriptor < 0 for source in self.sources):
            self.link.lingering.discard(self)
            self.link.channels.pop(self.number, None)

    def close(self) -> None:
        """Whoever wanted it does not any more."""
        self.link.lingering.discard(self)
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self.sink.close()
        for source in self.sources:
            source.close()


class Connection:
    """A channel that is a connection to a unix socket."""

    def __init__(self, link: Loop, number: int, asked: dict[str, Any]) -> None:
        self.link, self.number = link, number
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A listener that is behind lets a blocking connect wait, and a non-blocking one fail.
            connection.settimeout(_CONNECT_S)
            connection.connect(asked["path"])
        except BaseException:
            connection.close()
            raise
        self.socket = connection
        self.source = Source(link, number, 1, os.dup(connection.fileno()), self.check)
        self.sink = Sink(link, number, os.dup(connection.fileno()), lambda: connection.shutdown(socket.SHUT_WR))
        link.answer(number, {"connected": True})

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame for this channel."""
        if kind == DATA:
            self.sink.take(payload)
        elif kind == END:
            self.sink.end()
            self.check()
        elif kind == CREDIT:
            self.source.credit += NUMBER.unpack(payload)[0]
            self.source.watch()

    def check(self) -> None:
        """Forget the channel when both directions are over."""
        if self.source.descriptor < 0 and self.sink.descriptor < 0:
            self.link.channels.pop(self.number, None)
            self.socket.close()

    def close(self) -> None:
        """Hang up."""
        self.source.close()
        self.sink.close()
        self.socket.close()


class FileOut:
    """A channel that sends a file, hole for hole."""

    def __init__(self, link: Loop, number: int, asked: dict[str, Any]) -> None:
        self.link, self.number, self.credit, self.place = link, number, WINDOW_BYTES, 0
        self.file = open(asked["path"], "rb", buffering=0)  # noqa: PTH123, SIM115
        self.size = os.fstat(self.file.fileno()).st_size
        self.data_end = 0
        link.busy[number] = self
        link.answer(number, {"mode": stat.S_IMODE(os.fstat(self.file.fileno()).st_mode)})

    def step(self) -> None:
        """Send one piece if that is allowed."""
        if self.link.congested or self.credit <= 0:
            return
        if self.place >= self.data_end and not self._next_data():
            self._finish()
            return
        data = os.pread(self.file.fileno(), min(CHUNK_BYTES, self.credit, self.data_end - self.place), self.place)
        if not data:  # it became shorter, or knows no holes (a file of /proc)
            self.size = self.place
            self._finish()
            return
        self.credit -= len(data)
        self.place += len(data)
        self.link.send(DATA, 1, self.number, data)

    def waits(self) -> bool:
        """Whether there is nothing that ``step`` could do now."""
        return self.link.congested or self.credit <= 0

    def _next_data(self) -> bool:
        number = self.file.fileno()
        if not self.size:  # files of /proc and /sys say 0
            self.data_end = self.place + CHUNK_BYTES
            return True
        try:
            begin = os.lseek(number, self.place, os.SEEK_DATA)
            self.data_end = os.lseek(number, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            begin, self.data_end = self.place, self.size
        if begin > self.place:
            self.link.send(SEEK, 1, self.number, NUMBER.pack(begin))
            self.place = begin
        return self.place < self.data_end

    def _finish(self) -> None:
        self.link.answer(self.number, {"size": max(self.size, self.place)})
        self.close()
        self.link.channels.pop(self.number, None)

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame for this channel."""
        if kind == CREDIT:
            self.credit += NUMBER.unpack(payload)[0]

    def close(self) -> None:
        """Let go of the file."""
        self.link.busy.pop(self.number, None)
        self.file.close()


class FileIn:
    """A channel that writes a file; where the sender skipped, a hole is left.

    A file is written under another name beside its own and renamed when it is whole, so that a channel that ends before
    leaves nothing half. The name is told, for the bytes may also come another way.
    """

    def __init__(self, link: Loop, number: int, asked: dict[str, Any]) -> None:
        self.link, self.number, self.place, self.since = link, number, 0, 0
        self.path, self.mode, self.other = os.path.realpath(asked["path"]), asked["mode"], ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        if os.path.exists(self.path) and not os.path.isfile(self.path):  # noqa: PTH110, PTH113
            self.descriptor = os.open(self.path, flags)  # a device, a pipe: what it is stays
        else:
            # Not made from the file's own name, which may be as long as a name can be.
            self.other = f"{os.path.dirname(self.path)}/.limosa-{os.getpid()}-{number}"  # noqa: PTH120
            self.descriptor = os.open(self.other, flags | os.O_EXCL, 0o600)
        link.answer(number, {"path": self.other})

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame for this channel. An OSError ends the channel and is told."""
        if kind == DATA:
            view = memoryview(payload)
            while view:
                # A pipe has no places.
                done = os.pwrite(self.descriptor, view, self.place) if self.other else os.write(self.descriptor, view)
                self.place += done
                view = view[done:]
            self.since += len(payload)
            if self.since >= CREDIT_BYTES:
                self.link.send(CREDIT, 0, self.number, NUMBER.pack(self.since))
                self.since = 0
        elif kind == SEEK:
            self.place = NUMBER.unpack(payload)[0]
            if not self.other:
                os.lseek(self.descriptor, self.place, os.SEEK_SET)
        elif kind == END:
            if self.other:
                os.ftruncate(self.descriptor, NUMBER.unpack(payload)[0])
                os.fchmod(self.descriptor, self.mode & 0o700)  # as cp would with this program's umask
                os.replace(self.other, self.path)  # noqa: PTH105
                self.other = ""
            self.link.answer(self.number, {"written": True})
            self.close()
            self.link.channels.pop(self.number, None)

    def close(self) -> None:
        """Let go of the file; what is not whole goes."""
        number, self.descriptor = self.descriptor, -1
        if number >= 0:
            os.close(number)
        if self.other:
            with contextlib.suppress(OSError):
                os.unlink(self.other)  # noqa: PTH108
            self.other = ""


def extents(path: str) -> dict[str, Any]:
    """Where a file has data, for whoever reads it another way: pairs of begin and end. Raises OSError.

    ``file`` is false for what has to be read to its end to know its size.
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(number)
        pairs: list[list[int]] = []
        place = 0
        while stat.S_ISREG(about.st_mode) and place < about.st_size:
            try:
                begin = os.lseek(number, place, os.SEEK_DATA)
                place = os.lseek(number, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                begin, place = place, about.st_size
            if len(pairs) == _EXTENTS:
                begin, place = pairs.pop()[0], about.st_size
            pairs.append([begin, place])
        return {
            "path": os.path.realpath(path),
            "size": about.st_size,
            "mode": stat.S_IMODE(about.st_mode),
            "extents": pairs,
            "file": stat.S_ISREG(about.st_mode) and about.st_size > 0,
        }
    finally:
        os.close(number)
