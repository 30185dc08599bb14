"""A host at the far end of a link: the Host port for everything that is not made of this machine's own namespaces.

A kind says how a wire is opened; the rest is the same for all. A link is opened when it is first needed and kept. When
it is lost, what was under way fails and says so, and the next operation opens another.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from limosa import paths, tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, StateError
from limosa.events import CommandRan, Events
from limosa.hosts.host import HostFacts, output_kept_open, ran, unreachable
from limosa.hosts.link import local_file
from limosa.hosts.link.far import frames
from limosa.hosts.link.near import BeginError, Channel, Link, Refused, lost
from limosa.hosts.link.wire import Wire
from limosa.process import Completed

PATIENCE_S = 3.0
"""How long a host that has just been lost is tried again before it counts as lost."""
_AGAIN_S = 0.2
ALIVE_S = 5.0


class Opener(Protocol):
    """How a kind opens wires to one of its hosts."""

    async def open(self, *, as_root: bool) -> Wire:
        """A wire on which the far end's command line (``bundle.command``) was started; *as_root*: through sudo.

        Raises StateError when the host is off or cannot be reached, MachineError when it lets nobody in.
        """
        ...

    def refused(self, said: str, *, as_root: bool) -> LimosaError:
        """The error for a far end that ended before it began and said this."""
        ...

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* there with the caller's terminal."""
        ...


