"""The verbs on a lab. The command line is one caller of these; a notebook is another::

async with Lab.open("examples/two-hosts.yaml") as lab:
    await lab.up()
    moved = await lab.migrate("guest1", "host2")
    print(moved.info.downtime, "ms")
    await lab.down()
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import spec
from limosa.errors import LimosaError, SpecError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.hosts.keeping import marked
from limosa.hosts.namespaces import CLIENT
from limosa.lab import copies, guests, launching, moves, reach, watching
from limosa.lab.fabric import end_marked
from limosa.lab.hosting import Hosting, recorded
from limosa.lab.record import LabDirectory, Record, existing, remove_remains
from limosa.lab.status import GuestStatus, HostStatus, LabStatus, look
from limosa.migration.engine import Outcome
from limosa.migration.settings import Settings
from limosa.qemu.features import Features
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient
    from limosa.guest.screen.camera import Camera
    from limosa.lab.fitness import Examined


class Lab:
    """One lab, found again from its state directory and from what really runs."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        what: str | Path | resolved.Lab = "",
        *,
        events: Events | None = None,
        ephemeral: bool = False,
        rootless: bool | None = None,
    ) -> AsyncIterator[Lab]:
        """Open a lab by its file, by its name, or (empty) the only one that is up.

        An *ephemeral* lab ends with this context, and with this process even when that is killed.
        *rootless* forces a user namespace (True) or none (False); None: only root goes without.
        Raises SpecError, StateError or MachineError.
        """
        lab, directory = _resolve(what)
        events = events or Events()
        record = recorded(directory, events)
        if ephemeral and record is not None:
            if marked(directory.mark):
                raise StateError(f"lab {lab.name} is up already", hint=f"limosa down --lab {lab.name}")
            record = None
        if record is None:
            record = Record(rootless=os.geteuid() != 0 if rootless is None else rootless, ephemeral=ephemeral)
        hosting = Hosting(lab, directory, record, events)
        try:
            if ephemeral:
                hosting.hold()
            await hosting.find()
            yield cls(hosting)
        finally:
            if ephemeral and (hosting.made_here or hosting.client is None):
                await hosting.down()
                directory.remove()
            hosting.fabric.close_lifeline()
            await hosting.close()

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    @property
    def spec(self) -> resolved.Lab:
        """What the lab file describes, resolved."""
        return self._hosting.lab

    @property
    def events(self) -> Events:
        """What happens, as it happens."""
        return self._hosting.events

    @property
    def directory(self) -> LabDirectory:
        """The lab's state directory."""
        return self._hosting.directory

    @property
    def record(self) -> Record:
        """What is recorded of the running lab."""
        return self._hosting.record

    def host(self, name: str) -> Host:
        """A host that is on, or ``client``. Raises SpecError or StateError."""
        if name == CLIENT:
            return self._hosting.the_client()
        if name not in self.spec.hosts:
            raise launching.unknown_host(self.spec, name)
        self._hosting.the_client()
        return self._hosting.host(name)

    @property
    def first_guest(self) -> str:
        """The guest that is meant when none is named. Raises SpecError for a lab without guests."""
        for name in self.spec.guests:
            return name
        raise SpecError(f"lab {self.name} has no guests", hint="add one to the lab file, see docs/lab-file.md")

    def guest(self, name: str) -> resolved.Guest:
        """A guest's spec. Raises SpecError."""
        if name not in self.spec.guests:
            raise launching.unknown_guest(self.spec, name)
        return self.spec.guests[name]

    async def up(self, *, start: bool = True, wait: bool = True) -> list[str]:
        """Make what is missing: hosts, then (with *start*) guests. Returns what was made; empty: nothing to do."""
        if self._hosting.client is None:
            await self._hosting.check()
        async with self._locked("limosa up"):
            if start and any(guest.boots_disk for guest in self.spec.guests.values()):
                from limosa.lab import own_disk

                await own_disk.have(self.spec, self.events)
            if self.record.ephemeral and self._hosting.client is None:
                self.directory.save(self.record)  # before anything else, so that ``sweep`` knows what it finds
            self.directory.create(self.spec)
            made = [f"host {n}" if n != CLIENT else "fabric" for n in await self._converge()]
            for guest in self.spec.guests.values():
                with self.directory.locked("limosa up", guest.name):
                    for settle in (moves.finish, moves.end_strays):
                        if told := await settle(self._hosting, guest.name):
                            self.events.note(told, level="warning")
                    on = guest.host in self._hosting.hosts
                    if start and on and await guests.start(self._hosting, guest, wait=wait):
                        made.append(f"guest {guest.name}")
        return made

    async def _converge(self) -> list[str]:
        missing = self._hosting.client is None or any(n not in self._hosting.hosts for n in self.spec.hosts)
        if not missing:
            return []
        with self.events.stage("make the hosts"):
            try:
                return await self._hosting.converge()
            except BaseException:
                if not self._hosting.hosts:
                    await self._hosting.down()
                    self._forget()
                raise

    async def down(self, *, purge: bool = True) -> bool:
        """End everything that runs, prove that nothing is left, and (with *purge*) delete the lab's disks.

        Returns whether there was anything. Raises BusyError or LimosaError.
        """
        if not self.directory.path.exists() and not marked(self.directory.mark):
            return False
        async with self._locked("limosa down"):
            with contextlib.ExitStack() as stack, self.events.stage(f"take lab {self.name} down"):
                for guest in self.spec.guests:
                    stack.enter_context(self.directory.locked("limosa down", guest))
                await self._hosting.down()
                self._forget()
                if purge:
                    self.directory.remove()
        return True

    def _forget(self) -> None:
        (self.directory.path / "record.json").unlink(missing_ok=True)
        for name in self.spec.guests:
            self.directory.forget_guest(name)
            self.directory.journal(name).unlink(missing_ok=True)

    @asynccontextmanager
    async def _locked(self, what: str, guest: str = "") -> AsyncIterator[None]:
        """Hold a lock; what another command changed since this lab was opened is seen first."""
        with self.directory.locked(what, guest):
            await self._hosting.reload()
            yield

    async def status(self) -> LabStatus:
        """What is on, what runs where. Finishes nothing and changes nothing."""
        return await look(self._hosting)

    async def examine(self) -> list[Examined]:
        """What this machine and each host have and lack, whether the lab is up or not. Changes nothing."""
        from limosa.lab import fitness

        return await fitness.examine(self._hosting)

    async def start(self, guest: str, *, wait: bool = True) -> bool:
        """Start a guest; return whether it was stopped before."""
        spec_ = self.guest(guest)
        self._hosting.the_client()
        async with self._locked("limosa start", guest):
            if told := await moves.finish(self._hosting, guest):
                self.events.note(told, level="warning")
            return await guests.start(self._hosting, spec_, wait=wait)

    async def stop(self, guest: str, *, force: bool = False, host: str = "") -> bool:
        """Shut a guest down (*force*: at once); return whether it ran."""
        self.guest(guest)
        self._hosting.the_client()
        async with self._locked("limosa stop", guest):
            with self.events.stage(f"stop {guest}"):
                return await moves.stop(self._hosting, guest, force=force, host=host)

    async def migrate(self, guest: str, host: str, settings: Settings | None = None) -> Outcome:
        """Move a running guest to *host*. Raises MigrationError (the guest runs on the source) or DecisionError."""
        outcome = await self.attempt(guest, host, settings)
        if outcome.failure is not None:
            raise outcome.failure
        return outcome

    async def attempt(self, guest: str, host: str, settings: Settings | None = None) -> Outcome:
        """As ``migrate``, but a migration that fails is a result too: it is in ``Outcome.failure``.

        What does not even begin (wrong host, guest stopped, no room) is raised as StateError or MachineError.
        """
        spec_ = self.guest(guest)
        async with self._locked("limosa migrate", guest):
            move = await moves.plan(self._hosting, spec_, host, settings or Settings())
            with self.events.stage(f"migrate {guest} {move.source.host.name} → {host}") as step:
                outcome = await move.run()
                if outcome.failure is not None:
                    step.fail()
                return outcome

    def address(self, host: str, network: str) -> str:
        """The address of a host, or of ``client``, in a network."""
        return self._hosting.address(host, network)

    async def logs(self, lines: int) -> dict[str, list[str]]:
        """The last *lines* of each log by its file's name: guests' consoles, QEMU's words, the hosts' own."""
        found = {path.name: path.read_text(errors="replace") for path in self.directory.log.glob("*.log")}
        for name in self._hosting.elsewhere:
            if name in self._hosting.hosts:
                found |= await launching.logs(self._hosting.hosts[name], lines)
        return {file: found[file].splitlines()[-lines:] for file in sorted(found)}

    async def features(self, host: str) -> Features:
        """What the QEMU of *host* can do, as it said itself."""
        return await launching.offer(self._hosting, host)

    async def explain(self, guest: str) -> list[tuple[str, str]]:
        """The guest's real command line, option by option, each with its purpose.

        A running guest's is the one it was started with; for a stopped one everything is prepared first.
        """
        spec_ = self.guest(guest)
        self._hosting.the_client()
        from limosa.lab import preparation
        from limosa.qemu import argv, purpose

        record = self.directory.guest_record(guest) or await preparation.prepare(self._hosting, spec_)
        known = await launching.offer(self._hosting, record.host, record.accel)
        launch_id = next((copy.launch for copy in record.copies if copy.host == record.host), "")
        launch = launching.launch(self._hosting, spec_, record, record.host, known, launch_id)
        return [(launch.qemu, f"The QEMU of {record.host}."), *purpose.explain(argv.arguments(launch))]

    async def settle(self, guest: str) -> str:
        """Finish or undo a migration that an earlier command left; a sentence on what was done, or nothing."""
        self.guest(guest)
        async with self._locked("limosa", guest):
            return await moves.finish(self._hosting, guest)

    async def where(self, guest: str) -> str:
        """The host that runs *guest*. Raises StateError when it does not run."""
        self.guest(guest)
        self._hosting.the_client()
        return await copies.place(self._hosting, guest)

    async def qemu(self, guest: str) -> copies.Copy:
        """The guest's QEMU with both monitors; the caller closes it. Raises StateError when it does not run."""
        self.guest(guest)
        self._hosting.the_client()
        return await copies.running(self._hosting, guest)

    @asynccontextmanager
    async def agent(self, guest: str) -> AsyncIterator[AgentClient]:
        """A conversation with the agent inside *guest*, wherever it runs."""
        host = await self.where(guest)
        client = await guests.connect_agent(self._hosting, guest, host)
        try:
            yield client
        finally:
            await client.close()

    async def answers(self, guest: str) -> bool:
        """Whether a network stack answers at the guest's address, with or without an agent."""
        return await reach.answers(self._hosting, self.guest(guest))

    def console_sockets(self, guest: str) -> AsyncIterator[socket.socket]:
        """Connections to the guest's serial console: one where it runs, and another each time that it has moved."""
        self.guest(guest)
        return watching.serial_sockets(self._hosting, guest)

    def screens(self, guest: str) -> AsyncIterator[Camera]:
        """Connections to the guest's screen: one where it runs, and another each time that it has moved."""
        self.guest(guest)
        return watching.cameras(self._hosting, guest)

    async def power_off(self, host: str) -> None:
        """Pull a host's plug: everything on it ends at once."""
        self.host(host)
        async with self._locked("limosa host power-off"):
            await self._hosting.power_off(host)

    async def cut(self, host: str) -> None:
        """Cut a host off from every network; what runs on it goes on."""
        self.host(host)
        async with self._locked("limosa host cut"):
            await self._hosting.cut(host)

    async def restore(self, host: str) -> None:
        """Undo ``power_off`` and ``cut``."""
        if host not in self.spec.hosts:
            raise launching.unknown_host(self.spec, host)
        self._hosting.the_client()
        async with self._locked("limosa host restore"):
            await self._hosting.restore(host)

    def interactive(self, host: str, argv: Sequence[str]) -> list[str]:
        """The local command line that runs *argv* on a host (or ``client``) with the caller's terminal."""
        return self.host(host).interactive(argv)

    def ssh(self, guest: str, command: Sequence[str] = ()) -> list[str]:
        """The local command line that logs in to *guest*, by the lab's key and with strict host keys."""
        spec_ = self.guest(guest)
        if not spec_.address:
            raise StateError(f"guest {guest} has no network", hint=f"limosa console {guest}")
        record = self.directory.guest_record(guest)
        if record is None and spec_.boots_disk:
            raise copies.not_running(guest)
        if record and record.own_disk and not record.own_disk.user:
            raise StateError(f"guest {guest} runs no SSH server", hint=f"limosa console {guest}")
        return self.interactive(CLIENT, [*reach.ssh_words(self.directory.keys, spec_, record), *command])


