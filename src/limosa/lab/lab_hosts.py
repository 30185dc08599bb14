"""The lab's hosts, of whatever kind, as they are now: found again, and asked what is known of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.errors import LimosaError, StateError, UnreachableError
from limosa.events import Events
from limosa.hosts import catalogue
from limosa.hosts.host import CLIENT, Host
from limosa.hosts.kind import HostState, Kind, Seen
from limosa.lab import surroundings
from limosa.lab.record import LabDirectory, Record
from limosa.spec import host_kinds, resolved

if TYPE_CHECKING:
    from limosa.hosts.local import LocalHost
    from limosa.lab.host_setup import HostSetup
    from limosa.qemu.features import Features


class LabHost:
    """A host that is on: what the lab file says of it, and the port through which everything is done there."""

    def __init__(self, spec: resolved.Host, port: Host, migration_address: str) -> None:
        self.spec, self.port = spec, port
        self.migration_address = migration_address
        """Its address in the network that migration traffic takes."""

    @property
    def name(self) -> str:
        """The host's name: for people and for files."""
        return self.spec.name

    async def offer(self, accel: str = "tcg") -> Features:
        """What its QEMU can do, from the cache when the binary has been asked before. Raises MachineError when there
        is none, or one that is too old."""
        from limosa.qemu import features

        identity = features.local_identity(self.spec.qemu) if not self.spec.traits.own_system else ""
        return await features.probe(self.port, self.spec.qemu, self.spec.qemu_firmware, identity=identity, accel=accel)

    def serial_log(self, guest: str) -> str:
        """Where it sees the log of what *guest* printed on its serial console there."""
        return f"{self.port.runtime_directory}/log/{guest}@{self.name}.console.log"

    def qemu_log(self, guest: str) -> str:
        """Where it sees what the QEMU of *guest* itself said."""
        return f"{self.port.runtime_directory}/log/{guest}@{self.name}.qemu.log"


