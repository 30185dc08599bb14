"""One host of a lab as one command has it: resolved once, and handed down; nobody below looks its name up again."""

from __future__ import annotations

from limosa.hosts.host import Host
from limosa.qemu import features
from limosa.qemu.features import Features
from limosa.spec import resolved


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
        identity = features.local_identity(self.spec.qemu) if not self.spec.traits.own_system else ""
        return await features.probe(self.port, self.spec.qemu, self.spec.qemu_firmware, identity=identity, accel=accel)

    def serial_log(self, guest: str) -> str:
        """Where it sees the log of what *guest* printed on its serial console there."""
        return f"{self.port.runtime_directory}/log/{guest}@{self.name}.console.log"

    def qemu_log(self, guest: str) -> str:
        """Where it sees what the QEMU of *guest* itself said."""
        return f"{self.port.runtime_directory}/log/{guest}@{self.name}.qemu.log"
