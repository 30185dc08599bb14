"""A wire into a container: one command there, its three streams as websockets of the daemon.

The daemon kills the command with SIGKILL when its websockets break off, as they do when limosa is killed. So the far
end is a child of that command: it outlives the kill for the moment that it takes to see the end of its input and to
end what it had started.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from limosa import bundle, tasks
from limosa.errors import LimosaError, MachineError, StateError
from limosa.hosts.containers.daemon import Daemon, DaemonError, Operation
from limosa.hosts.host import off
from limosa.hosts.link.wire import Wire

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

# A background command of a shell has no input unless it is given one, hence the third descriptor.
_AS_CHILD = """mkdir -p -m 700 -- "$0" || exit
exec 3<&0
"$@" <&3 3<&- &
exec 3<&- </dev/null
wait $!
"""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_OPEN_S = 30.0
_MESSAGE_BYTES = 1 << 18
_LAST_WORDS_S = 1.0


class ExecWire:
    """Implements Wire."""

    def __init__(self, daemon: Daemon, operation: Operation, streams: Sequence[ClientConnection]) -> None:
        self._daemon, self._operation = daemon, operation
        self._in, self._out, self._err = streams
        self._waiting = bytearray()
        self._written = asyncio.Event()
        self._over = False
        self._writer = asyncio.create_task(self._write())

    async def read(self) -> bytes:
        """The next message; empty at the end of the stream."""
        if not self._over and (data := await _message(self._out)):
            return data
        self._over = True
        return b""

    def write(self, data: bytes) -> None:
        """Put it behind what is waiting to be sent."""
        if not self._over:
            self._waiting += data
            self._written.set()

    async def _write(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while await self._written.wait():
                piece = bytes(self._waiting[:_MESSAGE_BYTES])
                del self._waiting[:_MESSAGE_BYTES]
                if not self._waiting:
                    self._written.clear()
                await self._in.send(piece)

    async def close(self) -> None:
        """Break the streams off; the daemon ends the command."""
        self._over = True
        await tasks.ended([self._writer])
        await _break_off((self._in, self._out, self._err))

    async def last_words(self) -> str:
        """What was said on standard error, waited for shortly."""
        return (await self._all(self._err, _LAST_WORDS_S)).decode(errors="replace").strip()

    async def finish(self, timeout_s: float) -> tuple[int, str]:
        """For a command that is no far end: its exit status, and all that it said. Raises LimosaError."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):  # a command that reads nothing may have ended already
            await self._in.send("")  # the end of its input
        out, err = await tasks.together(self._all(stream, timeout_s) for stream in (self._out, self._err))
        ended = await self._daemon.ended(self._operation, 10)
        status = (ended.metadata or {}).get("return", -1)
        return int(status), (out + err).decode(errors="replace")

    async def _all(self, stream: ClientConnection, timeout_s: float) -> bytes:
        said = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while data := await _message(stream):
                    said += data
        return said


async def _message(stream: ClientConnection) -> bytes:
    """What came, or nothing at the end: the daemon ends a stream with an empty text."""
    from websockets.exceptions import ConnectionClosed

    while True:
        try:
            data = await stream.recv()
        except ConnectionClosed:
            return b""
        if isinstance(data, str):
            return b""
        if data:
            return data


async def _break_off(streams: Sequence[ClientConnection]) -> None:
    # Not closed with the usual handshake: the daemon answers it only when the command has ended.
    for stream in streams:
        stream.transport.abort()
    with contextlib.suppress(Exception):  # whatever a broken stream may say, it is closed
        await tasks.each(stream.wait_closed() for stream in streams)