async def take_down(what: str | Path, *, events: Events, purge: bool = True) -> bool:
    """``Lab.down``, also for a lab whose record or spec is damaged; return whether there was anything."""
    _, directory = _locate(what)
    if not directory.damaged() or not (directory.path / "record.json").exists():
        async with Lab.open(what, events=events) as opened:
            return await opened.down(purge=purge)
    with directory.locked("limosa down"), events.stage(f"take lab {directory.name} down"):
        await end_marked(directory.mark)
        if left := marked(directory.mark):
            raise LimosaError(f"lab {directory.name} is not wholly gone: processes {left} are left")
        (directory.path / "record.json").unlink(missing_ok=True)
    if purge:
        directory.remove()
    return True


def _resolve(what: str | Path | resolved.Lab) -> tuple[resolved.Lab, LabDirectory]:
    if isinstance(what, resolved.Lab):
        return what, LabDirectory.named(what.name)
    lab, directory = _locate(what)
    if lab is None:
        return directory.spec(), directory
    _same_file(lab, directory)
    return lab, directory


def _locate(what: str | Path) -> tuple[resolved.Lab | None, LabDirectory]:
    """The lab's directory; with the lab itself when *what* is its file."""
    text = str(what) or os.environ.get("LIMOSA_LAB", "")
    if not text:
        return _only()
    path = Path(text)
    if path.is_file() or path.suffix in {".yaml", ".yml"} or "/" in text:
        lab = spec.load(path)
        return lab, LabDirectory.named(lab.name)
    return None, LabDirectory.named(text)


def _same_file(lab: resolved.Lab, directory: LabDirectory) -> None:
    """A running lab keeps the spec it was made from. Raises StateError when *lab* is another."""
    if not (directory.path / "record.json").exists():
        return
    with contextlib.suppress(LimosaError):
        if spec.encode(directory.spec()) == spec.encode(lab):
            return
    raise StateError(
        f"lab {lab.name} is up, made from another description than {lab.file} is now",
        hint=f"limosa down --lab {lab.name}, then up again; or give the new one another name",
    )


def _only() -> tuple[resolved.Lab | None, LabDirectory]:
    """The lab when none is named: ``limosa.yaml`` here, else the only one that is up."""
    here = Path("limosa.yaml")
    if here.is_file():
        return _locate(here)
    found = [directory for directory in existing() if (directory.path / "record.json").exists()]
    if len(found) == 1:
        return None, found[0]
    if not found:
        raise StateError("no lab is up", hint="limosa up FILE makes one; try examples/two-hosts.yaml")
    names = ", ".join(directory.name for directory in found)
    raise SpecError(f"several labs are up: {names}", hint="say which with --lab NAME")


def sweep() -> list[str]:
    """Delete the directories of ephemeral labs of which nothing runs any more, and those that hold nothing but the
    lock of a command killed at once; return their names."""
    gone = []
    remove_remains()
    for directory in existing():
        with contextlib.suppress(LimosaError):  # damaged, or another command is at work on it
            record = directory.record()
            if not record.ephemeral if record else (directory.path / "spec.json").exists():
                continue
            with directory.locked("limosa"):
                if not marked(directory.mark):
                    directory.remove()
                    gone.append(directory.name)
    return gone


__all__ = ["GuestStatus", "HostStatus", "Lab", "LabStatus", "sweep", "take_down"]
