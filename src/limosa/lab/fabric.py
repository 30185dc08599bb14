"""Hosts made of namespaces, as a lab uses them: made, found again by the record, and proved to be gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, UnreachableError
from limosa.events import Events
from limosa.hosts.host import CLIENT, Host
from limosa.hosts.kind import LinkState, Seen
from limosa.hosts.namespaces.first_process import Keeper, bears_mark, marked
from limosa.hosts.namespaces.host import Fabric, NamespaceHost, make_fabric, make_host
from limosa.lab import place
from limosa.lab.record import LabDirectory, Record
from limosa.network import ip
from limosa.spec import resolved


class NamespaceKind(msgspec.Struct):
    """The fabric of one lab and the hosts in it. Keeps to ``hosts.kind.Kind``."""

    lab: resolved.Lab
    directory: LabDirectory
    record: Record
    events: Events
    client: NamespaceHost | None = None
    lifeline: tuple[int, int] | None = None
    """Both ends of the pipe whose closing ends an ephemeral lab."""
    made_outer: int = 0
    """The fabric's ``unshare`` when this process made it: a child that this process has to collect."""

    @property
    def names(self) -> list[str]:
        """The lab's hosts of this kind."""
        return [name for name, host in self.lab.hosts.items() if not host.traits.own_system]

    async def check(self) -> None:
        """What the kernel forbids is said when the fabric is made."""

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """Attach to the fabric and to the hosts that are on: by the record, and by the processes where it lacks one.

        Whether one is off is sure: the kernel ends all of a host with its first process.
        """
        found = await self._recorded(names)
        if len(found) <= len(names) and (seen := observed(self.directory.mark)):
            self._correct(seen)
            found = await self._recorded(names)
        self.client = found.pop(CLIENT, None)
        return {name: self._see(name, found if self.client else {}) for name in names}

    def _see(self, name: str, found: dict[str, NamespaceHost]) -> Seen:
        if name in found:
            return Seen.on(found[name])
        mark = self.directory.mark
        whole = [pid for pid in marked(mark, name) if Keeper(pid, name, mark).whole()]
        if not whole:  # what a killed command left half made runs nothing
            return Seen.off(name)
        return Seen.silent(
            UnreachableError(
                f"host {name} does not answer, and its first process ({whole[0]}) is there",
                hint="limosa down ends it, with the lab",
            )
        )

    async def _recorded(self, names: Collection[str]) -> dict[str, NamespaceHost]:
        """What of these is on record and alive; ``client`` is the fabric."""
        pids = {CLIENT: self.record.client_pid, **{name: self.record.hosts.get(name, 0) for name in names}}
        keepers = [Keeper(pid, name, self.directory.mark) for name, pid in pids.items() if pid]
        alive = [keeper for keeper in keepers if await keeper.alive()]
        return {k.host: NamespaceHost(k.host, k, _is_rootless(k.pid), self.events) for k in alive}

    def _correct(self, seen: Record) -> None:
        """Have the record say what was *seen* to run, where the two differ."""
        self.record.client_pid, self.record.outer_pid = seen.client_pid, seen.outer_pid
        self.record.rootless = seen.rootless
        self.record.hosts |= seen.hosts
        self.record.off = [name for name in self.record.off if name not in seen.hosts]

    async def make_client(self) -> NamespaceHost:
        """The fabric, with its bridges; whatever an earlier one left is ended before.

        It is not kept before ``keep_client`` says so: one that a killed command left is ended and made anew.
        """
        await end_marked(self.directory.mark)  # what a command made that was killed before it could record it
        self.collect()
        alone = len(self.names) == len(self.lab.hosts)  # else the directory is needed to take the others away
        remove = self.directory.mark if self.lifeline and alone else ""
        lifeline = self.lifeline[0] if self.lifeline else None
        log = self.directory.log / "hosts.log"
        shared = {self.directory.log, *(Path(source) for source in self._binds().values())}
        below_run = tuple(sorted(str(path) for path in shared if path.is_relative_to("/run")))
        self.record.outer_pid, self.record.client_pid = 0, 0
        self.record.hosts, self.record.off, self.record.cut = {}, [], []
        hold = place.take(self.directory)
        try:
            fabric = Fabric(self.directory.mark, self.record.rootless, log, lifeline, hold, remove, below_run)
            self.client, self.made_outer = await make_fabric(fabric, self.events)
        finally:
            os.close(hold)
        await ip.make_fabric(self.client, self.lab)
        return self.client

    def keep_client(self) -> None:
        """The fabric has all that it was to get."""
        assert self.client is not None, "it is made before it is kept"
        self.client.keeper.mark_whole()
        self.record.outer_pid, self.record.client_pid = self.made_outer, self.client.keeper.pid
        self.directory.save(self.record)

    def _binds(self) -> dict[str, Path]:
        """Where each host sees which directory of this machine."""
        stores = [storage for storage in self.lab.storage.values() if storage.kind == "directory"]
        binds = {s.mount_point: self.directory.storage(s) for s in stores if _needs_bind(s)}
        return {**binds, "/run/limosa/log": self.directory.log}

    async def visit(self, name: str) -> Host | None:
        """The host where it is on; it takes nothing but this machine to make it."""
        return (await self.find([name]))[name].host

    async def make(self, name: str) -> Host:
        """Make one host and join it to the fabric; a half-made one is ended again."""
        client, mark = self.client, self.directory.mark
        assert client is not None, "the fabric is made before the hosts in it"
        if await end_marked(mark, name) or name in self.record.hosts or not self.made_outer:
            await ip.part(client, self.lab, name)
        try:
            host = await make_host(client, mark, name, self._binds(), self.directory.log / "hosts.log")
            await ip.join(client, host, inner_pid(host.keeper.pid, client.keeper.pid), self.lab)
            host.keeper.mark_whole()
        except BaseException:
            await end_marked(mark, name)
            raise
        self.record.hosts[name] = host.keeper.pid
        return host

    async def ended(self, name: str) -> bool:
        """The kernel ends all of a host with its first process."""
        return not marked(self.directory.mark, name)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: the host's first process is killed, and with it everything on the host."""
        await end_marked(self.directory.mark, name)

    async def power_on(self, name: str) -> Host:
        """Make it again."""
        return await self.make(name)

    async def set_links(self, name: str, state: LinkState) -> None:
        """At the fabric's ends, so that the host itself sees a dark wire."""
        assert self.client is not None, "the fabric outlives the hosts in it"
        await ip.set_link(self.client, self.lab, name, state)

    async def remove(self) -> dict[str, LimosaError]:
        """End all that bears the lab's mark, recorded or not. Raises LimosaError: it is this machine's."""
        await end_marked(self.directory.mark)
        self.collect()
        self.close_lifeline()
        self.client = None
        place.leave(self.directory)
        return {}

    async def left(self) -> list[str]:
        """The processes that are there still, after the kernel had its time."""
        left = list[int]()
        async for _ in Deadline.after(5).ticks(0.01):
            if not (left := marked(self.directory.mark)):
                return []
        return [f"process {pid}" for pid in left]

    def remains(self, name: str) -> str:
        """Its processes."""
        return f"processes that bear {self.directory.mark}"

    async def close(self) -> None:
        """Nothing is held."""

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


