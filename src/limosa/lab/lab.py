"""The verbs on a lab. The command line is one caller of these; a notebook is another::

async with Lab.open("examples/two-hosts.yaml") as lab:
    await lab.up()
    moved = await lab.migrate("guest1", "host2")
    print(moved.info.downtime, "ms")
    await lab.down()

Each verb imports what it alone needs: a command that looks at a lab is over in less time than the rest takes to load.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import durable
from limosa.errors import LimosaError, StateError, UnreachableError
from limosa.events import Events
from limosa.hosts.host import CLIENT, Host
from limosa.lab import copies, identity, log_files, which
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts, recorded
from limosa.lab.record import MEASURED, LabDirectory, Record, directories, remove_remains
from limosa.lab.status import GuestStatus, HostStatus, LabStatus, look
from limosa.lab.surroundings import traces
from limosa.migration import journal
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.lab.guest_verbs import GuestVerbs
    from limosa.lab.host_verbs import HostVerbs
    from limosa.migration.settings import Settings
    from limosa.migration.transfer import Outcome


class Lab:
    """One lab, found again from its state directory and from what really runs."""

    def __init__(self, hosts: LabHosts) -> None:
        self._hosts = hosts

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        what: str | Path | resolved.Lab | LabDirectory = "",
        *,
        events: Events | None = None,
        ephemeral: bool = False,
        rootless: bool | None = None,
    ) -> AsyncIterator[Lab]:
        """Open a lab: *what* is its file, its name, a spec (``spec.load``, ``spec.loads``), or, empty, the only one
        that is up.

        An *ephemeral* lab ends with this context, and with this process even when that is killed; any other goes on
        until ``down``. What happens is told to *events*. *rootless* forces a user namespace (True) or none (False);
        None: only root goes without. Raises SpecError for a wrong file or name, StateError for an ephemeral lab that is
        up already, MachineError where this machine permits no namespaces, BusyError while another command makes it.

        Example::

            async with Lab.open("library") as same:  # by its name, while it is up
                print((await same.status()).up)
        """
        lab, directory = which.resolve(what)
        events = events or Events()
        record = recorded(directory, events)
        if ephemeral and record is not None and (traces(directory).processes() or (record.up and not record.ephemeral)):
            hint = f"write another `name` for this one; or, if that may end: limosa down --lab {lab.name}"
            raise StateError(f"lab {lab.name} is up already", hint=hint)
        user = os.geteuid() != 0 if rootless is None else rootless
        if record is None or ephemeral:
            claimed = record.claimed if record else None if directory.described() else []
            record = Record(ephemeral=ephemeral, claimed=claimed)
        hosts = LabHosts(lab, directory, record, events, rootless=user)
        try:
            if ephemeral:
                hosts.hold()
            await hosts.find()
            yield cls(hosts)
        finally:
            if ephemeral and (hosts.made_here or hosts.client is None):
                await _end(hosts)
            hosts.fabric.let_go()
            await hosts.close()

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    @property
    def spec(self) -> resolved.Lab:
        """What the lab file describes, resolved: ``hosts``, ``guests``, ``networks`` and ``storage`` by name; sizes in
        bytes.
        """
        return self._hosts.lab

    @property
    def events(self) -> Events:
        """What happens, as it happens: a sink that is added is called with each event.

        Example::

            stages = []
            lab.events.add(stages.append)
        """
        return self._hosts.events

    @property
    def directory(self) -> LabDirectory:
        """The lab's state directory; ``path`` is where it is."""
        return self._hosts.directory

    @property
    def record(self) -> Record:
        """What is recorded of the running lab: ``cut`` and ``off`` name the hosts to which that was done on purpose."""
        return self._hosts.record

    @property
    def hosts(self) -> HostVerbs:
        """What is done with a host, one by its name: see ``HostVerbs``."""
        from limosa.lab.host_verbs import HostVerbs

        return HostVerbs(self._hosts)

    @property
    def guests(self) -> GuestVerbs:
        """What is done with a guest beside starting, moving and stopping it: see ``GuestVerbs``."""
        from limosa.lab.guest_verbs import GuestVerbs

        return GuestVerbs(self._hosts)

    def host(self, name: str) -> Host:
        """A host that is on, or ``client``: it runs commands.

        Raises SpecError for a name that the lab does not have, StateError for a host that is off.

        Example::

            done = await lab.host("host1").run(["ip", "-br", "address"])
            print(done.text)
        """
        return self.hosts[name]

    def guest(self, name: str) -> resolved.Guest:
        """A guest's spec. Raises SpecError for a name that the lab does not have.

        Example::

            print(lab.guest("guest1").address)
        """
        return self.guests[name]

    async def up(self, *, start: bool = True, wait: bool = True) -> list[str]:
        """Make what is missing: hosts, then (with *start*) guests; with *wait* until they are ready. Returns what was
        made, in words; empty: nothing to do.

        What cannot be made does not keep the rest from it: the first error is raised at the end, with what was made in
        ``made`` and the further errors in ``others``. Guests boot side by side, as many as the machine has room for.
        Raises MachineError, StateError, BusyError or another LimosaError.

        Example::

            print(await lab.up())
        """
        from limosa.lab import guests_up

        made, failures = list[str](), list[LimosaError]()
        if self._hosts.client is None:
            self._hosts.identify(identity.settled(self.spec, self.directory))
            await self._hosts.check()
        async with self._hosts.locked("limosa up"):
            new = not self.directory.is_lab()
            await self._hosts.meet()
            self._hosts.mend()
            if start and any(guest.image_kind.boots_disk for guest in self.spec.guests.values()):
                from limosa.lab import preparation

                await preparation.have(self.spec, self.events)
            try:
                if self.record.ephemeral and self._hosts.client is None:
                    self.directory.save(self.record)  # before anything else, so that ``sweep`` knows what it finds
                self.directory.create(self.spec)
                await self._cut_logs(self.spec.hosts)
                failures += await self._converge(made)
                failures += await guests_up.bring_up(self._hosts, made, start=start, wait=wait)
            except LimosaError as error:
                failures.append(error)
            finally:
                if new and self._hosts.client is None and self.record.is_empty:
                    self.directory.remove()  # nothing came to be, so there is no lab
        if failures:
            failures[0].made, failures[0].others = tuple(made), tuple(failures[1:])
            raise failures[0]
        return made

    async def _converge(self, made: list[str]) -> list[LimosaError]:
        """Append what was made to *made*; return why some hosts could not be made. Raises when none is on."""
        from limosa.lab.construction import Construction, Incomplete
        from limosa.lab.removal import Removal

        hosts, was_down = self._hosts, self._hosts.client is None
        before = bool(self.record.claimed)
        if not was_down and not hosts.unfurnished() and all(name in hosts.on for name in self.spec.hosts):
            return []
        names = list[str]()
        try:
            with self.events.stage("make the hosts"):
                await Construction(hosts).converge(names)
        except Incomplete as incomplete:
            return list(incomplete.failures.values())
        except BaseException:
            if was_down and not hosts.on:
                names.clear()
                if before:  # what is there was not made by this command: only `down` ends it
                    await Construction(hosts).end_fabric()
                else:
                    self._keep(await Removal(hosts).run())
            raise
        finally:
            made += [f"host {name}" if name != CLIENT else "fabric" for name in names]
        return []

    async def down(self, *, purge: bool = True, forget: Collection[str] = ()) -> bool:
        """End everything that runs, prove that nothing is left, and (with *purge*) delete the lab's disks.

        What is on a host that cannot be reached stays recorded, and is taken away by a later call; *forget* gives such
        hosts up for good. Returns whether there was anything. Raises BusyError, SpecError for a host to forget that the
        lab does not have, UnreachableError or LimosaError where something is left. A lab with a guest that is being
        measured is busy.

        Example::

            print(await lab.down())
        """
        from limosa.lab import qemu_launch, remains
        from limosa.lab.removal import Removal

        for name in forget:
            if name not in self.spec.hosts and name not in (self.record.claimed or ()):
                raise qemu_launch.unknown_host(self.spec, name)
        known = self.directory.is_lab() or bool(traces(self.directory).processes())
        if not known and not self.directory.path.exists():
            return False
        async with self._hosts.locked("limosa down"):
            with contextlib.ExitStack() as stack, self.events.stage(f"take lab {self.name} down"):
                for name in self.spec.guests:
                    stack.enter_context(self.directory.locked("limosa down", name))
                    stack.enter_context(self.directory.locked("limosa down", name, MEASURED))
                await self._hosts.meet()
                for guest in self.spec.guests.values():
                    with contextlib.suppress(UnreachableError):  # it is among those that are left
                        await copies.end_unmarked(LabGuest(self._hosts, guest))
                left = await Removal(self._hosts).run(forget)
                self._keep(left)
                if left:
                    raise remains.not_wholly_down(self._hosts, left)
                if purge:
                    self.directory.remove()
        return known or bool(self._hosts.elsewhere)  # there something may have been that is not on record here

    def _keep(self, left: Collection[str]) -> None:
        """Have the record say what is left on the hosts *left*. It stays, as a lost one leaves all in doubt."""
        try:
            self.directory.save(self.record)
        except LimosaError:  # a full disk keeps nothing from being taken down
            if left:
                raise
            durable.remove(self.directory.path / "record.json")
        for spec in self.spec.guests.values():
            guest = LabGuest(self._hosts, spec)
            if not guest.may_be_on() & set(left):
                guest.forget()
                journal.remove(self.directory.journal(guest.name))

    async def status(self) -> LabStatus:
        """What is on, what runs where. Finishes nothing and changes nothing.

        Raises LimosaError for a damaged lab; a host that does not answer has that for its state.

        Example::

            for guest in (await lab.status()).guests:
                print(guest.name, guest.state, guest.host)
        """
        return await look(self._hosts)

    async def start(self, guest: str, *, wait: bool = True) -> bool:
        """Start a guest, with *wait* until it is ready; return whether it was stopped before.

        Raises SpecError for an unknown guest, StateError where its host is off, MachineError where that lacks
        something, BusyError while another command holds the guest, DecisionError where it may run already.

        Example::

            await lab.start("guest1")
        """
        from limosa.lab import interruption
        from limosa.lab.start import start as start_guest

        async with self._held("limosa start", guest) as found:
            await self._hosts.meet()  # the machine type and the CPU are such that each host has them
            if told := await interruption.finish(found, boots=True):
                self.events.note(told, level="warning")
            return await start_guest(found, wait=wait)

    async def stop(self, guest: str, *, force: bool = False, host: str = "") -> bool:
        """Shut a guest down by its power button (*force*: end it at once); return whether it ran. *host*: end the copy
        there.

        Raises SpecError, BusyError, StateError for a guest that does not heed its button, and DecisionError where it
        may go on on a host that does not answer.

        Example::

            await lab.stop("guest1")
        """
        from limosa.lab.stop import stop as stop_guest

        async with self._held("limosa stop", guest, host) as found:
            with self.events.stage(f"stop {guest}"):
                return await stop_guest(found, force=force, host=host)

    async def migrate(self, guest: str, host: str, settings: Settings | None = None) -> Outcome:
        """Move a running guest to *host*, and return when it runs there and its source is gone.

        Raises MigrationError when the move failed (the guest runs on, ``guest_host`` says where), DecisionError when a
        person has to say which copy it is, and what ``attempt`` raises.

        Example::

            moved = await lab.migrate("guest1", "host2")
            print(moved.source, moved.target, moved.info.downtime, "ms by QEMU's own account")
        """
        outcome = await self.attempt(guest, host, settings)
        if outcome.failure is not None:
            raise outcome.failure
        return outcome

    async def attempt(self, guest: str, host: str, settings: Settings | None = None) -> Outcome:
        """As ``migrate``, but a migration that fails is a result too: it is in ``Outcome.failure``.

        What does not even begin raises SpecError (no such guest or host), StateError (the guest is stopped, or there
        already), MachineError (no room, another QEMU) or BusyError.

        Example::

            outcome = await lab.attempt("guest1", "host1", Settings(options={"downtime-limit": 200}, timeout_s=120))
            print("completed" if outcome.failure is None else outcome.failure.message)
        """
        from limosa.lab import move, qemu_launch
        from limosa.migration.settings import Settings

        async with self._held("limosa migrate", guest, host) as found:
            if host not in self.spec.hosts:
                raise qemu_launch.unknown_host(self.spec, host)
            planned = await move.plan(found, host, settings or Settings())
            with self.events.stage(f"migrate {guest} {planned.source.host.name} → {host}") as step:
                outcome = await planned.run()
                if outcome.failure is not None:
                    step.fail()
                return outcome

    async def recover(self, guest: str) -> str:
        """Go on with a post-copy that no command drives, and wait for its link; return what came of it in a sentence.

        Raises BusyError while a command drives it, which recovers it too, and what ``migrate`` raises.

        Example::

            print(await lab.recover("guest1") or "nothing to recover")
        """
        from limosa.lab import interruption

        async with self._held("limosa recover", guest) as found:
            with self.events.stage(f"recover {guest}"):
                return await interruption.finish(found, patience_s=None)

    async def switch(self, guest: str) -> None:
        """Have the migration of *guest* that another command drives become post-copy now; return when it has.

        Raises StateError when none is under way, or its plan does not allow it.

        Example::

            for moving in []:  # guests that other commands move, with postcopy-ram on
                await lab.switch(moving)
        """
        from limosa.lab import under_way

        self.guest(guest)
        await under_way.switch(self._hosts.directory, guest)

    @asynccontextmanager
    async def _held(self, what: str, name: str, *also: str) -> AsyncIterator[LabGuest]:
        """A guest under its lock, with what is on record of it now: from here on nobody looks its name up again.

        It is looked for on the hosts that may have it, and on those in *also*.
        """
        spec = self.guest(name)
        self._hosts.the_client()
        async with self._hosts.locked(what, name):
            guest = LabGuest(self._hosts, spec, *also)
            await guest.meet()
            await self._cut_logs(guest.places)
            yield guest

    async def _cut_logs(self, names: Collection[str]) -> None:
        """Keep the last part of each log that this machine has, and of those that these hosts keep themselves."""
        elsewhere = [name for name in self._hosts.elsewhere if name in names and name in self._hosts.on]
        await log_files.cut(self.directory.log, [self._hosts.on[name] for name in elsewhere])


