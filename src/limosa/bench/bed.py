"""What a bench lies on: the narrow port through which it has guests, a host and a client, whoever provides them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import CommandError, LimosaError
from limosa.events import Events
from limosa.guest.agent.client import AgentClient
from limosa.guest.built_images import Image
from limosa.hosts.host import Host
from limosa.migration.settings import Settings
from limosa.migration.transfer import Outcome
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory

HOST = "host1"
"""The one host of a bench that moves nothing."""

PATIENCE_S = 60.0
"""How long a command in the guest may take longer than the time that it was told to work."""


@dataclass(frozen=True, slots=True)
class Running:
    """How a guest runs: what is recorded of it."""

    accel: str
    accel_reason: str
    facts: dict[str, Any]


class BareGuests(Protocol):
    """Guests without an operating system, each of them for one measurement."""

    async def prove_kvm(self, kernel: Path) -> str:
        """Why KVM may be taken for *kernel* here. Raises MachineError when it may not."""
        ...

    def serial(
        self, name: str, accel: str, kernel: Path, append: str
    ) -> AbstractAsyncContextManager[asyncio.StreamReader]:
        """Start a guest that ends with the context; what it writes to its serial line."""
        ...


class Bed(Protocol):
    """One lab that ends with the bench. Guests are called by name."""

    @property
    def name(self) -> str:
        """The lab's."""
        ...

    @property
    def events(self) -> Events:
        """Where it is told what happens."""
        ...

    @property
    def guests(self) -> Sequence[str]:
        """Those that were described."""
        ...

    @property
    def bare(self) -> BareGuests:
        """Beside the described guests."""
        ...

    def host(self, name: str) -> Host:
        """A host, or the client."""
        ...

    def address(self, guest: str) -> str:
        """Where the guest is reached from the client."""
        ...

    async def start(self, guest: str) -> Running:
        """Start it until it can be logged in to; then it stands still.

        Raises MachineError when it cannot be had here, LimosaError when it fails.
        """
        ...

    def awake(self, guest: str) -> AbstractAsyncContextManager[None]:
        """Let it run; at other times it stands still, so that it takes nothing from what is measured then."""
        ...

    def command(self, guest: str, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* in the guest."""
        ...

    def agent(self, guest: str) -> AbstractAsyncContextManager[AgentClient]:
        """The agent in it."""
        ...

    async def where(self, guest: str) -> str:
        """The host that it runs on. Raises StateError when it does not run."""
        ...


class Mover(Protocol):
    """A guest that is measured, and can be moved meanwhile."""

    async def migrate(self, target: str, settings: Settings | None = None) -> Outcome:
        """Move it and record that; a failure is in the outcome."""
        ...


Failures = Callable[[RunDirectory], list[str]]
"""What went wrong in a run that came to its end; nothing: it completed."""


class Track(Bed, Protocol):
    """A bed of several hosts with one guest that runs and can be moved."""

    @property
    def guest(self) -> str:
        """The one to move."""
        ...

    @property
    def image(self) -> str:
        """What it is made from."""
        ...

    @property
    def hosts(self) -> Sequence[str]:
        """Where it can be."""
        ...

    def recorded(
        self, kind: str, *, base: Path | None = None, failures: Failures | None = None, told: bool = False
    ) -> AbstractAsyncContextManager[RunDirectory]:
        """A run directory (in *base*) for what happens inside; *told*: say where it is when that is interrupted."""
        ...

    def measured(
        self, run: RunDirectory, probing: Probing, noted: dict[str, object]
    ) -> AbstractAsyncContextManager[Mover]:
        """Watch the guest into *run*; *noted* is what it is doing."""
        ...


class Beds(Protocol):
    """Who makes beds."""

    async def image(self, name: str) -> Image:
        """The image that guests are made from."""
        ...

    def of_guests(self, name: str, guests: Sequence[str]) -> AbstractAsyncContextManager[Bed]:
        """A bed of one host; *guests* are lines of a lab file's section of guests. None of them runs yet."""
        ...

    def track(self, name: str, *, memory_bytes: int) -> AbstractAsyncContextManager[Track]:
        """A bed to move a guest on that can take up *memory_bytes*. Raises SpecError when the lab has none."""
        ...


async def in_guest(bed: Bed, guest: str, argv: Sequence[str], limit_s: float) -> str:
    """What *argv* printed in the guest. Raises LimosaError's children with the guest's own words."""
    deadline = Deadline.after(limit_s)
    async for _ in deadline.ticks(0.5):
        try:
            return (await process.run(bed.command(guest, argv), timeout_s=limit_s)).text
        except CommandError as error:
            # The agent may answer before the SSH server listens.
            if "Connection refused" in error.stderr and not deadline.passed:
                continue
            if error.returncode == 127:
                raise LimosaError(f"{argv[0]} is missing in the guest {guest}") from error
            raise LimosaError(f"{argv[0]} in {guest}: {_last(error.stderr) or error.message}") from error
    raise LimosaError(f"{guest} refused every SSH login for {limit_s:g} s", hint=f"limosa logs {guest}")


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
