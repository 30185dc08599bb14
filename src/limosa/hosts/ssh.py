"""Machines over SSH as hosts: the user's own machines, which limosa uses and never switches off.

One connection a host, kept for the command's life. Over it runs the link; sockets go by forwarding. What a lab leaves
on a machine is one runtime directory with a mark in it, and the processes that it spawned.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, BinaryIO

from limosa import bundle, tasks
from limosa.errors import LimosaError, MachineError, StateError
from limosa.events import Events
from limosa.hosts import ssh_login
from limosa.hosts.far import claims, frames
from limosa.hosts.files import Arriving
from limosa.hosts.host import Host
from limosa.hosts.keeping import unreachable
from limosa.hosts.kind import LOGINS, HostState, LinkState, Seen, Silence
from limosa.hosts.linked import LinkedHost
from limosa.hosts.linking import Channel, Refused, lost
from limosa.hosts.ssh_login import Machine
from limosa.hosts.wire import Wire
from limosa.spec import resolved

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
        """See the protocol."""
        import asyncssh

        with contextlib.suppress(OSError, asyncssh.Error):
            return await self._process.stdout.read(1 << 18)
        return b""

    def write(self, data: bytes) -> None:
        """See the protocol."""
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)

    async def close(self) -> None:
        """See the protocol."""
        self._process.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await self._process.wait_closed()

    async def last_words(self) -> str:
        """See the protocol."""
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
                    self._connection = await ssh_login.log_in(self._name, self._machine)
            return self._connection

    async def files(self) -> asyncssh.SFTPClient:
        """The session of SFTP on the connection, kept as long as that. Raises asyncssh.Error, StateError."""
        from limosa.hosts import sftp

        async with self._opening_files:
            connection = await self.connection()
            if self._files is None or self._files[0] is not connection:
                with sftp.asking():
                    async with asyncio.timeout(ssh_login.CONNECT_S):
                        self._files = connection, await connection.start_sftp_client()
            return self._files[1]

    def forget_files(self) -> None:
        """The session of SFTP has ended; another is tried when it is next needed."""
        self._files = None

    async def open(self, *, as_root: bool) -> Wire:
        """See the protocol."""
        import asyncssh

        line = shlex.join([*(["sh", "-c", _AS_ROOT, "sh"] if as_root else []), *bundle.command()])
        connection = await self.connection()
        try:
            # A network that is silent leaves the connection open for a while, and whatever is asked of it waiting.
            async with asyncio.timeout(ssh_login.CONNECT_S):
                return _ProcessWire(await connection.create_process(f"exec {line}", encoding=None))
        except (asyncssh.Error, OSError) as error:
            said = getattr(error, "reason", "") or str(error) or "no answer"
            await self.close()
            raise ssh_login.unreachable(self._name, self._machine, said) from error

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection, self._files = self._connection, None, None
        if connection is not None:
            await ssh_login.hang_up(connection)

    def refused(self, said: str, *, as_root: bool) -> LimosaError:
        """See the protocol."""
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
        """See the port."""
        return ssh_login.ssh_line(self._machine, argv)


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
            async with asyncio.timeout(ssh_login.CONNECT_S):
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
        from limosa.hosts import sftp

        if there and await self._by_sftp(lambda client: sftp.send(client, file, there)):
            return
        await super()._send(channel, file, there)

    async def _receive(self, path: str, file: Arriving) -> None:
        from limosa.hosts import sftp

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


class SshKind:
    """The machines over SSH of one lab. *owner* tells it from another lab of the same name; *here* is told to people
    who are in its way there: who commands it, and from where."""

    def __init__(self, lab: resolved.Lab, owner: str, events: Events | None = None, *, here: str = "") -> None:
        ssh_login.load()
        self._lab, self._owner, self._here = lab.name, owner, here
        self._alias = lab.mark or "the path of the lab's state directory"
        self._silence = Silence()
        logins = asyncio.Semaphore(LOGINS)
        self._hosts = {
            host.name: SshHost(host.name, Machine.parse(host.machine), events, logins)
            for host in lab.hosts.values()
            if host.kind == "ssh"
        }

    async def check(self) -> None:
        """Each machine says when it is logged in to."""

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """A machine that answers and bears the lab's mark is on; one that answers without it has nothing of the lab."""
        seen = await tasks.each(self._see(self._hosts[name]) for name in names)
        return dict(zip(names, seen, strict=True))

    async def _see(self, host: SshHost) -> Seen:
        if error := self._silence.recent(host.name):
            return Seen.silent(error)
        try:
            said = await (await host.link()).ask(do="look", lab=self._lab, owner=self._owner)
        except Refused:  # what is in the directory's place is not ours
            return _stranger(host)
        except LimosaError as error:
            return self._silence.keep(host.name, error)
        if not said["ours"]:
            return _stranger(host)
        host.settle(said["runtime"])
        return Seen.on(host)

    async def make(self, name: str) -> Host:
        """Log in and make the runtime directory. Raises StateError where another lab has it."""
        host = self._hosts[name]
        try:
            who = {"owner": self._owner, "by": self._here}
            said = await (await host.link()).ask(do="claim", lab=self._lab, host=name, **who)
        except Refused as error:
            raise MachineError(
                f"the runtime directory on {name} cannot be made: {error.strerror}",
                hint="remove what is in the way there, or give the lab another name",
            ) from error
        if not said["ours"]:
            raise StateError(
                f"{said['runtime']} on {name} belongs to {said['whose']}",
                hint=f"where nothing of it runs there: rm -r {said['runtime']}"
                if said["whose"] == claims.NOBODY
                else "take that lab down from where it was brought up, or give this one another name",
            )
        host.settle(said["runtime"])
        return host

    async def visit(self, name: str) -> Host | None:
        """The machine, if it lets us in."""
        await self._hosts[name].link()
        return self._hosts[name]

    async def ended(self, name: str) -> bool:
        """Sure only of a machine that answers; see the port."""
        return (await self._see(self._hosts[name])).state is HostState.OFF

    async def power_off(self, name: str) -> None:
        """Refused."""
        raise StateError(
            f"host {name} is a machine of its own, which limosa does not switch off",
            hint="limosa stop ends a guest; limosa down ends all that the lab started there",
        )

    async def power_on(self, name: str) -> Host:
        """Refused."""
        raise StateError(
            f"host {name} is a machine of its own, which limosa does not switch on",
            hint="limosa up takes it into the lab again when it answers",
        )

    async def set_links(self, name: str, state: LinkState) -> None:
        """Refused."""
        raise StateError(
            f"{name} is a machine of its own, which limosa does not cut off: it would lose it",
            hint="take its link down by hand",
        )

    async def remove(self) -> dict[str, LimosaError]:
        """End what the lab spawned, and delete its runtime directory, on every machine that bears its mark."""
        failures = await tasks.each(self._remove(host) for host in self._hosts.values())
        return {name: error for name, error in zip(self._hosts, failures, strict=True) if error is not None}

    async def _remove(self, host: SshHost) -> LimosaError | None:
        seen = await self._see(host)
        if seen.state is not HostState.ON:
            return seen.error if seen.state is HostState.NO_ANSWER else None
        try:
            await host.end_spawned()
            await (await host.link()).ask(do="release", lab=self._lab, owner=self._owner)
        except Refused as error:
            return StateError(
                f"{host.runtime_directory} on {host.name} cannot be removed: {error.strerror}",
                hint="unmount it there, then: limosa down",
            )
        except LimosaError as error:
            return error
        return None

    async def left(self) -> list[str]:
        """What bears the lab's mark on the machines that answer."""
        return [line for lines in await tasks.each(map(self._left, self._hosts.values())) for line in lines]

    async def _left(self, host: SshHost) -> list[str]:
        if (await self._see(host)).state is not HostState.ON:
            return []
        processes = [f"process {pid} on {host.name}: {line}" for pid, line in await host.spawned()]
        return [f"{host.runtime_directory} on {host.name}", *processes]

    def remains(self, name: str) -> str:
        """The directory, by each name that it may have."""
        return (
            f"/run/limosa-{self._lab} (or limosa-{self._lab} in $XDG_RUNTIME_DIR, or /tmp/limosa-UID-{self._lab}) "
            f"with the processes that have it in their environment, and interfaces whose alias is {self._alias}"
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await tasks.each(host.close() for host in self._hosts.values())


def _stranger(host: SshHost) -> Seen:
    """A machine that answers, and on which nothing is the lab's."""
    error = StateError(
        f"host {host.name} answers, and has nothing of the lab: it was never in it, or was started anew",
        hint="limosa up takes it into the lab",
    )
    return Seen(HostState.OFF, None, error, "limosa up", host)