def _needs_bind(storage: resolved.Storage) -> bool:
    """Whether the hosts would not see it otherwise: they share this machine's files, except for /run."""
    return storage.mount_point != storage.path or storage.path.startswith("/run/")


def observed(mark: str) -> Record | None:
    """What the processes themselves tell of a lab; what a killed command left half made does not count.

    Which hosts were off or cut on purpose is not to be seen.
    """
    keepers: dict[str, Keeper] = {}
    outer, ephemeral = 0, False
    for pid in marked(mark):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
            name = words[words.index("--host") + 1]
            if Path(words[0]).name != "unshare":
                if _namespace_pids(pid)[-1] == 1:  # else a child of the keeper's that has yet to execute its program
                    keepers[name] = Keeper(pid, name, mark)
            elif name == CLIENT:
                outer, ephemeral = pid, "--lifeline" in words
    client = keepers.pop(CLIENT, None)
    hosts = {name: keeper.pid for name, keeper in keepers.items() if keeper.whole()}
    if client is None or not (hosts or client.whole()):  # a fabric is whole before the first host is made in it
        return None
    rootless = _is_rootless(client.pid)
    return Record(rootless=rootless, ephemeral=ephemeral, outer_pid=outer, client_pid=client.pid, hosts=hosts)


def _is_rootless(pid: int) -> bool:
    """Whether process *pid* lives in a user namespace of its own; raises nothing when it has just ended."""
    try:
        return Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    except OSError:
        return False


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
    that its pid cannot pass to another one in between. They are looked for until there is none: one of them may have
    made another while it was being ended. Raises LimosaError.
    """
    any_found = False
    while found := marked(mark, host):
        any_found = True
        for pid in found:
            await _end(pid, lambda pid=pid: bears_mark(pid, mark, host))  # type: ignore[misc]
    return any_found


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
