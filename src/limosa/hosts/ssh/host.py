"""A machine over SSH as a host: one connection, over which the link runs, and sockets and files go beside it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from limosa import bundle, tasks
from limosa.errors import LimosaError, MachineError
from limosa.events import Events
from limosa.hosts.host import unreachable
from limosa.hosts.link.far import frames
from limosa.hosts.link.host import LinkedHost
from limosa.hosts.link.local_file import Arriving
from limosa.hosts.link.near import Channel, lost
from limosa.hosts.link.wire import Wire
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.way_in import Machine

if TYPE_CHECKING:
    import asyncssh


# Alpine has doas where others have sudo. In a shell of its own, and one line, as the login's shell may be any.
_AS_ROOT = (
    'for asks in sudo doas; do command -v $asks >/dev/null && exec $asks -n -- "$@"; done; '
    'echo "there is neither sudo nor doas" >&2; exit 127'
)


class _ProcessWire:
    """A wire that is a command on an SSH connection."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process

    async def read(self) -> bytes:
        """What has come over the connection; empty at its end."""
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            return await self._process.stdout.read(1 << 18)
        return b""

    def write(self, data: bytes) -> None:
        """Send it, as far as the connection is still there."""
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)

    async def close(self) -> None:
        """End the command, and wait for that for 2 s at most."""
        self._process.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._process.wait_closed()

    async def last_words(self) -> str:
        """What was said on standard error within 1 s."""
        with contextlib.suppress(Exception):  # they are only the better words of an error that is raised anyway
            async with asyncio.timeout(1):
                return (await self._process.stderr.read()).decode(errors="replace").strip()
        return ""


class SshOpener:
    """Opens wires, and connections to sockets, on one machine; logs in when that is first needed."""

    def __init__(self, name: str, machine: Machine, logins: asyncio.Semaphore | None = None) -> None:
        self._name, self._machine, self._logins = name, machine, logins or asyncio.Semaphore()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._logging_in = asyncio.Lock()
        self.forwards = True
        """Whether the machine's sshd forwards unix sockets; not all are allowed to."""
        self.serves_files = True
        """Whether it has SFTP, and shows by it the files that the link sees."""
        self._files: tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient] | None = None
        self._opening_files = asyncio.Lock()

    async def connection(self) -> asyncssh.SSHClientConnection:
        """The connection, made anew when it was lost. Raises StateError or MachineError."""
        async with self._logging_in:
            if self._connection is None or self._connection.is_closed():
                async with self._logins:
                    self._connection = await way_in.log_in(self._name, self._machine)
            return self._connection

    async def files(self) -> asyncssh.SFTPClient:
        """The session of SFTP on the connection, kept as long as that. Raises asyncssh.Error, StateError."""
        from limosa.hosts.ssh import sftp

        async with self._opening_files:
            connection = await self.connection()
            if self._files is None or self._files[0] is not connection:
                with sftp.asking():
                    async with asyncio.timeout(way_in.CONNECT_S):
                        self._files = connection, await connection.start_sftp_client()
            return self._files[1]

    def forget_files(self) -> None:
        """The session of SFTP has ended; another is tried when it is next needed."""
        self._files = None

    async def open(self, *, as_root: bool) -> Wire:
        """A wire to the far end, which is started on the connection to the machine."""
        import asyncssh

        line = shlex.join([*(["sh", "-c", _AS_ROOT, "sh"] if as_root else []), *bundle.command()])
        connection = await self.connection()
        try:
            # A network that is silent leaves the connection open for a while, and whatever is asked of it waiting.
            async with asyncio.timeout(way_in.CONNECT_S):
                return _ProcessWire(await connection.create_process(f"exec {line}", encoding=None))
        except (asyncssh.Error, OSError) as error:
            said = getattr(error, "reason", "") or str(error) or "no answer"
            await self.close()
            raise way_in.unreachable(self._name, self._machine, said) from error

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._files = self._connection, None, None
        if connection is not None:
            await way_in.hang_up(connection)

    def refused(self, said: str, *, as_root: bool) -> LimosaError:
        """The error for a machine that cannot serve, told apart by what it *said*."""
        last = said.splitlines()[-1] if said else "it said nothing"
        if as_root and "neither sudo nor doas" in said:
            return MachineError(
                f"there is neither sudo nor doas on {self._name}, and some work there takes root",
                hint="log in as root, or install one of them and let it not ask",
            )
        if as_root and "doas" in said:
            return MachineError(
                f"doas on {self._name} does not let limosa work as root without asking: {last}",
                hint='log in as root, or allow it there, as root: echo "permit nopass USER" >>/etc/doas.conf',
            )
        if as_root and "sudo" in said:
            return MachineError(
                f"sudo on {self._name} does not let limosa work as root without asking: {last}",
                hint='log in as root, or allow it there: echo "$USER ALL=(ALL) NOPASSWD: ALL" '
                "| sudo tee /etc/sudoers.d/limosa",
            )
        if "not found" in said or "No such file" in said:
            return MachineError(
                f"there is no python3 on {self._name}, which limosa works through",
                hint="install it there: apt-get install python3, apk add python3 or dnf install python3",
            )
        return MachineError(
            f"python3 on {self._name} could not begin: {last}",
            hint=f"this has to work: {shlex.join(self.interactive(['python3', '--version']))}",
        )

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """The ``ssh`` command line that runs *argv* there with the caller's terminal."""
        return way_in.ssh_line(self._machine, argv)