async def take_down(
    what: str | Path | LabDirectory, *, events: Events, purge: bool = True, forget: Collection[str] = ()
) -> bool:
    """``Lab.down``, also for a lab whose record or spec is damaged or lost; return whether there was anything."""
    lab, directory = which.locate(what)
    meant: str | Path | resolved.Lab | LabDirectory = what
    if not directory.readable_spec() and (directory.described() or which.may_run(directory)):
        if lab is None:
            await _end_undescribed(directory, events=events, purge=purge)
            return True
        meant = lab  # its file says what the damaged one said
    async with Lab.open(meant, events=events) as opened:
        return await opened.down(purge=purge, forget=forget)


async def take_all_down(names: Collection[str], *, events: Events, purge: bool = True) -> dict[str, LimosaError | None]:
    """``take_down`` for each of these labs, whatever became of the others: by name, why it is not wholly down."""
    ends = dict[str, LimosaError | None]()
    for name in names:
        directory = LabDirectory.named(name)
        ends[name] = None
        try:
            if directory.is_lab() or traces(directory).processes():  # else another command has taken it down by now
                await take_down(directory, events=events, purge=purge)
        except LimosaError as error:
            ends[name] = error
    return ends


async def _end_undescribed(directory: LabDirectory, *, events: Events, purge: bool) -> None:
    """End what runs on this machine of a lab without a spec. Raises LimosaError where there may be more."""
    from limosa.lab import remains

    with directory.locked("limosa down"), events.stage(f"take lab {directory.name} down"):
        there = traces(directory)
        there.require_here()
        await there.end()
        if left := there.processes():
            raise LimosaError(f"lab {directory.name} is not wholly gone: processes {left} are left")
        remains.refuse_to_forget(directory)
        durable.remove(directory.path / "record.json")
        there.forget()
    if purge:
        directory.remove()


async def _end(hosts: LabHosts) -> None:
    """Take an ephemeral lab down, and forget it unless something is left."""
    from limosa.lab import remains
    from limosa.lab.removal import Removal

    if left := await Removal(hosts).run():
        hosts.directory.save(hosts.record)
        error = remains.not_wholly_down(hosts, left)
        hosts.events.note(f"{error.message} ({error.hint})", level="warning")
    else:
        hosts.directory.remove()


def sweep() -> list[str]:
    """Delete the directories of ephemeral labs of which nothing runs any more, and those that hold nothing but the
    lock of a command killed at once; return their names."""
    gone = []
    remove_remains()
    for directory in directories():
        with contextlib.suppress(LimosaError):  # damaged, or another command is at work on it
            record = directory.record()
            if not record.ephemeral if record else (directory.path / "spec.json").exists():
                continue
            if record and record.claimed:
                continue  # its undertaker is at work, or something is left that only `down` can take away
            with directory.locked("limosa"):
                there = traces(directory)
                there.require_here()
                if not there.processes():
                    directory.remove()
                    gone.append(directory.name)
    return gone


__all__ = ["GuestStatus", "HostStatus", "Lab", "LabStatus", "sweep", "take_all_down", "take_down"]
