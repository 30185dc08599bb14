"""The lab's hosts, of whatever kind: made, found again, cut off, taken away, and proved to be gone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.errors import LimosaError, StateError, UnreachableError
from limosa.events import Events
from limosa.hosts.host import CLIENT, Host
from limosa.hosts.kind import HostState, Kind, Seen
from limosa.lab import identity, place
from limosa.lab.fabric import NamespaceKind, observed
from limosa.lab.lab_host import LabHost
from limosa.lab.record import LabDirectory, Record
from limosa.network import guard, ip
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.hosts.local import LocalHost
    from limosa.lab.host_setup import HostSetup


class Incomplete(LimosaError):
    """Some hosts could not be made, for these reasons by host; the others are on."""

    def __init__(self, failures: dict[str, LimosaError]) -> None:
        super().__init__(f"{', '.join(failures)} could not be made")
        self.failures = failures


class LabHosts:
    """The hosts of one lab, as they are now: ``client`` is where the probes run, None while the lab is down.

    *rootless*: whether a fabric that is made takes a user namespace.
    """

    def __init__(
        self, lab: resolved.Lab, directory: LabDirectory, record: Record, events: Events, *, rootless: bool
    ) -> None:
        self.lab, self.directory, self.record, self.events = lab, directory, record, events
        self._rootless = rootless
        self.fabric = NamespaceKind(lab, directory, record, events)
        self.client: Host | None = None
        self.on: dict[str, Host] = {}
        """Those that are on, cut off or not."""
        self._addresses: dict[str, dict[str, str]] = {}
        """Addresses that the record lacks, as the hosts have them."""
        self.seen: dict[str, Seen] = {}
        """What their kinds found, of those that were looked at."""
        self.made_here = False
        self._kinds: dict[str, Kind] = {}
        self._machine: LocalHost | None = None

    def identify(self, lab: resolved.Lab) -> None:
        """Take the lab with its identity, which it gets before anything of it is made."""
        if lab != self.lab:  # else the kinds that there are know who did not answer a moment ago
            self.lab = self.fabric.lab = lab
            self._kinds = {}

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
        return [name for name, host in self.lab.hosts.items() if host.traits.own_system]

    def _elsewhere_kinds(self) -> list[Kind]:
        return [self._kind(name) for name in dict.fromkeys(self.lab.hosts[host].kind for host in self.elsewhere)]

    async def find(self) -> None:
        """Attach to what is running: by the record, and where that says of nothing, by what bears the lab's mark."""
        self.seen = await self.fabric.find(self.fabric.names) if self.has_fabric else {}
        up = self.fabric.client is not None if self.has_fabric else self.record.up
        if up or self.record.claimed != []:
            await self._find_elsewhere()
        if not self.has_fabric and self.record.claimed is None:  # then what is there tells
            up = self.record.up = up or any(seen.host is not None for seen in self.seen.values())
        if self.record.claimed is None:
            self.record.claimed = [name for name in self.elsewhere if self._seen(name).state is not HostState.OFF]
        # At once, as other work on this lab may go on meanwhile: a host that is there is never missing.
        self.client = (self.fabric.client if self.has_fabric else self.this_machine()) if up else None
        self.on = self._there(list(self.lab.hosts)) if up else {}
        await self._find_addresses()

    async def _find_elsewhere(self) -> None:
        of_kind: dict[str, list[str]] = {}
        for name in self.elsewhere:
            of_kind.setdefault(self.lab.hosts[name].kind, []).append(name)
        for found in await tasks.together(self._kind(kind).find(names) for kind, names in of_kind.items()):
            self.seen |= found

    async def _find_addresses(self) -> None:
        for name in self.unfurnished():
            with contextlib.suppress(LimosaError):  # `up` says what is wrong with it
                self._addresses[name] = found = await self._setup().addresses(self.on[name])
                if not self.has_fabric:
                    self._addresses[CLIENT] = await self._setup().client_addresses(self.the_client(), found)

    def unfurnished(self) -> list[str]:
        """The hosts that are on, have a system of their own, and are not on record as having all that they get."""
        return [name for name in self.elsewhere if name in self.on and name not in self.record.addresses]

    def mend(self) -> None:
        """Put the record right where what was found differs from it. For whoever holds the lab's lock."""
        with contextlib.suppress(StateError):
            if self.client is None or self.directory.record() == self.record:
                return
        self.directory.save(self.record)

    def _there(self, names: Collection[str]) -> dict[str, Host]:
        """Those of *names* that were seen to be on."""
        return {name: host for name in names if (host := self._seen(name).host) is not None}

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
        return self._seen(name).state

    def _seen(self, name: str) -> Seen:
        return self.seen.get(name) or Seen.off(name)

    def absent(self, name: str) -> LimosaError:
        """The error for a host that is not on, with what helps against it."""
        seen = self._seen(name)
        error = seen.error or StateError(f"lab {self.lab.name} is down", hint=f"limosa up {self.lab.file}".strip())
        if seen.state is not HostState.NO_ANSWER or not isinstance(error, StateError):
            return error
        return UnreachableError(
            f"{error.message}; it may be off, or go on with what runs there",
            hint=f"{error.hint or f'bring {name} back'}; the lab's other hosts go on without it",
        )

    def silence(self, name: str) -> LimosaError | None:
        """What keeps us out of a host that does not answer; None for another."""
        return self._seen(name).error if self.state(name) is HostState.NO_ANSWER else None

    def way_back(self, name: str) -> str:
        """The command that has a host that is off in the lab again; empty where there is none."""
        return self._seen(name).way_back

    def may_hold(self, name: str) -> bool:
        """Whether something of the lab's may be on a host, as far as is recorded."""
        claimed = self.record.claimed
        return claimed is None or name in claimed or name not in self.elsewhere

    def doubtful(self, name: str) -> bool:
        """Whether *name* is not to be had, and yet may run guests."""
        return name not in self.on and self.may_hold(name) and self._seen(name).state is not HostState.OFF

    def visited(self, name: str) -> Host | None:
        """A host that answers, and has nothing by which the lab is known there; None for every other."""
        return None if name in self.on else self._seen(name).visited

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
        """Raise MachineError where a kind of host that the lab needs cannot be had at all."""
        for kind in self._elsewhere_kinds():
            await kind.check()

    async def converge(self, made: list[str]) -> None:
        """Make what is missing, and append the names of what was made to *made*. What was powered off on purpose stays
        off. Raises Incomplete, when all others were made; the first host's error, when there is none that is on.
        """
        if self.client is None:
            await self._make_client()
            if self.has_fabric:
                made.append(CLIENT)
        failures = dict[str, LimosaError]()
        for name in self.lab.hosts:
            try:
                if await self._have(name):
                    made.append(name)
            except LimosaError as error:
                failures[name] = error
                self._lose(name, error)
        if failures and not self.on:
            raise next(iter(failures.values()))
        await self._share()
        await self._guard()
        await self._remark_on_wires()
        if failures:
            raise Incomplete(failures)

    async def _have(self, name: str) -> bool:
        """Make a host if it is missing, or repair it; return whether it was made."""
        if name in self.on:
            if name not in self.record.cut:
                await self._furnish(name)  # finds everything in its place, or repairs it
            return False
        if name in self.record.off:
            return False
        if self._seen(name).state is HostState.NO_ANSWER:
            raise self.absent(name)  # it was just asked
        await self.make(name)
        return True

    def _lose(self, name: str, error: LimosaError) -> None:
        """A host that is not as it has to be is not used by this command."""
        self.on.pop(name, None)
        if name in self.elsewhere and self._seen(name).state is not HostState.NO_ANSWER:
            self.seen[name] = Seen.silent(error)

    async def _share(self) -> None:
        if self.on and (self.elsewhere or any(s.kind == "nfs" for s in self.lab.storage.values())):
            network = self.lab.migration_network.name
            addresses = {name: self.address(name, network) for name in self.on}
            await self._setup().share(self.on, addresses)

    async def _remark_on_wires(self) -> None:
        """Say what of the networks between hosts with a system of their own would spoil a migration."""
        if there := {name: self.on[name] for name in self.elsewhere if name in self.on}:
            from limosa.network import obstacles

            for told in await obstacles.remarks(self.lab, there):
                self.events.note(told, level="warning")

    async def _guard(self) -> None:
        """Have the hosts let nobody but each other reach the ports on which guests arrive."""
        network = self.lab.migration_network.name
        addresses = {name: self.address(name, network) for name in self.lab.hosts}
        if self.has_fabric:
            await guard.close_fabric(self.the_client(), self.lab)
        for name, why in (await guard.apply(self.lab, self.on.values(), addresses)).items():
            self.events.note(f"{name} does not refuse strangers while a guest arrives there: {why}", level="warning")

    async def _make_client(self) -> None:
        self.on, self.made_here = {}, True
        if self.elsewhere and self.record.ephemeral:
            from limosa.lab import kinds

            kinds.engage_undertaker(self.directory)
        if not self.has_fabric:
            self.record.off, self.record.cut = [], []  # it is up when its first host is made
            self.client = self.this_machine()
            return
        self.record.rootless = self._rootless  # what ended was perhaps made by root, as of a container
        fabric = await self.fabric.make_client()
        self.client = fabric
        for name in self._bridged_networks():
            await ip.join_bridge(self.this_machine(), fabric, fabric.keeper.pid, self.lab, name)
            await self._check_addresses(fabric, name)
        self.fabric.keep_client()

    async def _check_addresses(self, client: Host, network: str) -> None:
        """Raise StateError when somebody has one of those that the lab itself is about to have in *network*."""
        from limosa.network import occupancy

        wanted = {self.lab.networks[network].client_address: occupancy.Wanted(CLIENT, f"`client` of {network}")}
        for name in self.fabric.names:
            where = f"`addresses` of {name}"
            wanted[self.lab.hosts[name].addresses[network]] = occupancy.Wanted(name, where)
        await occupancy.check(self.lab, network, client, network, wanted, self.events)

    def _bridged_networks(self) -> list[str]:
        """The networks in which the fabric is joined with a bridge of this machine."""
        return [name for name, network in self.lab.networks.items() if network.bridge and self.has_fabric]

    async def make(self, name: str) -> None:
        """Make one host and join it to the lab's networks."""
        if name in self.elsewhere:
            await self.kind(name).visit(name)  # where nobody lets us in, nothing can be left
            self._claim(name)
        self.on[name] = await self.kind(name).make(name)
        await self._furnish(name)
        self._on_again(name)

    def _claim(self, name: str) -> None:
        """Something of the lab is about to be on that host."""
        if self.record.claimed is not None and name not in self.record.claimed:
            self.record.claimed = [*self.record.claimed, name]
            self.directory.save(self.record)

    def _on_again(self, name: str) -> None:
        self.record.up = not self.has_fabric
        self.record.off = [n for n in self.record.off if n != name]
        self.record.cut = [n for n in self.record.cut if n != name]
        self.directory.save(self.record)

    def _setup(self) -> HostSetup:
        """For hosts that have a system of their own, or mount something; other labs have no use for the module."""
        from limosa.lab.host_setup import HostSetup

        return HostSetup(self.lab, identity.mark(self.lab, self.directory))

    async def _furnish(self, name: str) -> None:
        """The links of a host that has a system of its own; namespaces get theirs when they are made."""
        if name not in self.elsewhere:
            return
        setup = self._setup()
        found = await setup.furnish(self.host(name))
        self.record.addresses[name] = found
        if not self.has_fabric:
            self.record.addresses[CLIENT] = await setup.client_addresses(self.the_client(), found)
        self.directory.save(self.record)

    async def power_off(self, name: str) -> None:
        """As pulling the plug: everything on the host ends at once. Raises StateError where that is not ours to do."""
        self.host(name)
        await self.kind(name).power_off(name)
        del self.on[name]
        self.seen[name] = Seen.off(name)
        self.record.off = sorted({*self.record.off, name})
        self.directory.save(self.record)

    async def cut(self, name: str) -> None:
        """Take the host's links down, on every network. On record first: what is cut can be restored then."""
        self.host(name)
        before, self.record.cut = self.record.cut, sorted({*self.record.cut, name})
        try:
            self.directory.save(self.record)
            await self.kind(name).set_links(name, "down")
        except LimosaError:
            self.record.cut = before
            with contextlib.suppress(LimosaError):
                self.directory.save(self.record)
            raise

    async def restore(self, name: str) -> None:
        """Undo ``cut`` and ``power_off``."""
        if name not in self.on:
            if self.state(name) is HostState.NO_ANSWER:
                raise self.absent(name)
            self.on[name] = await self.kind(name).power_on(name)
            await self._furnish(name)
            await self._guard()
        elif name in self.record.cut:
            await self.kind(name).set_links(name, "up")
            await ip.forget_silence(host for other, host in self.on.items() if other not in self.elsewhere)
        self._on_again(name)

    async def end_fabric(self) -> None:
        """Undo the making of a client in whose fabric there is no host yet; what is elsewhere stays, and on record."""
        await self.fabric.remove()
        self.client, self.record.up = None, False
        self.record.outer_pid, self.record.client_pid = 0, 0
        self.directory.save(self.record)

    async def down(self, given_up: Collection[str] = ()) -> dict[str, LimosaError]:
        """Take away all that bears the lab's mark, recorded or not; then prove that nothing is left.

        By host, why something may be left there, which the record keeps; nobody waits for what is *given_up*.
        Raises LimosaError when something is left where it could have been taken away.
        """
        kinds: list[Kind] = [*self._elsewhere_kinds(), self.fabric]
        await self._find_elsewhere()
        self.on = self._there(self.elsewhere)
        for name in self.on:
            await self._remove_placed(name)
        for name in self.on:
            await self._strip(name)
        for name in self._bridged_networks():
            await ip.part_bridge(self.this_machine(), self.lab, name)
        failures = dict[str, LimosaError]()
        for kind in kinds:
            failures |= await kind.remove()
        self.client, self.on = None, {}
        left = [line for kind in kinds for line in await kind.left()]
        if left and not failures:
            raise LimosaError(f"lab {self.lab.name} is not wholly gone: {', '.join(left)} is left")
        return self._remaining(failures, given_up)

    def _remaining(self, failures: dict[str, LimosaError], given_up: Collection[str]) -> dict[str, LimosaError]:
        """What the lab's record is about from now on."""
        strange = [name for name in self.record.claimed or () if name not in self.lab.hosts]
        failures |= {name: LimosaError(f"host {name} is not in the lab's description") for name in strange}
        remaining = {name: error for name, error in failures.items() if name in strange or self.may_hold(name)}
        for name in given_up:
            if error := remaining.pop(name, None):
                told = f"{name} is given up ({error.message}): there may remain {self.remains(name)}"
                self.events.note(told, level="warning")
        record = self.record
        record.claimed, record.up, record.off, record.cut = sorted(remaining), False, [], []
        record.outer_pid, record.client_pid, record.hosts = 0, 0, {}
        return remaining

    def remains(self, name: str) -> str:
        """What may remain on a host, in words; of one that is not in the description nobody can say more."""
        return self.kind(name).remains(name) if name in self.lab.hosts else "what the lab had there"

    async def _remove_placed(self, name: str) -> None:
        """What is put on a storage anew at each start: disks stay, kernels and a guest's own keys do not."""
        if files := [path for guest in self.lab.guests for path in self.directory.placed(guest)]:
            with contextlib.suppress(LimosaError):  # another host may be able to
                await self.on[name].run(["rm", "-f", "--", *files])

    async def _strip(self, name: str) -> None:
        try:
            copies = {guest: self.directory.known_copies(guest) for guest in self.lab.guests}
            await self._setup().strip(self.on[name], copies)
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
    """The lab's record; from what runs when it is damaged or lost. None for a lab that is down.

    Raises StateError when the lab runs where its processes are not seen from here.
    """
    place.require_here(directory)
    try:
        if (record := directory.record()) is not None:
            return record
        wrong = f"{directory.path / 'record.json'} is lost"
    except StateError as error:
        wrong = error.message
    seen = observed(directory.mark)
    if seen is not None:
        events.note(f"{wrong}; made again from what runs", level="warning", once=True)
    return seen
