"""Making the lab's hosts, finding them again, and proving that nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.hosts.keeping import Keeper, bears_mark, marked, off
from limosa.hosts.namespaces import CLIENT, Fabric, NamespaceHost, make_fabric, make_host
from limosa.lab.record import LabDirectory, Record
from limosa.network import links
from limosa.spec import resolved

LOG_MOUNT = "/run/limosa/log"
"""Where every host sees the lab's log directory."""


class Hosting(msgspec.Struct):
    """The hosts of one lab, as they are now."""

    lab: resolved.Lab
    directory: LabDirectory
    record: Record
    events: Events
    client: NamespaceHost | None = None
    hosts: dict[str, NamespaceHost] = msgspec.field(default_factory=dict)
    lifeline: tuple[int, int] | None = None
    """Both ends of the pipe whose closing ends an ephemeral lab."""
    made_outer: int = 0
    """The fabric's ``unshare`` when this process made it: a child that this process has to collect."""

    async def find(self) -> None:
        """Attach to what is running, by the record."""
        self.client = await self._alive(CLIENT, self.record.client_pid)
        for name in self.lab.hosts:
            host = await self._alive(name, self.record.hosts.get(name, 0)) if self.client else None
            if host is not None:
                self.hosts[name] = host

    async def reload(self) -> None:
        """Look again: another command may have changed the record, or a host may have died, since it was read."""
        self.record = recorded(self.directory, self.events) or self.record
        self.client, self.hosts = None, {}
        await self.find()

    async def _alive(self, name: str, pid: int) -> NamespaceHost | None:
        keeper = Keeper(pid, name, self.directory.mark)
        if pid and await keeper.alive():
            return NamespaceHost(name, keeper, self.record.rootless, self.events)
        return None

    def host(self, name: str) -> NamespaceHost:
        """A host that is on. Raises StateError."""
        if name not in self.hosts:
            raise off(name)
        return self.hosts[name]

    def the_client(self) -> NamespaceHost:
        """The fabric. Raises StateError when the lab is down."""
        if self.client is None:
            raise StateError(f"lab {self.lab.name} is down", hint=f"limosa up {self.lab.file}".strip())
        return self.client

    async def converge(self) -> list[str]:
        """Make what is missing; return the names of what was made. What was powered off on purpose stays off."""
        made: list[str] = []
        if self.client is None:
            await self._make_client()
            made.append(CLIENT)
        missing = [n for n in self.lab.hosts if n not in self.hosts and n not in self.record.off]
        for name in missing:
            await self.make(name)
            made.append(name)
        return made

    async def _make_client(self) -> None:
        await end_marked(self.directory.mark)  # what a command made that was killed before it could record it
        self.collect()
        remove = self.directory.mark if self.lifeline else ""
        lifeline = self.lifeline[0] if self.lifeline else None
        log = self.directory.log / "hosts.log"
        shared = {self.directory.log, *(self.directory.storage(s) for s in self.lab.storage.values())}
        below_run = tuple(sorted(str(path) for path in shared if path.is_relative_to("/run")))
        fabric = Fabric(self.directory.mark, self.record.rootless, log, lifeline, remove, below_run)
        self.record.outer_pid, self.record.client_pid = 0, 0
        self.record.hosts, self.record.off, self.record.cut = {}, [], []
        self.hosts = {}
        self.client, self.made_outer = await make_fabric(fabric, self.events)
        self.record.outer_pid, self.record.client_pid = self.made_outer, self.client.keeper.pid
        self.directory.save(self.record)
        await links.make_fabric(self.client, self.lab)

    async def make(self, name: str) -> None:
        """Make one host and join it to the fabric; a half-made one is ended again."""
        client, mark = self.the_client(), self.directory.mark
        if await end_marked(mark, name) or name in self.record.hosts:
            await links.part(client, self.lab, name)
        binds = {s.mount_point: self.directory.storage(s) for s in self.lab.storage.values()}
        binds[LOG_MOUNT] = self.directory.log
        host = await make_host(client, mark, name, binds, self.directory.log / "hosts.log")
        try:
            await links.join(client, host, inner_pid(host.keeper.pid, client.keeper.pid), self.lab)
        except BaseException:
            await end_marked(mark, name)
            raise
        self.hosts[name] = host
        self.record.hosts[name] = host.keeper.pid
        self.record.off = [n for n in self.record.off if n != name]
        self.record.cut = [n for n in self.record.cut if n != name]
        self.directory.save(self.record)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: the host's first process is killed, and with it everything on the host."""
        self.host(name)
        await end_marked(self.directory.mark, name)
        del self.hosts[name]
        self.record.off = sorted({*self.record.off, name})
        self.directory.save(self.record)

    async def cut(self, name: str) -> None:
        """Take the host's links down, on every network."""
        self.host(name)
        await links.set_link(self.the_client(), self.lab, name, "down")
        self.record.cut = sorted({*self.record.cut, name})
        self.directory.save(self.record)

    async def restore(self, name: str) -> None:
        """Undo ``cut`` and ``power_off``."""
        if name not in self.hosts:
            await self.make(name)
            return
        await links.set_link(self.the_client(), self.lab, name, "up")
        self.record.cut = [n for n in self.record.cut if n != name]
        self.directory.save(self.record)

    async def down(self) -> None:
        """End all that bears the lab's mark, recorded or not; then prove that nothing is left.

        Raises LimosaError otherwise.
        """
        await end_marked(self.directory.mark)
        self.collect()
        self.close_lifeline()
        self.client, self.hosts = None, {}
        await prove_gone(self.directory)

    def collect(self) -> None:
        """Have the kernel forget the ended ``unshare`` that this process started."""
        with contextlib.suppress(ChildProcessError):
            if self.made_outer:
                os.waitid(os.P_PID, self.made_outer, os.WEXITED | os.WNOHANG)
        self.made_outer = 0

    def close_lifeline(self) -> None:
        """Let go of the pipe; the fabric of an ephemeral lab ends."""
        for end in self.lifeline or ():
            os.close(end)
        self.lifeline = None


