"""A container as a host: the link's program in it, over the daemon."""

from __future__ import annotations

import msgspec

from limosa.events import Events
from limosa.hosts import own_facts
from limosa.hosts.containers.daemon import Daemon
from limosa.hosts.containers.opener import ContainerOpener
from limosa.hosts.host import HostFacts
from limosa.hosts.link.host import LinkedHost


class ContainerHost(LinkedHost):
    """Implements the Host port. *container* is what the daemon calls it."""

    def __init__(
        self, name: str, daemon: Daemon, container: str, runtime_directory: str, events: Events | None = None
    ) -> None:
        super().__init__(name, runtime_directory, ContainerOpener(daemon, name, container, runtime_directory), events)
        self.container = container
        self._on_this_machine = bool(daemon.endpoint.socket)

    async def facts(self) -> HostFacts:
        """What it is, asked now; see the port.

        A container's own system has a machine-id and, by LXC, a boot id of its own. One of the daemon on this machine
        is on this machine, as far as kernel and CPU say nothing else (a cluster's daemon has others' too).
        """
        found, here = await super().facts(), own_facts.facts()
        if self._on_this_machine and (found.kernel, found.cpu_model) == (here.kernel, here.cpu_model):
            return msgspec.structs.replace(found, machine=here.machine)
        return found
