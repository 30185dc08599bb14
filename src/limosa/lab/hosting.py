"""The lab's hosts, of whatever kind: made, found again, cut off, taken away, and proved to be gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from limosa.errors import LimosaError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.hosts.keeping import off
from limosa.hosts.kind import Kind
from limosa.hosts.namespaces import CLIENT
from limosa.lab.fabric import NamespaceKind, observed
from limosa.lab.record import LabDirectory, Record
from limosa.network import links
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.hosts.local import LocalHost
    from limosa.lab.furnishing import Furnisher


class Hosting:
    """The hosts of one lab, as they are now: ``client`` is where the probes run, None while the lab is down."""

    def __init__(self, lab: resolved.Lab, directory: LabDirectory, record: Record, events: Events) -> None:
        self.lab, self.directory, self.record, self.events = lab, directory, record, events
        self.fabric = NamespaceKind(lab, directory, record, events)
        self.client: Host | None = None
        self.hosts: dict[str, Host] = {}
        self.made_here = False
        self._kinds: dict[str, Kind] = {}
        self._machine: LocalHost | None = None

    @property
    def has_fabric(self) -> bool:
        """Whether the client lives in a fabric; without namespaces it is this machine itself."""
        return bool(self.fabric.names) or not self.lab.hosts

    def kind(self, host: str) -> Kind:
        """What is responsible for a host."""
        return self._kind(self.lab.hosts[host].kind)

    def _kind(self, name: str) -> Kind:
        if name == "namespaces":
            return self.fabric
        if name not in self._kinds:
            from limosa.lab import kinds

            self._kinds[name] = kinds.elsewhere(name, self.lab, self.directory, self.events)
        return self._kinds[name]

    @property
    def elsewhere(self) -> list[str]:
        """The hosts that have a system of their own, in the file's order."""
        return [name for name, host in self.lab.hosts.items() if host.kind != "namespaces"]

    def _elsewhere_kinds(self) -> list[Kind]:
        return [self._kind(name) for name in dict.fromkeys(self.lab.hosts[host].kind for host in self.elsewhere)]

    async def find(self) -> None:
        """Attach to what is running, by the record."""
        inside = await self.fabric.find()
        if self.has_fabric:
            self.client = self.fabric.client
        elif self.record.up:
            self.client = self.this_machine()
        if self.client is None:
            return
        found = [inside, *await asyncio.gather(*(kind.find() for kind in self._elsewhere_kinds()))]
        on = {name: host for some in found for name, host in some.items()}
        self.hosts = {name: on[name] for name in self.lab.hosts if name in on}

    def this_machine(self) -> LocalHost:
        """The machine that limosa runs on, as a host."""
        if self._machine is None:
            from limosa.lab import kinds

            self._machine = kinds.this_machine(self.directory, self.events)
        return self._machine

    async def reload(self) -> None:
        """Look again: another command may have changed the record, or a host may have died, since it was read."""
        fresh = recorded(self.directory, self.events)
        for field in Record.__struct_fields__ if fresh else ():
            setattr(self.record, field, getattr(fresh, field))  # in place, as the fabric has the same record
        self.hosts = {}
        await self.find()

    def host(self, name: str) -> Host:
        """A host that is on. Raises StateError."""
        if name not in self.hosts:
            raise off(name)
        return self.hosts[name]

    async def doubtful(self, name: str) -> bool:
        """Whether *name* is not to be had, and yet may run guests."""
        return name not in self.hosts and not await self.kind(name).ended(name)

    def the_client(self) -> Host:
        """Where the probes run. Raises StateError when the lab is down."""
        if self.client is None:
            raise StateError(f"lab {self.lab.name} is down", hint=f"limosa up {self.lab.file}".strip())
        return self.client

    def address(self, host: str, network: str) -> str:
        """The address of a host, or of ``client``, in a network."""
        if found := self.record.addresses.get(host, {}).get(network):
            return found
        return self.lab.networks[network].client_address if host == CLIENT else self.lab.hosts[host].addresses[network]

    async def check(self) -> None:
        """Raise MachineError where a kind of host that the lab needs cannot be had at all."""
        for kind in self._elsewhere_kinds():
            await kind.check()

    async def converge(self) -> list[str]:
        """Make what is missing; return the names of what was made. What was powered off on purpose stays off."""
        made: list[str] = []
        if self.client is None:
            await self._make_client()
            made.append(CLIENT)
        for name in self.lab.hosts:
            if name not in self.hosts and name not in self.record.off:
                await self.make(name)
                made.append(name)
            elif name in self.hosts and name not in self.record.cut:
                await self._furnish(name)  # finds everything in its place, or repairs it
        if self.hosts and (self.elsewhere or any(s.kind == "nfs" for s in self.lab.storage.values())):
            network = self.lab.migration_network.name
            addresses = {name: self.address(name, network) for name in self.hosts}
            await self._furnisher().share(self.hosts, addresses)
        return made

    async def _make_client(self) -> None:
        self.hosts, self.made_here = {}, True
        if self.elsewhere and self.record.ephemeral:
            from limosa.lab import kinds

            kinds.engage_undertaker(self.directory)
        if not self.has_fabric:
            self.record.up, self.record.off, self.record.cut = True, [], []
            self.directory.save(self.record)
            self.client = self.this_machine()
            return
        fabric = await self.fabric.make_client()
        self.client = fabric
        for name in self._bridged_networks():
            await links.join_bridge(self.this_machine(), fabric, fabric.keeper.pid, self.lab, name)

    def _bridged_networks(self) -> list[str]:
        """The networks in which the fabric is joined with a bridge of this machine."""
        return [name for name, network in self.lab.networks.items() if network.bridge and self.has_fabric]

    async def make(self, name: str) -> None:
        """Make one host and join it to the lab's networks."""
        self.hosts[name] = await self.kind(name).make(name)
        await self._furnish(name)
        self._on_again(name)

    def _on_again(self, name: str) -> None:
        self.record.off = [n for n in self.record.off if n != name]
        self.record.cut = [n for n in self.record.cut if n != name]
        self.directory.save(self.record)

    def _furnisher(self) -> Furnisher:
        """For hosts that have a system of their own, or mount something; other labs have no use for the module."""
        from limosa.lab.furnishing import Furnisher

        return Furnisher(self.lab, self.directory.mark)

    async def _furnish(self, name: str) -> None:
        """The links of a host that has a system of its own; namespaces get theirs when they are made."""
        if name not in self.elsewhere:
            return
        furnisher = self._furnisher()
        found = await furnisher.furnish(self.host(name))
        self.record.addresses[name] = found
        if not self.has_fabric:
            self.record.addresses[CLIENT] = await furnisher.client_addresses(self.the_client(), found)
        self.directory.save(self.record)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: everything on the host ends at once. Raises StateError where that is not ours to do."""
        self.host(name)
        await self.kind(name).power_off(name)
        del self.hosts[name]
        self.record.off = sorted({*self.record.off, name})
        self.directory.save(self.record)

    async def cut(self, name: str) -> None:
        """Take the host's links down, on every network. On record first: what is cut can be restored then."""
        self.host(name)
        before, self.record.cut = self.record.cut, sorted({*self.record.cut, name})
        self.directory.save(self.record)
        try:
            await self._set_links(name, "down")
        except LimosaError:
            self.record.cut = before
            self.directory.save(self.record)
            raise

    async def _set_links(self, name: str, state: str) -> None:
        if name not in self.elsewhere:
            await links.set_link(self.the_client(), self.lab, name, state)
        elif self.lab.hosts[name].kind == "ssh":
            raise StateError(
                f"{name} is a machine of its own, which limosa does not cut off: it would lose it",
                hint="take its link down by hand",
            )
        else:
            await links.set_own_links(self.host(name), self.lab, state)

    async def restore(self, name: str) -> None:
        """Undo ``cut`` and ``power_off``."""
        if name not in self.hosts:
            self.hosts[name] = await self.kind(name).power_on(name)
            await self._furnish(name)
        elif name in self.record.cut:
            await self._set_links(name, "up")
            await links.forget_silence(host for other, host in self.hosts.items() if other not in self.elsewhere)
        self._on_again(name)

    async def down(self) -> None:
        """Take away all that bears the lab's mark, recorded or not; then prove that nothing is left.

        Raises LimosaError otherwise.
        """
        kinds: list[Kind] = [*self._elsewhere_kinds(), self.fabric]
        for kind in kinds[:-1]:
            self.hosts.update(await kind.find())
        for name in self.elsewhere:
            if name in self.hosts:
                await self._remove_placed(name)
        for name in self.elsewhere:
            if name in self.hosts:
                await self._strip(name)
        for name in self._bridged_networks():
            await links.part_bridge(self.this_machine(), self.lab, name)
        for kind in kinds:
            await kind.remove()
        self.client, self.hosts = None, {}
        if left := [line for kind in kinds for line in await kind.left()]:
            raise LimosaError(f"lab {self.lab.name} is not wholly gone: {', '.join(left)} is left")

    async def _remove_placed(self, name: str) -> None:
        """What is put on a storage anew at each start: disks stay, kernels and a guest's own keys do not."""
        if files := [path for guest in self.lab.guests for path in self.directory.placed(guest)]:
            with contextlib.suppress(LimosaError):  # another host may be able to
                await self.hosts[name].run(["rm", "-f", "--", *files])

    async def _strip(self, name: str) -> None:
        try:
            copies = {guest: self.directory.copies(guest) for guest in self.lab.guests}
            await self._furnisher().strip(self.hosts[name], copies)
        except LimosaError as error:
            self.events.note(f"{name} was not wholly given back: {error.message}", level="warning")

    async def close(self) -> None:
        """Let go of connections; the lab goes on."""
        for kind in self._kinds.values():
            with contextlib.suppress(LimosaError):
                await kind.close()
        if self._machine is not None:
            await self._machine.close()

    def hold(self) -> None:
        """The lab is to end with this process, even when that is killed."""
        self.fabric.lifeline = os.pipe2(os.O_CLOEXEC)


def recorded(directory: LabDirectory, events: Events) -> Record | None:
    """The lab's record; from what runs when it is damaged. None for a lab that is down."""
    try:
        return directory.record()
    except StateError as error:
        events.note(f"{error.message}; made again from what runs", level="warning")
        return observed(directory.mark)
