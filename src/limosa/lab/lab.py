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
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import durable
from limosa.errors import LimosaError, SpecError, StateError, UnreachableError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.hosts.keeping import marked
from limosa.hosts.namespaces import CLIENT
from limosa.lab import copies, guests, identity, launching, log_files, moves, place, reach, remains, watching, which
from limosa.lab.fabric import end_marked
from limosa.lab.hosting import Hosting, Incomplete, recorded
from limosa.lab.record import LabDirectory, Record, existing, remove_remains
from limosa.lab.status import GuestStatus, HostStatus, LabStatus, look
from limosa.migration import journal
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
        lab, directory = which.resolve(what)
        events = events or Events()
        record = recorded(directory, events)
        if ephemeral and record is not None and (marked(directory.mark) or (record.up and not record.ephemeral)):
            raise StateError(f"lab {lab.name} is up already", hint=f"limosa down --lab {lab.name}")
        user = os.geteuid() != 0 if rootless is None else rootless
        if record is None or ephemeral:
            claimed = record.claimed if record else None if directory.described() else []
            record = Record(rootless=user, ephemeral=ephemeral, claimed=claimed)
        hosting = Hosting(lab, directory, record, events, rootless=user)
        try:
            if ephemeral:
                hosting.hold()
            await hosting.find()
            opened = cls(hosting)
            await opened.cut_logs()
            yield opened
        finally:
            if ephemeral and (hosting.made_here or hosting.client is None):
                await _end(hosting)
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
        """Make what is missing: hosts, then (with *start*) guests. Returns what was made; empty: nothing to do.

        What cannot be made does not keep the rest from it: the first error is raised at the end, with what was made in
        ``made``; further ones are warnings.
        """
        made, failures = list[str](), list[LimosaError]()
        if self._hosting.client is None:
            self._hosting.identify(identity.settled(self.spec, self.directory))
            await self._hosting.check()
        async with self._locked("limosa up"):
            self._hosting.mend()
            if start and any(guest.image_kind.boots_disk for guest in self.spec.guests.values()):
                from limosa.lab import own_disk

                await own_disk.have(self.spec, self.events)
            if self.record.ephemeral and self._hosting.client is None:
                self.directory.save(self.record)  # before anything else, so that ``sweep`` knows what it finds
            self.directory.create(self.spec)
            try:
                failures += await self._converge(made)
                for guest in self.spec.guests.values():
                    try:
                        await self._bring_up(guest, made, start=start, wait=wait)
                    except LimosaError as error:
                        failures.append(error)
            except LimosaError as error:
                failures.append(error)
        for other in failures[1:]:
            self.events.note(f"{other.message} ({other.hint})" if other.hint else other.message, level="warning")
        if failures:
            failures[0].made = tuple(made)
            raise failures[0]
        return made

    async def _bring_up(self, guest: resolved.Guest, made: list[str], *, start: bool, wait: bool) -> None:
        with self.directory.locked("limosa up", guest.name):
            for settle in (moves.finish, moves.end_strays):
                if told := await settle(self._hosting, guest.name):
                    self.events.note(told, level="warning")
            on = guest.host in self._hosting.hosts
            if start and on and await guests.start(self._hosting, guest, wait=wait):
                made.append(f"guest {guest.name}")

    async def _converge(self, made: list[str]) -> list[LimosaError]:
        """Append what was made to *made*; return why some hosts could not be made. Raises when none is on."""
        hosting, was_down = self._hosting, self._hosting.client is None
        before = bool(self.record.claimed)
        if not was_down and not hosting.unfurnished() and all(name in hosting.hosts for name in self.spec.hosts):
            return []
        names = list[str]()
        try:
            with self.events.stage("make the hosts"):
                await hosting.converge(names)
        except Incomplete as incomplete:
            return list(incomplete.failures.values())
        except BaseException:
            if was_down and not hosting.hosts:
                names.clear()
                if before:  # what is there was not made by this command: only `down` ends it
                    await hosting.end_fabric()
                else:
                    self._keep(await hosting.down())
            raise
        finally:
            made += [f"host {name}" if name != CLIENT else "fabric" for name in names]
        return []

    async def down(self, *, purge: bool = True, forget: Collection[str] = ()) -> bool:
        """End everything that runs, prove that nothing is left, and (with *purge*) delete the lab's disks.

        What is on a host that cannot be reached stays recorded, and is taken away by a later call; *forget* gives such
        hosts up for good. Returns whether there was anything. Raises BusyError or LimosaError.
        """
        for name in forget:
            if name not in self.spec.hosts and name not in (self.record.claimed or ()):
                raise launching.unknown_host(self.spec, name)
        if not self.directory.path.exists() and not marked(self.directory.mark):
            return False
        async with self._locked("limosa down"):
            with contextlib.ExitStack() as stack, self.events.stage(f"take lab {self.name} down"):
                for guest in self.spec.guests:
                    stack.enter_context(self.directory.locked("limosa down", guest))
                for guest in self.spec.guests:
                    with contextlib.suppress(UnreachableError):  # it is among those that are left
                        await copies.end_unmarked(self._hosting, guest)
                left = await self._hosting.down(forget)
                self._keep(left)
                if left:
                    raise remains.not_wholly_down(self._hosting, left)
                if purge:
                    self.directory.remove()
        return True

    def _keep(self, left: Collection[str]) -> None:
        """Have the record say what is left on the hosts *left*. It stays, as a lost one leaves all in doubt."""
        try:
            self.directory.save(self.record)
        except LimosaError:  # a full disk keeps nothing from being taken down
            if left:
                raise
            durable.remove(self.directory.path / "record.json")
        for name in self.spec.guests:
            if not copies.may_be_on(self._hosting, name) & set(left):
                self.directory.forget_guest(name)
                journal.remove(self.directory.journal(name))

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
            await self.cut_logs()
            move = await moves.plan(self._hosting, spec_, host, settings or Settings())
            with self.events.stage(f"migrate {guest} {move.source.host.name} → {host}") as step:
                outcome = await move.run()
                if outcome.failure is not None:
                    step.fail()
                return outcome

    def address(self, host: str, network: str) -> str:
        """The address of a host, or of ``client``, in a network."""
        return self._hosting.address(host, network)

    async def cut_logs(self) -> None:
        """Keep the last part of each log; see ``log_files``."""
        hosts = self._hosting.hosts
        await log_files.cut(self.directory.log, [hosts[name] for name in self._hosting.elsewhere if name in hosts])

    async def logs(self, lines: int) -> dict[str, list[str]]:
        """The last *lines* of each log by its file's name: guests' consoles, QEMU's words, the hosts' own."""
        kept = [path for path in self.directory.log.glob("*.log") if path.is_file()]
        found = {path.name: path.read_text(errors="replace") for path in kept}
        for name in self._hosting.elsewhere:
            if name in self._hosting.hosts:
                found |= await launching.logs(self._hosting.hosts[name], lines)
            elif error := self._hosting.silence(name):
                self.events.note(f"the logs on {name} cannot be read: {error.message}", level="warning")
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
        return await copies.host_of(self._hosting, guest)

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
        # Who logs in by the lab's key to an address that is known needs no record.
        record = self.directory.guest_record(guest) if spec_.image_kind.boots_disk else None
        if record is None and spec_.image_kind.boots_disk:
            raise copies.not_running(guest)
        if record and record.own_disk and not record.own_disk.user:
            raise StateError(f"guest {guest} runs no SSH server", hint=f"limosa console {guest}")
        return self.interactive(CLIENT, [*reach.ssh_words(self.directory.keys, spec_, record), *command])