class LinkedHost:
    """Implements the Host port over links that *opener* opens. ``close`` hangs up; the host and its guests go on."""

    def __init__(self, name: str, runtime_directory: str, opener: Opener, events: Events | None = None) -> None:
        self._name, self._runtime_directory, self._opener = name, runtime_directory, opener
        self._events = events or Events()
        self._links: dict[bool, Link] = {}
        self._opening = {False: asyncio.Lock(), True: asyncio.Lock()}
        self._lost_s = float("-inf")

    @property
    def name(self) -> str:
        """The host's name in the lab file, or ``client``."""
        return self._name

    @property
    def python(self) -> str:
        """The Python 3 of the host's own path."""
        return "python3"

    @property
    def runtime_directory(self) -> str:
        """The lab's directory there, as it was given or ``settle`` has told."""
        return self._runtime_directory

    def settle(self, runtime_directory: str) -> None:
        """The runtime directory, where only the host itself can say which; for what the lab spawns from now on."""
        self._runtime_directory = runtime_directory
        for link in self._links.values():
            link.send_request(do="settle", runtime=runtime_directory)

    async def link(self, *, as_root: bool = False) -> Link:
        """The link, opened if need be. *as_root*: where the login is not root's, another one, through sudo."""
        if as_root and (await self.link()).about["uid"] == 0:
            as_root = False
        async with self._opening[as_root]:
            found = self._links.get(as_root)
            if found is not None and found.lost is None:
                return found
            if found is not None:
                self._lost_s = time.monotonic()
                del self._links[as_root]
                await found.close()
            self._links[as_root] = opened = await self._open(as_root)
            return opened

    async def _open(self, as_root: bool) -> Link:
        patience = Deadline(self._lost_s + PATIENCE_S)
        while True:
            try:
                wire = await self._opener.open(as_root=as_root)
                return await Link.open(wire, self.name, self.runtime_directory)
            except BeginError as error:
                if str(error):
                    raise self._opener.refused(str(error), as_root=as_root) from error
                if patience.passed:  # it ended without a word: the connection did
                    raise lost(self.name) from error
            except StateError:
                if patience.passed:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Hang up. What was not spawned to be kept is killed there."""
        links, self._links = list(self._links.values()), {}
        await tasks.each(link.close() for link in links)

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
        as_root: bool = False,
    ) -> Completed:
        """Run *argv* to its end; see the port."""
        work = self._run(argv, stdin, env, as_root)
        try:
            return await ran(self, argv, work, self._events, check=check, timeout_s=timeout_s)
        except Refused as error:
            raise self._not_started(argv, error) from error

    async def _run(
        self, argv: Sequence[str], stdin: bytes, env: Mapping[str, str] | None, as_root: bool
    ) -> tuple[int, bytes, bytes]:
        link = await self.link(as_root=as_root)
        with link.channel(collect=True) as channel:
            channel.request(do="run", argv=list(argv), env=dict(env or {}))
            channel.feed(stdin)
            returncode = int((await channel.answer())["exit"])
            await channel.until(lambda: {1, 2} <= channel.ended or bool(channel.answers))
            if channel.answers:  # only the far end can tell slow output from output that never ends
                raise output_kept_open(self, argv[0])
            channel.finished = True
            return returncode, b"".join(channel.parts[1]), b"".join(channel.parts[2])

    def _not_started(self, argv: Sequence[str], error: OSError) -> MachineError:
        if error.errno == errno.ENOENT:
            return MachineError(
                f"the program {argv[0]} is not installed on {self.name}",
                hint="limosa doctor says which package has it",
            )
        return MachineError(f"{argv[0]} could not be started on {self.name}: {error.strerror}")

    async def spawn(self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        """Start a process that outlives the caller; see the port."""
        link = await self.link()
        try:
            said = await link.ask(do="spawn", argv=list(argv), env=dict(env or {}), log=log)
        except Refused as error:
            raise self._not_started(argv, error) from error
        self._events.emit(CommandRan(host=self.name, argv=tuple(argv), returncode=0, duration_s=0.0))
        return int(said["pid"])

    async def connect(self, path: str) -> socket.socket:
        """A connected socket to the unix socket *path* there; see the port."""
        link = await self.link()
        channel = link.channel()
        try:
            channel.request(do="connect", path=path)
            await channel.answer()
        except BaseException as error:
            channel.__exit__()
            if isinstance(error, Refused):
                raise unreachable(self.name, path) from error
            raise
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        theirs.setblocking(False)
        link.beside_it(_bridge(channel, ours))
        return theirs

    async def put(self, local: Path, path: str) -> None:
        """Copy a local file there; see the port. It appears when it is whole."""
        try:
            with local.open("rb", buffering=0) as file:
                await self._put(file, path)
        except Refused as error:
            raise LimosaError(f"{path} on {self.name} cannot be written: {error.strerror}") from error
        except OSError as error:
            raise LimosaError(f"{local} cannot be read: {error.strerror}") from error

    async def _put(self, file: BinaryIO, path: str) -> None:
        about = os.fstat(file.fileno())
        with (await self.link()).channel() as channel:
            channel.request(do="write", path=path, mode=stat.S_IMODE(about.st_mode) & 0o777)
            await self._send(channel, file, (await channel.answer())["path"])
            channel.send(frames.END, 0, frames.NUMBER.pack(about.st_size))
            await channel.answer()
            channel.finished = True

    async def _send(self, channel: Channel, file: BinaryIO, there: str) -> None:
        """The data of *file*. *there* is where it is written: empty for what is no file that another could write."""
        at = 0
        for place, data in local_file.pieces(file.fileno()):
            await channel.until(lambda: channel.credit > 0 or bool(channel.answers))
            if channel.answers:  # a full disk, say: the answer to the end tells
                break
            if place != at:
                channel.send(frames.SEEK, 0, frames.NUMBER.pack(place))
            channel.credit -= len(data)
            channel.send(frames.DATA, 0, data)
            at = place + len(data)

    async def get(self, path: str, local: Path) -> None:
        """Copy a file of the host here, holes kept; see the port. It appears when it is whole."""
        try:
            with local_file.arriving(local) as file:
                await self._receive(path, file)
        except Refused as error:
            raise LimosaError(f"{path} on {self.name} cannot be read: {error.strerror}") from error
        except OSError as error:
            raise paths.cannot_write(error, local) from error

    async def _receive(self, path: str, file: local_file.Arriving) -> None:
        with (await self.link()).channel() as channel:
            channel.request(do="read", path=path)
            file.mode, at = (await channel.answer())["mode"], 0
            while (frame := await channel.next()) is not None:
                kind, payload = frame
                if kind == frames.SEEK:
                    at = frames.NUMBER.unpack(payload)[0]
                else:
                    file.write(payload, at)
                    at += len(payload)
            file.size = (await channel.answer())["size"]
            channel.finished = True

    async def facts(self) -> HostFacts:
        """What the host is, asked now."""
        return msgspec.convert(await (await self.link()).ask(do="facts"), HostFacts)

    async def alive(self) -> bool:
        """Whether the host answers within a few seconds."""
        try:
            async with asyncio.timeout(ALIVE_S):
                await (await self.link()).ping()
        except (LimosaError, TimeoutError):
            return False
        return True

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* there, as the kind reaches the host."""
        return self._opener.interactive(argv)

    async def spawned(self) -> list[tuple[int, str]]:
        """What the lab has spawned there and still runs: pid and command line."""
        said = await (await self.link()).ask(do="marked", runtime=self.runtime_directory)
        return [(int(pid), str(line)) for pid, line in said["marked"]]

    async def end_spawned(self, grace_s: float = 2.0) -> None:
        """End all that the lab spawned there: SIGTERM, grace, SIGKILL. Raises LimosaError when something stays."""
        for number, patience_s in ((15, grace_s), (9, 10.0)):
            async for _ in Deadline.after(patience_s).ticks(0.05):
                link = await self.link()
                if not (await link.ask(do="signal", runtime=self.runtime_directory, signal=number))["marked"]:
                    return
        left = ", ".join(f"{pid} ({line[:80]})" for pid, line in await self.spawned())
        raise LimosaError(f"these processes of the lab on {self.name} do not end: {left}")


async def _bridge(channel: Channel, ours: socket.socket) -> None:
    """Both directions between a connection at the far end and our end of a socket pair, until both are over."""
    loop = asyncio.get_running_loop()

    async def outward() -> None:
        while data := await loop.sock_recv(ours, frames.CHUNK_BYTES):
            await channel.until(lambda: channel.credit > 0 or 0 in channel.ended)
            if 0 in channel.ended:
                return
            channel.credit -= len(data)
            channel.send(frames.DATA, 0, data)
        channel.send(frames.END, 0)

    async def inward() -> None:
        while (frame := await channel.next()) is not None:
            await loop.sock_sendall(ours, frame[1])
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)

    with ours, channel:
        async with tasks.beside(outward(), inward()) as directions:
            # A socket that was closed here, or a lost link, ends both: nobody is left to tell.
            await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
