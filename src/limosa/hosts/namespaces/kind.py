"""Hosts made of namespaces, as a lab uses them: made, found again by the record, and proved to be gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, UnreachableError
from limosa.hosts.host import CLIENT, Host
from limosa.hosts.kind import LinkState, Seen, Surroundings
from limosa.hosts.namespaces import place
from limosa.hosts.namespaces.first_process import Keeper
from limosa.hosts.namespaces.host import Fabric, NamespaceHost, make_fabric, make_host
from limosa.hosts.namespaces.marks import end_marked, inner_pid, is_rootless, marked
from limosa.hosts.namespaces.traces import Processes, observed
from limosa.network import ip
from limosa.spec import resolved


def of(name: str, surroundings: Surroundings) -> NamespaceKind:
    """What is responsible for the lab's hosts of this kind."""
    return NamespaceKind(name, surroundings)


class NamespaceKind:
    """The fabric of one lab and the hosts in it; implements FabricKind."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self._name, self._around = name, surroundings
        self._part = surroundings.part(name)
        self.client: NamespaceHost | None = None
        self._lifeline: tuple[int, int] | None = None
        """Both ends of the pipe whose closing ends an ephemeral lab."""
        self._made_outer = 0
        """The fabric's ``unshare`` when this process made it: a child that this process has to collect."""

    @property
    def _mark(self) -> str:
        return self._around.real_path

    @property
    def names(self) -> list[str]:
        """The lab's hosts of this kind."""
        return list(self._around.hosts(self._name))

    async def check(self) -> None:
        """What the kernel forbids is said when the fabric is made."""

    async def find(self, names: Collection[str]) -> dict[str, Seen]:
        """Attach to the fabric and to the hosts that are on: by the record, and by the processes where it lacks one.

        Whether one is off is sure: the kernel ends all of a host with its first process.
        """
        found = await self._recorded(names)
        if len(found) <= len(names) and (seen := observed(self._mark)):
            # Where the two differ, what is seen to run counts.
            self._part.write(msgspec.structs.replace(seen, hosts=self._part.read(Processes).hosts | seen.hosts))
            found = await self._recorded(names)
        self.client = found.pop(CLIENT, None)
        return {name: self._see(name, found if self.client else {}) for name in names}

    def _see(self, name: str, found: dict[str, NamespaceHost]) -> Seen:
        if name in found:
            return Seen.on(found[name])
        mark = self._mark
        whole = [pid for pid in marked(mark, name) if Keeper(pid, name, mark).whole()]
        if not whole:  # what a killed command left half made runs nothing
            return Seen.off(name)
        return Seen.silent(
            UnreachableError(
                f"host {name} does not answer, and its first process ({whole[0]}) is there",
                hint="try again in a moment; limosa down ends it, with all of the lab",
            )
        )

    async def _recorded(self, names: Collection[str]) -> dict[str, NamespaceHost]:
        """What of these is on record and alive; ``client`` is the fabric."""
        kept = self._part.read(Processes)
        pids = {CLIENT: kept.client_pid, **{name: kept.hosts.get(name, 0) for name in names}}
        keepers = [Keeper(pid, name, self._mark) for name, pid in pids.items() if pid]
        alive = [keeper for keeper in keepers if await keeper.alive()]
        return {k.host: NamespaceHost(k.host, k, is_rootless(k.pid), self._around.events) for k in alive}

    async def make_client(self) -> NamespaceHost:
        """The fabric, with its bridges; whatever an earlier one left is ended before.

        It is not kept before ``keep_client`` says so: one that a killed command left is ended and made anew.
        """
        await end_marked(self._mark)  # what a command made that was killed before it could record it
        self._collect()
        self._part.clear()
        around = self._around
        alone = len(self.names) == len(around.lab.hosts)  # else the directory is needed to take the others away
        remove = self._mark if self._lifeline and alone else ""
        lifeline = self._lifeline[0] if self._lifeline else None
        shared = {around.log, *(Path(source) for source in self._binds().values())}
        below_run = tuple(sorted(str(path) for path in shared if path.is_relative_to("/run")))
        hold = place.take(around.path)
        try:
            fabric = Fabric(self._mark, around.rootless, self._log, lifeline, hold, remove, below_run)
            self.client, self._made_outer = await make_fabric(fabric, around.events)
        finally:
            os.close(hold)
        await ip.make_fabric(self.client, around.lab)
        return self.client

    def keep_client(self) -> None:
        """The fabric has all that it was to get."""
        assert self.client is not None, "it is made before it is kept"
        self.client.keeper.mark_whole()
        ephemeral = self._lifeline is not None
        kept = Processes(self._around.rootless, ephemeral, self._made_outer, self.client.keeper.pid)
        self._part.write(kept)

    async def join_bridge(self, machine: Host, network: str) -> None:
        """By a pair of interfaces of which one end is on the bridge; see the port."""
        assert self.client is not None, "it is made before it is joined"
        await ip.join_bridge(machine, self.client, self.client.keeper.pid, self._around.lab, network)

    @property
    def _log(self) -> Path:
        """Where the keepers' complaints go."""
        return self._around.log / "hosts.log"

    def _binds(self) -> dict[str, Path]:
        """Where each host sees which directory of this machine."""
        stores = [storage for storage in self._around.lab.storage.values() if storage.name in self._around.shown]
        binds = {s.mount_point: self._around.shown[s.name] for s in stores if _needs_bind(s)}
        return {**binds, "/run/limosa/log": self._around.log}

    async def visit(self, name: str) -> Host | None:
        """The host where it is on; it takes nothing but this machine to make it."""
        return (await self.find([name]))[name].host

    async def make(self, name: str) -> Host:
        """Make one host and join it to the fabric; a half-made one is ended again."""
        client, mark, lab = self.client, self._mark, self._around.lab
        assert client is not None, "the fabric is made before the hosts in it"
        kept = self._part.read(Processes)
        if await end_marked(mark, name) or name in kept.hosts or not self._made_outer:
            await ip.part(client, lab, name)
        try:
            host = await make_host(client, mark, name, self._binds(), self._log)
            await ip.join(client, host, inner_pid(host.keeper.pid, client.keeper.pid), lab)
            host.keeper.mark_whole()
        except BaseException:
            await end_marked(mark, name)
            raise
        self._part.write(msgspec.structs.replace(kept, hosts={**kept.hosts, name: host.keeper.pid}))
        return host

    async def ended(self, name: str) -> bool:
        """The kernel ends all of a host with its first process."""
        return not marked(self._mark, name)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: the host's first process is killed, and with it everything on the host."""
        await end_marked(self._mark, name)

    async def power_on(self, name: str) -> Host:
        """Make it again."""
        return await self.make(name)

    async def set_links(self, name: str, state: LinkState) -> None:
        """At the fabric's ends, so that the host itself sees a dark wire."""
        assert self.client is not None, "the fabric outlives the hosts in it"
        await ip.set_link(self.client, self._around.lab, name, state)

    async def remove(self) -> dict[str, LimosaError]:
        """End all that bears the lab's mark, recorded or not. Raises LimosaError: it is this machine's."""
        await end_marked(self._mark)
        self._collect()
        self.let_go()
        self.client = None
        self._part.clear()
        place.leave(self._around.path)
        return {}

    async def left(self) -> list[str]:
        """The processes that are there still, after the kernel had its time."""
        left = list[int]()
        async for _ in Deadline.after(5).ticks(0.01):
            if not (left := marked(self._mark)):
                return []
        return [f"process {pid}" for pid in left]

    def remains(self, name: str) -> str:
        """Its processes."""
        return f"processes that bear {self._mark}"

    async def close(self) -> None:
        """Nothing is held."""

    def _collect(self) -> None:
        """Have the kernel forget the ended ``unshare`` that this process started."""
        with contextlib.suppress(ChildProcessError):
            if self._made_outer:
                os.waitid(os.P_PID, self._made_outer, os.WEXITED | os.WNOHANG)
        self._made_outer = 0

    def hold(self) -> None:
        """By a pipe that the fabric's first process watches, whose other end is here."""
        self._lifeline = os.pipe2(os.O_CLOEXEC)

    def let_go(self) -> None:
        """Close the pipe; the fabric of an ephemeral lab ends."""
        for end in self._lifeline or ():
            os.close(end)
        self._lifeline = None


def _needs_bind(storage: resolved.Storage) -> bool:
    """Whether the hosts would not see it otherwise: they share this machine's files, except for /run."""
    return storage.mount_point != storage.path or storage.path.startswith("/run/")
