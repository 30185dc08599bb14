"""Machines over SSH as hosts: the user's own machines, which limosa uses and never switches off.

One connection a host, kept for the command's life. Over it runs the link; sockets go by forwarding. What a lab leaves
on a machine is one runtime directory with a mark in it, and the processes that it spawned.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Collection

from limosa import tasks
from limosa.errors import LimosaError, MachineError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.hosts.kind import LOGINS, HostState, LinkState, Seen, Silence, Surroundings
from limosa.hosts.link.far import claims
from limosa.hosts.link.far.system import user_name
from limosa.hosts.link.near import Refused
from limosa.hosts.ssh import way_in
from limosa.hosts.ssh.host import SshHost
from limosa.hosts.ssh.way_in import Machine
from limosa.spec import host_kinds, resolved


def of(name: str, surroundings: Surroundings) -> SshKind:
    """What is responsible for the lab's hosts of this kind."""
    lab, here = surroundings.lab, platform.node()
    # As it was before there were ids, for a lab that was brought up then.
    owner = lab.mark or f"{here}:{surroundings.real_path}"
    return SshKind(lab, owner, surroundings.events, here=f"{user_name()}@{here}", kind=name)


class SshKind:
    """The machines over SSH of one lab. *owner* tells it from another lab of the same name; *here* is told to people
    who are in its way there: who commands it, and from where. *kind* is the name of its row."""

    def __init__(
        self,
        lab: resolved.Lab,
        owner: str,
        events: Events | None = None,
        *,
        here: str = "",
        kind: str = host_kinds.SSH.name,
    ) -> None:
        way_in.load()
        self._lab, self._owner, self._here = lab.name, owner, here
        self._alias = lab.mark or "the path of the lab's state directory"
        self._silence = Silence()
        logins = asyncio.Semaphore(LOGINS)
        self._hosts = {
            host.name: SshHost(host.name, Machine.parse(host.machine), events, logins)
            for host in lab.hosts.values()
            if host.kind == kind
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