class LabHosts:
    """The hosts of one lab, as they are now: ``client`` is where the probes run, None while the lab is down.

    *rootless*: whether a fabric that is made takes a user namespace.
    """

    def __init__(
        self, lab: resolved.Lab, directory: LabDirectory, record: Record, events: Events, *, rootless: bool
    ) -> None:
        self.lab, self.directory, self.record, self.events = lab, directory, record, events
        self._around = surroundings.of(lab, directory, record, events, rootless=rootless)
        self.fabric = catalogue.fabric(self._around)
        self.client: Host | None = None
        self.on: dict[str, Host] = {}
        """Those that are on, cut off or not."""
        self._addresses: dict[str, dict[str, str]] = {}
        """Addresses that the record lacks, as the hosts have them."""
        self.seen: dict[str, Seen] = {}
        """What their kinds found, of those that were ever asked."""
        self._met = set[str]()
        """Those that were asked since the record was read."""
        self._meeting = asyncio.Lock()
        self._up = False
        self.made_here = False
        self._kinds: dict[str, Kind] = {}
        self._machine: LocalHost | None = None

    def identify(self, lab: resolved.Lab) -> None:
        """Take the lab with its identity, which it gets before anything of it is made."""
        if lab != self.lab:  # else the kinds that there are know who did not answer a moment ago
            self.lab = self._around.lab = lab
            self._kinds = {}

    @property
    def has_fabric(self) -> bool:
        """Whether the client lives in a fabric; without namespaces it is this machine itself."""
        return self.lab.has_fabric

    def kind(self, host: str) -> Kind:
        """What is responsible for a host."""
        return self._kind(self.lab.hosts[host].kind)

    def _kind(self, name: str) -> Kind:
        if not host_kinds.KINDS[name].own_system:
            return self.fabric
        if name not in self._kinds:
            self._kinds[name] = catalogue.kind(name, self._around)
        return self._kinds[name]

    @property
    def elsewhere(self) -> list[str]:
        """The hosts that have a system of their own, in the file's order."""
        return [name for name, host in self.lab.hosts.items() if host.traits.own_system]

    def elsewhere_kinds(self) -> list[Kind]:
        """What is responsible for those."""
        return [self._kind(name) for name in dict.fromkeys(self.lab.hosts[host].kind for host in self.elsewhere)]

    async def find(self) -> None:
        """See by the record and by what runs here whether the lab is up, and which hosts this machine has itself.

        Hosts elsewhere are asked when they are met, each once a command; all at once where nobody knows on which of
        them there is anything.
        """
        self.seen |= await self.fabric.find(self.fabric.names) if self.has_fabric else {}
        self._met = set(self.fabric.names)
        self._up = self.fabric.client is not None if self.has_fabric else self.record.up
        if self.record.claimed is None:
            await self.ask_all()
            if not self.has_fabric:  # then what is there tells
                self._up = self.record.up = self._up or any(seen.host is not None for seen in self.seen.values())
            self.record.claimed = [name for name in self.elsewhere if self.look_up(name).state is not HostState.OFF]
        # At once, as other work on this lab may go on meanwhile: a host that is there is never missing.
        self.client = (self.fabric.client if self.has_fabric else self.this_machine()) if self._up else None
        self.on = self.there(list(self.lab.hosts)) if self._up else {}
        self.record.off = [name for name in self.record.off if name not in self.on]
        await self._find_addresses()

    async def meet(self, names: Collection[str] | None = None, within_s: float | None = None) -> None:
        """Ask those of these hosts, or of all, that this command did not ask yet: at once, and each is connected once.

        One that does not answer, or not *within_s* seconds, is no error: what is known of it says so.
        """
        async with self._meeting:
            wanted = [name for name in self.elsewhere if name not in self._met and (names is None or name in names)]
            if wanted and self._somewhere:
                await self._ask(wanted, within_s)
            self._met |= set(wanted)
            if wanted and self._up:
                self.on = self.there([name for name in self.lab.hosts if name in self.on or name in wanted])
                await self._find_addresses()

    async def _ask(self, names: Collection[str], within_s: float | None = None) -> None:
        """Each for itself, so that one that is silent holds up no other."""
        async with tasks.beside(*(self.kind(name).find([name]) for name in names)) as looks:
            await asyncio.wait(looks, timeout=within_s)
            for name, look in zip(names, looks, strict=True):
                self.seen |= look.result() if look.done() else {name: _late(name, within_s)}

    async def ask_all(self) -> None:
        """Ask all hosts elsewhere now, whether they were met or not, and whatever is on record."""
        async with self._meeting:
            if self.elsewhere:
                await self._ask(self.elsewhere)
            self._met |= set(self.elsewhere)

    @property
    def _somewhere(self) -> bool:
        """Whether anything of the lab may be on hosts elsewhere, so that there is a reason to ask them."""
        return self._up or self.record.claimed != []

    async def _find_addresses(self) -> None:
        for name in self.unfurnished():
            with contextlib.suppress(LimosaError):  # `up` says what is wrong with it
                self._addresses[name] = found = await self.setup().addresses(self.on[name])
                if not self.has_fabric:
                    self._addresses[CLIENT] = await self.setup().client_addresses(self.the_client(), found)

    def unfurnished(self) -> list[str]:
        """The hosts that are on, have a system of their own, and are not on record as having all that they get."""
        return [name for name in self.elsewhere if name in self.on and name not in self.record.addresses]

    def mend(self) -> None:
        """Put the record right where what was found differs from it. For whoever holds the lab's lock."""
        with contextlib.suppress(StateError):
            if self.client is None or self.directory.record() == self.record:
                return
        self.directory.save(self.record)

    def there(self, names: Collection[str]) -> dict[str, Host]:
        """Those of *names* that were seen to be on."""
        return {name: host for name in names if (host := self.look_up(name).host) is not None}

    def this_machine(self) -> LocalHost:
        """The machine that limosa runs on, as a host."""
        if self._machine is None:
            from limosa.hosts.local import LocalHost

            self._machine = LocalHost(CLIENT, str(self.directory.path), self.events)
        return self._machine

    async def reload(self) -> None:
        """Read again: another command may have changed the record, or a host may have died, since it was read. Hosts
        elsewhere are asked again when they are met."""
        fresh = recorded(self.directory, self.events)
        for field in Record.__struct_fields__ if fresh else ():
            setattr(self.record, field, getattr(fresh, field))  # in place, as the kinds have the same record
        await self.find()

    @asynccontextmanager
    async def locked(self, what: str, guest: str = "") -> AsyncIterator[None]:
        """Hold a lock; what another command changed since this lab was opened is seen first."""
        with self.directory.locked(what, guest):
            await self.reload()
            yield

    def host(self, name: str) -> Host:
        """A host that is on. Raises StateError, or what keeps us out of it."""
        if name not in self.on:
            raise self.absent(name)
        return self.on[name]

    def named(self, name: str) -> LabHost:
        """A host that is on, with what is said of it. Raises as ``host``."""
        port = self.host(name)
        return LabHost(self.lab.hosts[name], port, self.address(name, self.lab.migration_network.name))

    def state(self, name: str) -> HostState:
        """What is known of a host."""
        if name in self.on:
            return HostState.CUT if name in self.record.cut else HostState.ON
        return self.look_up(name).state

    def look_up(self, name: str) -> Seen:
        """What its kind found. Of a host that nobody asked it is not known."""
        if (seen := self.seen.get(name)) is not None:
            return seen
        if name in self.elsewhere and name not in self._met and self._somewhere:
            return Seen.silent(UnreachableError(f"host {name} was not asked", hint="limosa status asks all hosts"))
        return Seen.off(name)

    def absent(self, name: str) -> LimosaError:
        """The error for a host that is not on, with what helps against it."""
        seen = self.look_up(name)
        error = seen.error or StateError(f"lab {self.lab.name} is down", hint=f"limosa up {self.lab.file}".strip())
        if seen.state is not HostState.NO_ANSWER or not isinstance(error, StateError):
            return error
        return UnreachableError(
            f"{error.message}; it may be off, or go on with what runs there",
            hint=f"{error.hint or f'bring {name} back'}; the lab's other hosts go on without it",
        )

    def silence(self, name: str) -> LimosaError | None:
        """What keeps us out of a host that does not answer; None for another."""
        return self.look_up(name).error if self.state(name) is HostState.NO_ANSWER else None

    def way_back(self, name: str) -> str:
        """The command that has a host that is off in the lab again; empty where there is none."""
        return self.look_up(name).way_back

    def may_hold(self, name: str) -> bool:
        """Whether something of the lab's may be on a host, as far as is recorded."""
        claimed = self.record.claimed
        return claimed is None or name in claimed or name not in self.elsewhere

    def doubtful(self, name: str) -> bool:
        """Whether *name* is not to be had, and yet may run guests."""
        return name not in self.on and self.may_hold(name) and self.look_up(name).state is not HostState.OFF

    def visited(self, name: str) -> Host | None:
        """A host that answers, and has nothing by which the lab is known there; None for every other."""
        return None if name in self.on else self.look_up(name).visited

    def the_client(self) -> Host:
        """Where the probes run. Raises StateError when the lab is down."""
        if self.client is None:
            raise StateError(f"lab {self.lab.name} is down", hint=f"limosa up {self.lab.file}".strip())
        return self.client

    def address(self, host: str, network: str) -> str:
        """The address of a host, or of ``client``, in a network."""
        if found := (self.record.addresses.get(host) or self._addresses.get(host, {})).get(network):
            return found
        return self.lab.networks[network].client_address if host == CLIENT else self.lab.hosts[host].addresses[network]

    async def check(self) -> None:
        """Raise MachineError where a kind of host that the lab needs cannot be had at all, or this machine's own bridge
        not be joined."""
        for kind in self.elsewhere_kinds():
            await kind.check()
        if self.bridged_networks():
            await self.this_machine().run(["true"], as_root=True)

    def bridged_networks(self) -> list[str]:
        """The networks in which the fabric is joined with a bridge of this machine."""
        return [name for name, network in self.lab.networks.items() if network.bridge and self.has_fabric]

    def setup(self) -> HostSetup:
        """For hosts that have a system of their own, or mount something; other labs have no use for the module."""
        from limosa.lab.host_setup import HostSetup

        return HostSetup(self.lab, self._around.mark)

    async def close(self) -> None:
        """Let go of connections; the lab goes on."""
        for kind in self._kinds.values():
            with contextlib.suppress(LimosaError):
                await kind.close()
        if self._machine is not None:
            await self._machine.close()

    def hold(self) -> None:
        """The lab is to end with this process, even when that is killed."""
        self.fabric.hold()


def _late(name: str, within_s: float | None) -> Seen:
    """What is said of a host that took too long to answer."""
    return Seen.silent(UnreachableError(f"host {name} did not answer within {within_s:g} s", hint="look again"))


def recorded(directory: LabDirectory, events: Events) -> Record | None:
    """The lab's record; from what runs when it is damaged or lost. None for a lab that is down.

    Raises StateError when the lab runs where its processes are not seen from here.
    """
    traces = surroundings.traces(directory)
    traces.require_here()
    try:
        if (record := directory.record()) is not None:
            return record
        wrong = f"{directory.path / 'record.json'} is lost"
    except StateError as error:
        wrong = error.message
    if (seen := traces.observed()) is None:
        return None
    events.note(f"{wrong}; made again from what runs", level="warning", once=True)
    ephemeral, kinds = seen
    return Record(ephemeral=ephemeral, kinds=kinds)
