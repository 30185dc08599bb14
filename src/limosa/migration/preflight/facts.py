"""What is known of a move that has not begun. What was not asked, or not answered, is None, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from limosa.errors import LimosaError
from limosa.migration.own_keys import Shown
from limosa.migration.plan import MigrationPlan
from limosa.migration.settings import Settings
from limosa.network.attachment import Interface
from limosa.network.obstacles import PathSize
from limosa.qemu.dirty_log import Verdict
from limosa.qemu.features import Features

Role = Literal["disk", "base", "seed", "firmware", "firmware settings", "kernel", "initrd"]


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What the guest was started with: its target gets the same."""

    machine: str
    cpu: str
    accel: str
    ram_bytes: int | None = None
    memory_bytes: int = 0
    """What the lab file gives it."""
    network: str = ""
    """The one that it has a NIC in; empty: none."""
    shared_network: bool = False
    """Whether it has an address there, and others than the lab may be in it."""
    files: tuple[tuple[Role, str], ...] = ()
    """Each file that its QEMU opens, by what it is for; paths as the hosts see them."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as one host sees it, as the user that runs QEMU there."""

    there: bool = True
    readable: bool = False
    writable: bool = False
    device: int = 0
    inode: int = 0
    size_bytes: int = 0
    head: str = ""
    """A digest of how it begins; empty where it was not read."""
    locked: bool | None = None
    """Whether somebody is seen to hold a lock as QEMU takes them; None: not looked."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one program on one host saw, all at once."""

    files: Mapping[str, File] = {}
    """By path."""
    faults_by_call: str | None = None
    """Why the system call userfaultfd is not permitted to who runs QEMU; empty: it is. None: not tried."""
    faults_by_device: str | None = None
    """The same of /dev/userfaultfd."""


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """How far the target's clock is ahead of the source's."""

    ahead_ns: int
    uncertainty_ns: int
    """The difference is known to within this, either way."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """What a guest's memory is kept in."""

    name: str
    path: str
    """Of a file."""
    file_system: str
    """Which that file is in, as ``stat -f`` calls it."""


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the stream is to be encrypted, and what both hosts show of keys of the user's own."""

    encrypted: bool
    alone: tuple[str, str] | None = None
    """The host that has some, and the one that has none."""
    shown: tuple[Shown, Shown] | None = None
    """Of the source and of the target; None: limosa makes the keys."""
    names: tuple[str, ...] = ()
    """By which the lab knows the target, the best first."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One guest, the host that it is on, the host that it is to go to, and what is known of them."""

    guest: str
    target: str
    settings: Settings
    hosts: tuple[str, ...] = ()
    """All of the lab's."""
    source: str = ""
    status: str = ""
    """The guest's run state, as its QEMU told."""
    cut: tuple[str, ...] = ()
    """Hosts that were cut off from the network on purpose."""
    absent: LimosaError | None = None
    """Why the target cannot be used at all."""
    unfinished: bool = False
    """Whether an earlier migration was interrupted, and nobody has finished or undone it."""
    leftover: bool = False
    """Whether the target has a QEMU still that waits for an earlier migration."""

    started: Started | None = None
    source_qemu: Features | None = None
    target_qemu: Features | None = None
    keys: Keys | None = None
    plan: MigrationPlan | None = None
    """What would be done, by what both QEMUs can do."""
    trial: Verdict | None = None
    """What is remembered of the target's QEMU: whether it loses writes."""
    room_bytes: int | None = None
    """The memory that the target has left for this guest."""
    same_machine: bool = False
    """Whether both hosts are one machine, with one kernel."""
    source_sight: Sight | None = None
    target_sight: Sight | None = None
    source_links: Mapping[str, Interface] | None = None
    """The source's interfaces, by name."""
    target_links: Mapping[str, Interface] | None = None
    bridge: Interface | None = None
    """What the guest's NIC is joined with on the target; None: it has none, or it is not known."""
    packets: PathSize | None = None
    """How large packets may be between the two, in the migration network."""
    clocks: Clocks | None = None
    blockers: tuple[str, ...] | None = None
    """Why its QEMU would not let it go, in QEMU's words."""
    queue_entries: int | None = None
    """How many the queue of its virtio random number device has; None: it has none, or QEMU does not tell."""
    backends: tuple[Backend, ...] | None = None
    """The files that its memory is in."""
    taken: Mapping[str, str] | None = None
    """Of the guest's address: which other MAC answers for it. Empty: none does."""
    unknown: Mapping[str, LimosaError] = {}
    """Why a fact, by its name here, could not be had."""

    @property
    def may_switch(self) -> bool:
        """Whether the move may become post-copy: what that alone needs is looked at only then."""
        return self.plan.may_switch if self.plan is not None else self.settings.method == "post-copy"
