"""What a host with a system of its own gets from a lab, and what is taken from it again: links, TAPs, storage, logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from limosa.deadline import Deadline
from limosa.errors import StateError
from limosa.hosts.host import Host
from limosa.lab.record import Launched
from limosa.network import attachment, ip
from limosa.qemu import launches
from limosa.spec import resolved
from limosa.storage import nfs, proof


class HostSetup:
    """Furnishes the hosts of one lab; *mark* is what its things bear. Every method raises LimosaError's children."""

    def __init__(self, lab: resolved.Lab, mark: str) -> None:
        self.lab, self.mark = lab, mark

    async def furnish(self, host: Host) -> dict[str, str]:
        """Give *host* what it lacks; what is in its place stays. Returns its address in each network."""
        await host.run(["mkdir", "-p", "-m", "0700", f"{host.runtime_directory}/log"])
        if self._made(host):
            await ip.set_patience(host)
        return await attachment.attach(host, self.lab, self.mark)

    async def addresses(self, host: Host) -> dict[str, str]:
        """The address in each network of a *host* that is furnished already."""
        return await attachment.addresses(host, self.lab)

    def _made(self, host: Host) -> bool:
        """Whether *host* is a container of the lab's own, which goes as a whole."""
        return self.lab.hosts[host.name].made

    async def client_addresses(self, client: Host, towards: Mapping[str, str]) -> dict[str, str]:
        """By network, how *client* is seen by the host with these addresses."""
        return {network: await attachment.towards(client, address) for network, address in towards.items()}

    async def share(self, hosts: Mapping[str, Host], addresses: Mapping[str, str]) -> None:
        """Serve and mount what is to be mounted, then prove that each storage is the same on all *hosts*.

        *addresses* are the hosts' in the network that migration traffic takes.
        """
        for storage in self.lab.storage.values():
            if storage.kind == "nfs":
                if storage.server in self.lab.hosts and storage.server not in hosts:
                    raise StateError(
                        f"storage {storage.name} is served by {storage.server}, which is not on",
                        hint="no guest is started without it; limosa status says what is known of the host",
                    )
                if storage.server in hosts:
                    await nfs.export(hosts[storage.server], storage, self.lab.migration_network.subnet)
                for host in hosts.values():
                    await nfs.mount(host, storage, nfs.address_of(storage, addresses))
            await proof.prove(list(hosts.values()), storage.mount_point)

    async def strip(self, host: Host, copies: Mapping[str, Sequence[Launched]]) -> None:
        """End the guests' *copies* on *host*, which are on record, and give back what it had."""
        for guest, known in copies.items():
            for running in await launches.look(host, guest):
                if any(copy.is_surely(host.name, running) for copy in known):
                    await launches.end(host, running, Deadline.after(0))
        if self._made(host):
            return
        for storage in self.lab.storage.values():
            if storage.kind == "nfs":
                await nfs.unmount(host, storage)
                if storage.server == host.name:
                    await nfs.unexport(host, storage, self.lab.migration_network.subnet)
        await attachment.detach(host, self.lab, self.mark)
