"""The controller's side of a keeper: find it, ask it to start processes, wait for them."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.hosts.host import off
from limosa.hosts.namespaces.marks import bears_mark, is_first, pids, runs_guest

KEEPER_SOCKET = "/run/limosa/keeper.sock"

_WHOLE = "/run/limosa/whole"
"""A file of the keeper's own tmpfs: the host was made to its end. It goes with the host, and a record can be lost."""

READY_S = 20.0
"""How long a keeper may take to furnish its namespaces."""
_AGAIN_S = 0.002
"""How soon a busy listener is asked again."""

ACCEPT_S = 10.0
"""How long a listener may have no room for another connection: QEMU serves one, and two may wait for their turn."""


class Started:
    """A process that a keeper started: ``pid`` is as seen on that host."""

    def __init__(self, pid: int, connection: socket.socket, rest: bytes) -> None:
        self.pid, self._socket, self._rest = pid, connection, rest

    async def wait(self) -> int:
        """Its exit status, negative for a signal. Raises StateError when the host goes away first."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._rest:
            with contextlib.suppress(ConnectionResetError):
                if data := await loop.sock_recv(self._socket, 4096):
                    self._rest += data
                    continue
            raise StateError("the host went away while a process ran on it", hint="limosa status shows which")
        return int(msgspec.json.decode(self._rest.split(b"\n", 1)[0])["exit"])

    def close(self) -> None:
        """Hang up: the process is killed unless it was started with ``keep``."""
        self._socket.close()


class Keeper:
    """A keeper by its pid as seen here, the name of its host and the directory of its lab, which it bears as its mark.

    Pids are used again, by other programs and by other labs' keepers: each request first proves who answers.
    """

    def __init__(self, pid: int, host: str, lab: str) -> None:
        self.pid, self.host, self.lab = pid, host, lab

    async def connect(self, path: str) -> socket.socket:
        """A connected stream socket to *path* inside the keeper's mount namespace. Raises OSError."""
        deadline = Deadline.after(ACCEPT_S)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            while True:
                # Not sock_connect: a unix socket whose listener is behind answers "again", which is not "under way".
                try:
                    connection.connect(f"/proc/{self.pid}/root{path}")
                except BlockingIOError:
                    if deadline.passed:
                        raise
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return connection
        except BaseException:
            connection.close()
            raise

    async def alive(self) -> bool:
        """Whether the process with this pid is this host's keeper, and not a later one with the same pid."""
        try:
            (await self._reach()).close()
        except OSError:
            return False
        return True

    def mark_whole(self) -> None:
        """Say on the host itself that it has all that it was to get. Raises LimosaError when it ended meanwhile."""
        try:
            Path(f"/proc/{self.pid}/root{_WHOLE}").touch()
        except OSError as error:
            raise off(self.host) from error

    def whole(self) -> bool:
        """Whether the host was made to its end; one in which a guest's process runs was, whatever it says.

        Of its first process alone: the ``unshare`` that waits for it sees another host's files, and outlives it a bit.
        """
        if not is_first(self.pid):
            return False
        try:
            if Path(f"/proc/{self.pid}/root{_WHOLE}").exists():
                return True
        except OSError:  # of another user, or gone
            return False
        return any(runs_guest(pid, self.pid) for pid in pids())

    async def _reach(self) -> socket.socket:
        """A connection to the keeper itself. Raises OSError when the pid is somebody else's by now."""
        connection = await self.connect(KEEPER_SOCKET)
        try:
            if peer_pid(connection) != self.pid or not bears_mark(self.pid, self.lab, self.host):
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"process {self.pid} is not the keeper of {self.host}")
        except BaseException:
            connection.close()
            raise
        return connection

    async def start(
        self, argv: Sequence[str], env: Mapping[str, str], fds: Sequence[int] = (), *, keep: bool = False, log: str = ""
    ) -> Started:
        """Start *argv* there; *fds* become its 0, 1, 2, ... Raises StateError (host off) or OSError."""
        try:
            connection = await self._reach()
        except OSError as error:
            raise off(self.host) from error
        try:
            asked = {"do": "start", "argv": list(argv), "env": dict(env), "keep": keep, "log": log}
            # The standard library's encoder also takes words that are not valid Unicode, as file names may be.
            try:
                await self._send(connection, json.dumps(asked).encode() + b"\n", fds)
            except ConnectionError as error:
                raise off(self.host) from error
            answer, _, rest = (await self._line(connection)).partition(b"\n")
            reply = msgspec.json.decode(answer)
            if "pid" not in reply:
                raise OSError(reply.get("errno", 0), reply.get("error", ""))
        except BaseException:
            connection.close()
            raise
        return Started(reply["pid"], connection, rest)

    async def _send(self, connection: socket.socket, request: bytes, fds: Sequence[int]) -> None:
        # The buffer of a new connection holds the head of any request, so this first send does not block.
        sent = connection.sendmsg([request[:60000]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
        if sent < len(request):
            await asyncio.get_running_loop().sock_sendall(connection, request[sent:])

    async def _line(self, connection: socket.socket) -> bytes:
        text = b""
        while b"\n" not in text:
            with contextlib.suppress(ConnectionResetError):
                if data := await asyncio.get_running_loop().sock_recv(connection, 4096):
                    text += data
                    continue
            raise off(self.host)
        return text


def peer_pid(connection: socket.socket) -> int:
    """The pid of the process that listens at the other end, as seen from here."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def await_ready(ready: socket.socket, host: str) -> int:
    """The pid, as seen from here, of the keeper that says "ready" on its end of *ready*.

    Raises LimosaError with the keeper's own words when it could not furnish its namespaces.
    """
    ready.setblocking(False)
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(ready, _finish, readable)
    try:
        async with asyncio.timeout(READY_S):
            await readable
    except TimeoutError as error:
        raise LimosaError(
            f"the namespaces of host {host} were not ready within {READY_S:g} s",
            hint="what was begun is ended again; limosa up makes it anew",
        ) from error
    finally:
        loop.remove_reader(ready)
    text, ancillary, _, _ = ready.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
    if text != b"ready\n":
        said = text.decode(errors="replace").strip() or "its process ended at once"
        raise LimosaError(f"the namespaces of host {host} could not be made: {said}")
    for _level, kind, payload in ancillary:
        if kind == socket.SCM_CREDENTIALS:
            return int(struct.unpack("3i", payload)[0])
    raise LimosaError(f"host {host}: the kernel gave no credentials for its first process")


def ready_pair() -> tuple[socket.socket, socket.socket]:
    """A socket pair whose first end receives the credentials of whoever writes to the second."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs
