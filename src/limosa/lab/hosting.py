"""Making the lab's hosts, finding them again, and proving that nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.hosts.keeping import Keeper, off
from limosa.hosts.namespaces import CLIENT, Fabric, NamespaceHost, make_fabric, make_host
from limosa.lab.record import LabDirectory, Record
from limosa.network import links
from limosa.process import reap
from limosa.spec import resolved

LOG_MOUNT = "/run/limosa/log"
"""Where every host sees the lab's log directory."""


@dataclass(slots=True)
class Hosting:
    """The hosts of one lab, as they are now."""

    lab: resolved.Lab
    directory: LabDirectory
    record: Record
    events: Events
    client: NamespaceHost | None = None
    hosts: dict[str, NamespaceHost] = field(default_factory=dict)
    lifeline: tuple[int, int] | None = None
    """Both ends of the pipe whose closing ends an ephemeral lab."""

    async def find(self) -> None:
        """Attach to what is running, by the record."""
        self.client = await self._alive(CLIENT, self.record.client_pid)
        for name in self.lab.hosts:
            host = await self._alive(name, self.record.hosts.get(name, 0)) if self.client else None
            if host is not None:
                self.hosts[name] = host

    async def reload(self) -> None:
        """Look again, if another command changed the record since it was read."""
        record = self.directory.record()
        if record is not None and record != self.record:
            self.record, self.client, self.hosts = record, None, {}
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
        remove = str(self.directory.path) if self.lifeline else ""
        lifeline = self.lifeline[0] if self.lifeline else None
        log = self.directory.log / "hosts.log"
        fabric = Fabric(self.directory.mark, self.record.rootless, log, lifeline, remove)
        self.client, outer = await make_fabric(fabric, self.events)
        self.record.outer_pid, self.record.client_pid = outer, self.client.keeper.pid
        self.record.hosts, self.record.off, self.record.cut = {}, [], []
        self.hosts = {}
        self.directory.save(self.record)
        await links.make_fabric(self.client, self.lab)

    async def make(self, name: str) -> None:
        """Make one host and join it to the fabric; a half-made one is ended again."""
        client = self.the_client()
        binds = {s.mount_point: self.directory.storage(s) for s in self.lab.storage.values()}
        binds[LOG_MOUNT] = self.directory.log
        host = await make_host(client, self.directory.mark, name, binds, self.directory.log / "hosts.log")
        try:
            await links.join(client, host, inner_pid(host.keeper.pid, client.keeper.pid), self.lab)
        except BaseException:
            await end_process(host.keeper.pid)
            raise
        self.hosts[name] = host
        self.record.hosts[name] = host.keeper.pid
        self.record.off = [n for n in self.record.off if n != name]
        self.record.cut = [n for n in self.record.cut if n != name]
        self.directory.save(self.record)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: the host's first process is killed, and with it everything on the host."""
        host = self.host(name)
        await end_process(host.keeper.pid)
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
        """End the fabric, and with it every host; then prove that nothing is left. Raises LimosaError otherwise."""
        for pid in (self.client.keeper.pid if self.client else 0, self.record.outer_pid if self.client else 0):
            if pid:
                await end_process(pid)
        if self.client:
            reap(self.record.outer_pid)
        self.close_lifeline()
        self.client, self.hosts = None, {}
        await prove_gone(self.directory)

    def close_lifeline(self) -> None:
        """Let go of the pipe; the fabric of an ephemeral lab ends."""
        for end in self.lifeline or ():
            os.close(end)
        self.lifeline = None


def inner_pid(pid: int, namespace_of: int) -> int:
    """The pid of process *pid* (as seen here) as it is seen in the pid namespace of process *namespace_of*."""
    depth = len(_namespace_pids(namespace_of))
    return _namespace_pids(pid)[depth - 1]


def _namespace_pids(pid: int) -> list[int]:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return [int(word) for word in line.split()[1:]]
    raise LimosaError("this kernel does not tell pids across namespaces (no NSpid in /proc)")


async def end_process(pid: int, patience_s: float = 10.0) -> None:
    """SIGKILL *pid* and wait until it has ended. One that is gone already is no error."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, lambda: None if ended.done() else ended.set_result(None))
        try:
            async with asyncio.timeout(patience_s):
                await ended
        except TimeoutError as error:
            raise LimosaError(f"process {pid} does not end, not even by SIGKILL") from error
        finally:
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)


def marked_processes(directory: LabDirectory) -> list[int]:
    """The pids of this machine's processes that bear the lab's mark: keepers say ``--lab DIRECTORY``.

    Everything else of a lab is a descendant of a keeper inside its pid namespaces, and ends with it.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"--lab" in words and words[words.index(b"--lab") + 1] == os.fsencode(directory.path):
                    found.append(int(entry.name))
    return found


async def prove_gone(directory: LabDirectory) -> None:
    """Raise LimosaError unless every process of the lab is gone, and with them namespaces, mounts and links."""
    async for _ in Deadline.after(5).ticks(0.01):
        if not (left := marked_processes(directory)):
            return
    raise LimosaError(f"lab {directory.name} is not wholly gone: processes {', '.join(map(str, left))} are left")