def recorded(directory: LabDirectory, events: Events) -> Record | None:
    """The lab's record; from what runs when it is damaged. None for a lab that is down."""
    try:
        return directory.record()
    except StateError as error:
        events.note(f"{error.message}; made again from what runs", level="warning")
        return observed(directory.mark)


def observed(mark: str) -> Record | None:
    """What the processes themselves tell of a lab. Which hosts were off or cut on purpose is not to be seen."""
    keepers: dict[str, int] = {}
    outer, ephemeral = 0, False
    for pid in marked(mark):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            name = words[words.index("--host") + 1]
            if Path(words[0]).name != "unshare":
                keepers[name] = pid
            elif name == CLIENT:
                outer, ephemeral = pid, "--lifeline" in words
    if CLIENT not in keepers:
        return None
    client = keepers.pop(CLIENT)
    rootless = Path(f"/proc/{client}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    return Record(rootless=rootless, ephemeral=ephemeral, outer_pid=outer, client_pid=client, hosts=keepers)


def inner_pid(pid: int, namespace_of: int) -> int:
    """The pid of process *pid* (as seen here) as it is seen in the pid namespace of process *namespace_of*.

    Raises LimosaError when one of them has ended.
    """
    try:
        return _namespace_pids(pid)[len(_namespace_pids(namespace_of)) - 1]
    except OSError as error:
        raise LimosaError("a host ended while it was being made", hint="limosa up makes it again") from error


def _namespace_pids(pid: int) -> list[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    raise LimosaError("this kernel does not tell pids across namespaces (no NSpid in /proc)")


async def end_marked(mark: str, host: str = "") -> bool:
    """End every process that bears the lab's mark (*host*: those of one host); whether there was any.

    Nothing else can be hit, whatever a record says: the mark is read after the process is held by a descriptor, so
    that its pid cannot pass to another one in between. Raises LimosaError.
    """
    found = marked(mark, host)
    for pid in found:
        await _end(pid, lambda pid=pid: bears_mark(pid, mark, host))  # type: ignore[misc]
    return bool(found)


async def _end(pid: int, proof: Callable[[], bool], patience_s: float = 10.0) -> None:
    """SIGKILL *pid* if *proof* holds, and wait until it has ended. One that is gone already is no error."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not proof():
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
        try:
            async with asyncio.timeout(patience_s):
                await ended
        finally:
            loop.remove_reader(descriptor)
    except PermissionError as error:
        raise LimosaError(
            f"process {pid} of this lab belongs to another user", hint="ask its owner, or root"
        ) from error
    except TimeoutError as error:
        raise LimosaError(f"process {pid} does not end, not even by SIGKILL") from error
    finally:
        with contextlib.suppress(ChildProcessError):  # it is its own parent's business, unless that is this process
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222
        os.close(descriptor)


async def prove_gone(directory: LabDirectory) -> None:
    """Raise LimosaError unless every process of the lab is gone, and with them namespaces, mounts and links."""
    async for _ in Deadline.after(5).ticks(0.01):
        if not (left := marked(directory.mark)):
            return
    raise LimosaError(f"lab {directory.name} is not wholly gone: processes {', '.join(map(str, left))} are left")