async def execute(daemon: Daemon, container: str, argv: Sequence[str], env: Mapping[str, str] = _ENV) -> ExecWire:
    """Begin *argv* in a running container. Raises DaemonError, or MachineError when its streams cannot be had."""
    from websockets.exceptions import WebSocketException

    operation = await daemon.execute(container, list(argv), env, "/")
    secrets = (operation.metadata or {}).get("fds", {})
    streams: list[ClientConnection] = []
    try:
        async with asyncio.timeout(_OPEN_S):
            for number in ("0", "1", "2"):
                path = f"/1.0/operations/{operation.id}/websocket?secret={secrets[number]}"
                streams.append(await _websocket(daemon, path))
    except (OSError, KeyError, WebSocketException) as error:
        await _break_off(streams)
        # The daemon tells a command that it could not begin by the end of the operation.
        why = (await daemon.ended(operation, 1)).err or error
        raise MachineError(f"{argv[0]} could not be started in container {container}: {why}") from error
    except BaseException:
        await _break_off(streams)
        raise
    return ExecWire(daemon, operation, streams)


async def _websocket(daemon: Daemon, path: str) -> ClientConnection:
    from websockets.asyncio.client import connect, unix_connect

    endpoint = daemon.endpoint
    if endpoint.socket:
        return await unix_connect(
            endpoint.socket, f"ws://{endpoint.flavour.kind}{path}", compression=None, max_size=None, ping_interval=None
        )
    address = f"wss://{urlsplit(endpoint.address).netloc}{path}"
    return await connect(address, ssl=endpoint.tls, compression=None, max_size=None, ping_interval=None, proxy=None)


class ContainerOpener:
    """How wires to one container are opened; implements Opener."""

    def __init__(self, daemon: Daemon, host: str, container: str, runtime_directory: str) -> None:
        self._daemon, self._host, self._container = daemon, host, container
        self._runtime_directory = runtime_directory

    async def open(self, *, as_root: bool) -> Wire:
        """A wire to the far end in the container. Whatever runs there runs as the container's root."""
        try:
            argv = ["sh", "-c", _AS_CHILD, self._runtime_directory, *bundle.command()]
            return await execute(self._daemon, self._container, argv)
        except DaemonError as error:
            instance = await self._daemon.instance(self._container)
            if instance is None or instance.stopped:
                raise off(self._host) from error
            raise
        except MachineError as error:
            # A daemon that is away for a moment is a lost connection; the link is tried again.
            raise StateError(error.message, hint=error.hint) from error

    def refused(self, said: str, *, as_root: bool) -> LimosaError:
        """The error for a container that cannot serve; one that lacks Python *said* so."""
        flavour = self._daemon.flavour
        last = said.splitlines()[-1] if said else "it said nothing"
        if "python3" in last and "not found" in last:
            return MachineError(
                f"python3 is not installed on {self._host}, and limosa works there by it",
                hint=f"install python3 in container {self._container}, as limosa up does where it can",
            )
        return MachineError(
            f"container {self._container} does not let limosa work in it: {last}",
            hint=f"{flavour.client} exec {self._container} -- python3 --version",
        )

    async def close(self) -> None:
        """Nothing to hang up: the daemon's own connection belongs to the kind."""

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The command line of the daemon's own client that runs *argv* there."""
        endpoint = self._daemon.endpoint
        project = ["--project", self._daemon.project] if self._daemon.project != "default" else []
        container = f"{endpoint.remote}:{self._container}" if endpoint.remote else self._container
        return [*client_words(self._daemon), "exec", container, *project, "--", *argv]


def client_words(daemon: Daemon) -> list[str]:
    """How the daemon's own client is called so that it reaches the same daemon."""
    flavour = daemon.flavour
    return ["env", *(f"{name}={value}" for name, value in _variables(daemon)), flavour.client]


def _variables(daemon: Daemon) -> list[tuple[str, str]]:
    import os

    flavour, path = daemon.flavour, daemon.endpoint.socket
    found = []
    if path and path.removesuffix("/unix.socket") not in flavour.directories:
        folder = path.removesuffix("/unix.socket")
        found.append((flavour.socket_variable, path) if folder == path else (flavour.directory_variable, folder))
    if configuration := os.environ.get(flavour.configuration_variable):
        found.append((flavour.configuration_variable, configuration))
    return found