class SshHost(LinkedHost):
    """A machine over SSH. Its runtime directory is known once it was logged in to.

    *logins* bounds how many of a lab's machines are logged in to at a time.
    """

    def __init__(
        self, name: str, machine: Machine, events: Events | None = None, logins: asyncio.Semaphore | None = None
    ) -> None:
        self._ssh = SshOpener(name, machine, logins)
        super().__init__(name, "", self._ssh, events)

    async def close(self) -> None:
        """Hang up, the login too."""
        await super().close()
        await self._ssh.close()

    async def connect(self, path: str) -> socket.socket:
        """A connected socket to the unix socket *path* there: forwarded by sshd, or over the link where it may not."""
        import asyncssh

        if not self._ssh.forwards:
            return await super().connect(path)
        link = await self.link()  # a host that is off or was lost is noticed, and reached again, in one place
        connection = await self._ssh.connection()
        try:
            async with asyncio.timeout(way_in.CONNECT_S):
                reader, writer = await connection.open_unix_connection(path, encoding=None)
        except (asyncssh.Error, OSError) as error:
            # A connection that breaks now fails alike: it must not be taken for a QEMU that is gone.
            if connection.is_closed() or not isinstance(error, asyncssh.ChannelOpenError):
                raise lost(self.name) from error
            if error.code == asyncssh.OPEN_CONNECT_FAILED:
                raise unreachable(self.name, path) from error
            self._ssh.forwards = False
            return await super().connect(path)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        theirs.setblocking(False)
        link.beside_it(_bridge(reader, writer, ours))
        return theirs

    async def _send(self, channel: Channel, file: BinaryIO, there: str) -> None:
        from limosa.hosts.ssh import sftp

        if there and await self._by_sftp(lambda client: sftp.send(client, file, there)):
            return
        await super()._send(channel, file, there)

    async def _receive(self, path: str, file: Arriving) -> None:
        from limosa.hosts.ssh import sftp

        about = await (await self.link()).ask(do="extents", path=path)
        if about["file"]:
            file.size, file.mode = about["size"], about["mode"]
            whole = await self._by_sftp(lambda client: sftp.receive(client, about["path"], about["extents"], file))
            if whole is True:
                return
        await super()._receive(path, file)

    async def _by_sftp(self, work: Callable[[asyncssh.SFTPClient], Awaitable[bool | None]]) -> bool:
        """Do *work*; return whether it was done, for otherwise the link does it. Raises UnreachableError."""
        import asyncssh

        if not self._ssh.serves_files:
            return False
        client = None
        try:
            client = await self._ssh.files()
            return await work(client) is not False
        except asyncssh.Error as error:
            # Without SFTP, or with another view of the files (a chroot), it is of no use. A connection that breaks
            # now says so on the link, which also knows best what is wrong with the file itself.
            if isinstance(error, asyncssh.SFTPConnectionLost | asyncssh.SFTPNoConnection):
                self._ssh.forget_files()
            unseen = isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPPermissionDenied)
            if unseen or (client is None and isinstance(error, asyncssh.ChannelOpenError | asyncssh.SFTPError)):
                self._ssh.serves_files = False
            return False


async def _bridge(reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes], ours: socket.socket) -> None:
    """Both directions between a forwarded socket and our end of a socket pair."""
    import asyncssh

    loop = asyncio.get_running_loop()

    async def outward() -> None:
        while data := await loop.sock_recv(ours, frames.CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def inward() -> None:
        while data := await reader.read(frames.CHUNK_BYTES):
            await loop.sock_sendall(ours, data)
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_WR)

    with ours:
        try:
            async with tasks.beside(outward(), inward()) as directions:
                await asyncio.wait(directions, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            with contextlib.suppress(OSError, asyncssh.Error):
                writer.close()
