"""Making the lab's hosts, and whatever they are to have: what is missing is made, what is there stays."""

from __future__ import annotations

import contextlib
import time

from limosa.errors import LimosaError
from limosa.hosts.host import CLIENT, Host
from limosa.hosts.kind import HostState, Seen
from limosa.lab import surroundings
from limosa.lab.lab_hosts import LabHosts
from limosa.network import guard, ip


class Incomplete(LimosaError):
    """Some hosts could not be made, for these reasons by host; the others are on."""

    def __init__(self, failures: dict[str, LimosaError]) -> None:
        super().__init__(f"{', '.join(failures)} could not be made")
        self.failures = failures


class Construction:
    """Makes the hosts of one lab. Whoever uses it holds the lab's lock."""

    def __init__(self, hosts: LabHosts) -> None:
        self.hosts = hosts

    async def converge(self, made: list[str]) -> None:
        """Make what is missing, and append the names of what was made to *made*. What was powered off on purpose stays
        off. Raises Incomplete, when all others were made; the first host's error, when there is none that is on.
        """
        if self.hosts.client is None:
            await self._make_client()
            if self.hosts.has_fabric:
                made.append(CLIENT)
        failures = dict[str, LimosaError]()
        first = not self.hosts.on
        for name in self.hosts.lab.hosts:
            try:
                if await self._have(name):
                    made.append(name)
            except LimosaError as error:
                failures[name] = error
                self._lose(name, error)
        if failures and not self.hosts.on:
            raise next(iter(failures.values()))
        if made and not first:
            await self.forget_silence()
        await self._share()
        await self.guard()
        await self._remark_on_obstacles()
        if failures:
            raise Incomplete(failures)

    async def _have(self, name: str) -> bool:
        """Make a host if it is missing, or repair it; return whether it was made."""
        if name in self.hosts.on:
            if name not in self.hosts.record.cut:
                await self.furnish(name)  # finds everything in its place, or repairs it
            return False
        if name in self.hosts.record.off:
            return False
        if self.hosts.look_up(name).state is HostState.NO_ANSWER:
            raise self.hosts.absent(name)  # it was just asked
        await self.make(name)
        return True

    def _lose(self, name: str, error: LimosaError) -> None:
        """A host that is not as it has to be is not used by this command."""
        self.hosts.on.pop(name, None)
        if name in self.hosts.elsewhere and self.hosts.look_up(name).state is not HostState.NO_ANSWER:
            self.hosts.seen[name] = Seen.silent(error)

    async def _share(self) -> None:
        if self.hosts.on and (self.hosts.elsewhere or any(s.kind == "nfs" for s in self.hosts.lab.storage.values())):
            network = self.hosts.lab.migration_network.name
            addresses = {name: self.hosts.address(name, network) for name in self.hosts.on}
            await self.hosts.setup().share(self.hosts.on, addresses)

    async def _remark_on_obstacles(self) -> None:
        """Say what of the networks between hosts with a system of their own would spoil a migration."""
        if there := {name: self.hosts.on[name] for name in self.hosts.elsewhere if name in self.hosts.on}:
            from limosa.network import obstacles

            for told in await obstacles.remarks(self.hosts.lab, there):
                self.hosts.events.note(told, level="warning")

    async def guard(self) -> None:
        """Have the hosts let nobody but each other reach the ports on which guests arrive."""
        network = self.hosts.lab.migration_network.name
        addresses = {name: self.hosts.address(name, network) for name in self.hosts.lab.hosts}
        if self.hosts.has_fabric:
            await guard.close_fabric(self.hosts.the_client(), self.hosts.lab)
        for name, why in (await guard.apply(self.hosts.lab, self.hosts.on.values(), addresses)).items():
            told = f"{name} does not refuse strangers while a guest arrives there: {why}"
            self.hosts.events.note(told, level="warning")

    async def _make_client(self) -> None:
        self.hosts.on, self.hosts.made_here = {}, True
        if self.hosts.elsewhere and self.hosts.record.ephemeral:
            surroundings.engage_undertaker(self.hosts.directory)
        self.hosts.record.off, self.hosts.record.cut = [], []
        if not self.hosts.has_fabric:  # it is up when its first host is made
            self.hosts.record.since_s = time.time()
            self.hosts.client = self.hosts.this_machine()
            return
        fabric = self.hosts.fabric
        self.hosts.client = client = await fabric.make_client()
        for name in self.hosts.bridged_networks():
            await fabric.join_bridge(self.hosts.this_machine(), name)
            await self._check_addresses(client, name)
        fabric.keep_client()
        self.hosts.directory.save(self.hosts.record)

    async def _check_addresses(self, client: Host, network: str) -> None:
        """Raise StateError when somebody has one of those that the lab itself is about to have in *network*."""
        from limosa.network import occupancy

        wanted = {self.hosts.lab.networks[network].client_address: occupancy.Wanted(CLIENT, f"`client` of {network}")}
        for name in self.hosts.fabric.names:
            where = f"`addresses` of {name}"
            wanted[self.hosts.lab.hosts[name].addresses[network]] = occupancy.Wanted(name, where)
        await occupancy.check(self.hosts.lab, network, client, network, wanted, self.hosts.events)

    async def make(self, name: str) -> None:
        """Make one host and join it to the lab's networks."""
        if name in self.hosts.elsewhere:
            await self.hosts.kind(name).visit(name)  # where nobody lets us in, nothing can be left
            self._claim(name)
        self.hosts.on[name] = await self.hosts.kind(name).make(name)
        await self.furnish(name)
        self.on_again(name)

    def _claim(self, name: str) -> None:
        """Something of the lab is about to be on that host."""
        if self.hosts.record.claimed is not None and name not in self.hosts.record.claimed:
            self.hosts.record.claimed = [*self.hosts.record.claimed, name]
            self.hosts.directory.save(self.hosts.record)

    def on_again(self, name: str) -> None:
        """Record that a host is on, with its links."""
        self.hosts.record.up = not self.hosts.has_fabric
        self.hosts.record.off = [n for n in self.hosts.record.off if n != name]
        self.hosts.record.cut = [n for n in self.hosts.record.cut if n != name]
        self.hosts.directory.save(self.hosts.record)

    async def forget_silence(self) -> None:
        """Have the lab's own hosts, and the client in its fabric, ask anew for those that did not answer them."""
        own = [host for name, host in self.hosts.on.items() if name not in self.hosts.elsewhere]
        for host in [self.hosts.the_client(), *own] if self.hosts.has_fabric else own:
            with contextlib.suppress(LimosaError):  # one that has just ended asks for nobody
                await ip.forget_silence(host)

    async def furnish(self, name: str) -> None:
        """The links of a host that has a system of its own; namespaces get theirs when they are made."""
        if name not in self.hosts.elsewhere:
            return
        setup = self.hosts.setup()
        found = await setup.furnish(self.hosts.host(name))
        self.hosts.record.addresses[name] = found
        if not self.hosts.has_fabric:
            self.hosts.record.addresses[CLIENT] = await setup.client_addresses(self.hosts.the_client(), found)
        self.hosts.directory.save(self.hosts.record)

    async def end_fabric(self) -> None:
        """Undo the making of a client in whose fabric there is no host yet; what is elsewhere stays, and on record."""
        await self.hosts.fabric.remove()
        self.hosts.client, self.hosts.record.up = None, False
        self.hosts.directory.save(self.hosts.record)