async def take_down(what: str | Path, *, events: Events, purge: bool = True, forget: Collection[str] = ()) -> bool:
    """``Lab.down``, also for a lab whose record or spec is damaged or lost; return whether there was anything."""
    lab, directory = which.locate(what)
    meant: str | Path | resolved.Lab = what
    if not directory.readable_spec() and (directory.described() or which.may_run(directory)):
        if lab is None:
            await _end_undescribed(directory, events=events, purge=purge)
            return True
        meant = lab  # its file says what the damaged one said
    async with Lab.open(meant, events=events) as opened:
        return await opened.down(purge=purge, forget=forget)


async def _end_undescribed(directory: LabDirectory, *, events: Events, purge: bool) -> None:
    """End what runs on this machine of a lab without a spec. Raises LimosaError where there may be more."""
    with directory.locked("limosa down"), events.stage(f"take lab {directory.name} down"):
        place.require_here(directory)
        await end_marked(directory.mark)
        if left := marked(directory.mark):
            raise LimosaError(f"lab {directory.name} is not wholly gone: processes {left} are left")
        remains.refuse_to_forget(directory)
        durable.remove(directory.path / "record.json")
        place.leave(directory)
    if purge:
        directory.remove()


async def _end(hosting: Hosting) -> None:
    """Take an ephemeral lab down, and forget it unless something is left."""
    if left := await hosting.down():
        hosting.directory.save(hosting.record)
        error = remains.not_wholly_down(hosting, left)
        hosting.events.note(f"{error.message} ({error.hint})", level="warning")
    else:
        hosting.directory.remove()


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
            if record and record.claimed:
                continue  # its undertaker is at work, or something is left that only `down` can take away
            with directory.locked("limosa"):
                place.require_here(directory)
                if not marked(directory.mark):
                    directory.remove()
                    gone.append(directory.name)
    return gone


__all__ = ["GuestStatus", "HostStatus", "Lab", "LabStatus", "sweep", "take_down"]
