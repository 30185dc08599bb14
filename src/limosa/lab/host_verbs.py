"""What a person does with the lab's hosts, one by its name: ``lab.hosts``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limosa.hosts.host import CLIENT, Host
from limosa.lab import host_faults, log_files, qemu_launch
from limosa.lab.lab_hosts import LabHosts
from limosa.qemu.features import Features

if TYPE_CHECKING:
    from limosa.lab.fitness import Examined


class HostVerbs:
    """The verbs on hosts of one lab. What changes anything holds the lab's lock."""

    def __init__(self, hosts: LabHosts) -> None:
        self._hosts = hosts

    def __getitem__(self, name: str) -> Host:
        """A host that is on, or ``client``; one that is elsewhere has to be met before.

        Raises SpecError for a name that the lab does not have, StateError for a host that is off or a lab that is down.

        Example::

            print((await lab.hosts["host1"].facts()).kernel)
        """
        if name == CLIENT:
            return self._hosts.the_client()
        if name not in self._hosts.lab.hosts:
            raise qemu_launch.unknown_host(self._hosts.lab, name)
        self._hosts.the_client()
        return self._hosts.host(name)

    async def meet(self, *names: str) -> None:
        """Ask these hosts, or without any name all, unless they were asked: each is connected once. Never raises for
        one that does not answer: whoever wants to use it is told.

        Example::

            await lab.hosts.meet("host1", "host2")
        """
        await self._hosts.meet(names or None)

    def address(self, host: str, network: str) -> str:
        """The address of a host, or of ``client``, in a network. Raises KeyError for a name that the lab does not have.

        Example::

            print(lab.hosts.address("host1", "lan"))
        """
        return self._hosts.address(host, network)

    async def features(self, host: str) -> Features:
        """What the QEMU of *host* can do, as it said itself.

        Raises SpecError, StateError or UnreachableError, MachineError without a QEMU.

        Example::

            features = await lab.hosts.features("host1")
            print(features.version, "multifd" in features.migration_capabilities)
        """
        await self.meet(host)
        self[host]
        return await self._hosts.named(host).offer()

    def interactive(self, host: str, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* on a host (or ``client``) with the caller's terminal.

        Raises SpecError or StateError.

        Example::

            subprocess.run(lab.hosts.interactive("host1", ["ip", "-br", "link"]), check=True)
        """
        return self[host].interactive(argv)

    async def power_off(self, host: str) -> None:
        """Pull a host's plug: everything on it ends at once.

        Raises SpecError, StateError for a machine that limosa does not switch, BusyError.

        Example::

            await lab.hosts.power_off("host2")
        """
        await self.meet(host)
        self[host]
        async with self._hosts.locked("limosa host power-off"):
            await self.meet(host)
            await host_faults.power_off(self._hosts, host)

    async def cut(self, host: str) -> None:
        """Cut a host off from every network; what runs on it goes on.

        Raises SpecError, StateError for one that is off or that limosa would lose, BusyError.

        Example::

            await lab.hosts.cut("host2")
        """
        await self.meet(host)
        self[host]
        async with self._hosts.locked("limosa host cut"):
            await self.meet(host)
            await host_faults.cut(self._hosts, host)

    async def restore(self, host: str) -> None:
        """Undo ``power_off`` and ``cut``; guests that went down with the host stay down until ``up`` or ``start``.

        Raises SpecError, StateError, BusyError.

        Example::

            await lab.hosts.restore("host2")
        """
        if host not in self._hosts.lab.hosts:
            raise qemu_launch.unknown_host(self._hosts.lab, host)
        self._hosts.the_client()
        async with self._hosts.locked("limosa host restore"):
            await self.meet()
            await host_faults.restore(self._hosts, host)

    async def logs(self, lines: int) -> dict[str, list[str]]:
        """The last *lines* of each log by its file's name: guests' consoles, QEMU's words, the hosts' own.

        A host whose logs cannot be read is a warning. Raises StateError for a lab that is down.

        Example::

            for name, lines in (await lab.hosts.logs(5)).items():
                print(name, *lines, sep="\\n    ")
        """
        await self.meet()
        kept = [path for path in self._hosts.directory.log.glob("*.log") if path.is_file()]
        found = {path.name: path.read_text(errors="replace") for path in kept}
        for name in self._hosts.elsewhere:
            if name in self._hosts.on:
                found |= await log_files.ends(self._hosts.on[name], lines)
            elif error := self._hosts.silence(name):
                self._hosts.events.note(f"the logs on {name} cannot be read: {error.message}", level="warning")
        return {file: found[file].splitlines()[-lines:] for file in sorted(found)}

    async def examine(self) -> list[Examined]:
        """What this machine and each host have and lack, whether the lab is up or not. Changes nothing.

        Raises nothing for what is lacking: that is a finding.

        Example::

            for examined in await lab.hosts.examine():
                print(examined.name, "ready" if examined.ready else [f.fix for f in examined.findings if not f.ok])
        """
        from limosa.lab import fitness

        return await fitness.examine(self._hosts)
