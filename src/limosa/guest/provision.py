"""What is done for a guest of each kind of image: a module a kind, imported when a guest of that kind is started.

What a kind can and needs is its row in ``limosa.spec.image_kinds``; whatever has to be *done* differently is done by
that module, so that whoever prepares guests knows none of them by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from limosa import durable, paths
from limosa.accel import Subject
from limosa.events import Events
from limosa.guest import lab_keys
from limosa.guest.lab_keys import LabKeys
from limosa.hosts.host import Host
from limosa.spec import image_kinds, resolved
from limosa.storage.shelf import Shelf

if TYPE_CHECKING:
    from limosa.guest.own_disk.storage_files import Files

PROVISIONS: dict[str, str] = {
    image_kinds.MICRO.name: "limosa.guest.micro.provision",
    image_kinds.MICRO_GENERIC.name: "limosa.guest.micro.provision",
    image_kinds.BARE.name: "limosa.guest.bare.provision",
    image_kinds.OWN_DISK.name: "limosa.guest.own_disk.provision",
}
"""The module of each kind, by the kind's name."""


class Order:
    """One guest that is to be started: where its files go, and what else its kind may ask of the lab."""

    def __init__(
        self,
        lab: resolved.Lab,
        guest: resolved.Guest,
        shelf: Shelf,
        *,
        mount_point: str,
        keys: Path,
        client: Callable[[], Host],
        counter_rates: Callable[[], Awaitable[list[int]]],
        events: Events,
    ) -> None:
        self.lab, self.guest, self.shelf, self.events = lab, guest, shelf, events
        self.mount_point = mount_point
        """Where every host sees the storage."""
        self.keys = keys
        """The lab's folder of SSH keys."""
        self.client = client
        self.counter_rates = counter_rates
        """Tells the rates in kHz of the time stamp counters of the hosts' machines; 0 for one that is not known."""

    def seen(self, name: str) -> str:
        """The path by which every host sees the file *name* of the guest's storage; none for none."""
        return f"{self.mount_point}/{name}" if name else ""

    async def lab_keys(self) -> LabKeys:
        """The lab's keys, and beside them the file by which its guests are known. Raises MachineError."""
        made = await lab_keys.make(self.keys, self.client().run)
        addresses = [guest.address for guest in self.lab.guests.values() if guest.address]
        try:
            durable.replace(self.keys / "known_hosts", made.known_hosts(*addresses).encode())
        except OSError as error:
            raise paths.cannot_write(error, self.keys) from error
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What was put on the storage, by its names there; empty: not there."""

    provenance: dict[str, object]
    """Where the image came from, for whoever reads a result."""
    kernel: str = ""
    kernel_source: Path | None = None
    """Where the kernel came from on this machine."""
    initrd: str = ""
    append: str = ""
    """The kernel's arguments, whatever the accelerator."""
    disk: str = ""
    renewed: tuple[str, ...] = ()
    """What is put there anew whenever the guest starts, and is of no use without it."""
    own: Files | None = None
    """What belongs to a disk with a system of its own."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What shows whether KVM runs such a guest, and its kernel's file on this machine."""

    subject: Subject
    kernel: Path


@dataclass(frozen=True, slots=True)
class Stock:
    """Whether a guest's image is on this machine."""

    there: bool
    comes: str = ""
    """How `up` has it where it is not there: "built when it is first needed". Empty: not at all."""
    hint: str = ""
    """What brings it then."""


class Provision(Protocol):
    """A module of a kind. Its functions raise LimosaError's children."""

    def stock(self, guest: resolved.Guest) -> Stock:
        """Whether the guest's image is here; looked at, nothing is made."""
        ...

    async def have(self, guest: resolved.Guest, events: Events) -> None:
        """Fetch what the guest's image lacks here, before anything is made for the guest."""
        ...

    async def place(self, order: Order) -> Placed:
        """Put on the storage what the guest starts from. A disk that lies there already is kept."""
        ...

    async def trial(self, order: Order, placed: Placed) -> Trial:
        """What is to be tried under KVM: the guest's own kernel, or one in its place."""
        ...

    async def kernel_arguments(self, order: Order, placed: Placed, accel: str) -> str:
        """What the guest's kernel is told under *accel*."""
        ...

    def current(self) -> set[str]:
        """The directories of the image cache that would be used now; others of the kind are of no use any more."""
        ...


def of(kind: image_kinds.ImageKind) -> Provision:
    """What is done for guests of *kind*."""
    return cast(Provision, importlib.import_module(PROVISIONS[kind.name]))


def current() -> set[str]:
    """The directories in the image cache of all that limosa builds, as it would be built now."""
    return {name for kind in image_kinds.KINDS.values() if kind.built for name in of(kind).current()}
