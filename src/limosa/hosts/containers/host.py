"""A container as a host: the link's program in it, over the daemon."""

from __future__ import annotations

from limosa.events import Events
from limosa.hosts.containers.daemon import Daemon
from limosa.hosts.containers.wire import ContainerOpener
from limosa.hosts.linked import LinkedHost


class ContainerHost(LinkedHost):
    """Implements the Host port. *container* is what the daemon calls it."""

    def __init__(
        self, name: str, daemon: Daemon, container: str, runtime_directory: str, events: Events | None = None
    ) -> None:
        super().__init__(name, runtime_directory, ContainerOpener(daemon, name, container, runtime_directory), events)
        self.container = container
