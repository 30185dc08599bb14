"""The beds of the benches, made of labs that end with them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from limosa import paths, requirements, spec
from limosa.bench.bed import HOST, Failures, Running, in_guest
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Events
from limosa.experiment.bare_guest import BareGuests
from limosa.experiment.measurement import Measurement, measure, recorded_run
from limosa.experiment.route import route
from limosa.guest import built_images
from limosa.guest.agent import executable
from limosa.guest.agent.client import AgentClient
from limosa.hosts.host import Host
from limosa.lab import Lab, sweep
from limosa.probes.pace import Probing
from limosa.results.store import RunDirectory
from limosa.spec.image_kinds import MICRO
from limosa.spec.resolved import Guest
from limosa.units import format_bytes

LOGIN_S = 60.0


class LabBed:
    """A lab as a bed (``limosa.bench.bed.Bed``)."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.bare = BareGuests(lab)

    @property
    def name(self) -> str:
        """The lab's."""
        return self._lab.name

    @property
    def events(self) -> Events:
        """Where it is told what happens."""
        return self._lab.events

    @property
    def guests(self) -> Sequence[str]:
        """Those of the lab file."""
        return list(self._lab.spec.guests)

    def host(self, name: str) -> Host:
        """A host, or the client."""
        return self._lab.host(name)

    def address(self, guest: str) -> str:
        """Where the guest is reached from the client."""
        return self._lab.guest(guest).address

    async def start(self, guest: str) -> Running:
        """Start it until it can be logged in to, and halt it."""
        await self._lab.start(guest)
        await in_guest(self, guest, ["true"], LOGIN_S)
        record = self._lab.directory.guest_record(guest)
        assert record is not None, "a guest that was started is recorded"
        facts: dict[str, Any] = {"machine": record.machine, "cpu": record.cpu, "image": record.image.get("digest", "")}
        await self._halt(guest)
        return Running(record.accel, record.accel_reason, facts)

    @asynccontextmanager
    async def awake(self, guest: str) -> AsyncIterator[None]:
        """Let it run for as long as the context is open."""
        copy = await self._lab.guests.qemu(guest)
        try:
            await copy.qemu.control.resume()
        finally:
            await copy.qemu.close()
        try:
            yield
        finally:
            # One that died has nothing left to halt; its next turn says so.
            with contextlib.suppress(LimosaError):
                await self._halt(guest)

    async def _halt(self, guest: str) -> None:
        copy = await self._lab.guests.qemu(guest)
        try:
            await copy.qemu.control.pause()
        finally:
            await copy.qemu.close()

    def command(self, guest: str, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* in the guest."""
        return self._lab.guests.ssh(guest, argv)

    def agent(self, guest: str) -> AbstractAsyncContextManager[AgentClient]:
        """The agent in it."""
        return self._lab.guests.agent(guest)

    async def where(self, guest: str) -> str:
        """The host that it runs on. Raises StateError when it does not run."""
        return await self._lab.guests.where(guest)


class LabTrack(LabBed):
    """A lab with a guest to move as a bed (``limosa.bench.bed.Track``)."""

    def __init__(self, lab: Lab, guest: Guest) -> None:
        super().__init__(lab)
        self.guest = guest.name
        self.image = guest.image if guest.image_kind.built else MICRO.name
        """What the client's programs are taken from: a system that limosa did not build has none for it."""

    @property
    def hosts(self) -> Sequence[str]:
        """Those of the lab file."""
        return list(self._lab.spec.hosts)

    def recorded(
        self, kind: str, *, base: Path | None = None, failures: Failures | None = None, told: bool = False
    ) -> AbstractAsyncContextManager[RunDirectory]:
        """A run directory (in *base*) for what happens inside."""
        return recorded_run(self._lab, self.guest, kind, base=base, failures=failures, told=told)

    def measured(
        self, run: RunDirectory, probing: Probing, noted: dict[str, object]
    ) -> AbstractAsyncContextManager[Measurement]:
        """Watch the guest into *run*."""
        return measure(self._lab, self.guest, run, probing, noted)


class LabBeds:
    """Makes beds (``limosa.bench.bed.Beds``). *file* is the lab with several hosts, without it an example."""

    def __init__(self, events: Events, *, file: Path | None = None, no_install: bool = True) -> None:
        self._events = events
        self._file, self._no_install = file or paths.example(), no_install

    async def image(self, name: str) -> built_images.Image:
        """The image that guests are made from."""
        return await built_images.ensure(name, self._events, agent=await executable.ensure(self._events))

    @asynccontextmanager
    async def of_guests(self, name: str, guests: Sequence[str]) -> AsyncIterator[LabBed]:
        """A lab of one host; *guests* are lines of a lab file's section of guests."""
        await self._prepare()
        section = "guests:\n" + "".join(f"  {line}\n" for line in guests) if guests else ""
        described = spec.loads(f"name: {name}-{os.getpid()}\nhosts: {{{HOST}: {{}}}}\n{section}")
        async with Lab.open(described, events=self._events, ephemeral=True) as lab:
            await lab.up(start=False)
            yield LabBed(lab)

    @asynccontextmanager
    async def track(self, name: str, *, memory_bytes: int) -> AsyncIterator[LabTrack]:
        """The lab of the file, under a *name* of its own. Raises SpecError when no guest of it can be measured so."""
        await self._prepare()
        described = msgspec.structs.replace(spec.load(self._file), name=f"{name}-{os.getpid()}")
        guest = route(described, "this bench").guest
        if memory_bytes >= guest.memory_bytes:
            wanted, there = map(format_bytes, (memory_bytes, guest.memory_bytes))
            text = f"--memory {wanted} does not fit into {guest.name}, which has {there}"
            raise SpecError(text, hint="ask for half of it at the most")
        async with Lab.open(described, events=self._events, ephemeral=True) as lab:
            await lab.up()
            yield LabTrack(lab, guest)
            with contextlib.suppress(StateError):  # a guest that died is stopped already
                await lab.stop(guest.name, force=True)

    async def _prepare(self) -> None:
        sweep()
        await requirements.install(await requirements.missing(), self._events, no_install=self._no_install)
