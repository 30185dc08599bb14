"""The verb ``migrate``: checks, then the engine, then the record; and finishing what an earlier command began."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, MachineError, MigrationError, SpecError, StateError
from limosa.lab import guests, launching
from limosa.lab.hosting import Hosting
from limosa.lab.record import GuestRecord
from limosa.migration import journal, rescue
from limosa.migration.engine import Migration, Outcome
from limosa.migration.settings import Settings
from limosa.qemu import argv, process
from limosa.qemu.features import Features
from limosa.qemu.process import QemuProcess
from limosa.spec import resolved


@dataclass(slots=True)
class Move:
    """One migration of one guest of a lab, checked and ready to run."""

    hosting: Hosting
    guest: resolved.Guest
    source: QemuProcess
    target: str
    record: GuestRecord
    known: Features
    settings: Settings

    @property
    def uri_address(self) -> str:
        """The target's address in the network that migration traffic takes."""
        return self.hosting.lab.hosts[self.target].addresses[self.hosting.lab.migration_network.name]

    async def start_target(self) -> QemuProcess:
        """Launch the incoming QEMU."""
        launch = launching.launch(self.hosting, self.guest, self.record, self.target, self.known, incoming=True)
        log = launching.qemu_log(self.guest.name, self.target)
        host = self.hosting.host(self.target)
        return await process.start(host, self.guest.name, argv.command_line(launch), log, self.hosting.events)

    async def end_target(self) -> None:
        """End whatever QEMU the target host has for this guest."""
        with contextlib.suppress(StateError):  # a host that is off runs nothing
            await process.end_leftover(self.hosting.host(self.target), self.guest.name, Deadline.after(0))

    async def run(self) -> Outcome:
        """Migrate; afterwards the record says where the guest is. A failure is in the outcome, not raised."""
        directory = self.hosting.directory
        source = self.source.host.name
        book = journal.Journal(directory.journal(self.guest.name), self.guest.name, source, self.target)
        migration = Migration(
            source=self.source,
            target_host=self.target,
            start_target=self.start_target,
            end_target=self.end_target,
            listen_address=self.uri_address,
            settings=self.settings,
            journal=book,
            events=self.hosting.events,
        )
        try:
            return await migration.run()
        except (MigrationError, DecisionError) as error:
            return migration.outcome(error)
        finally:
            if book.entries and book.entries[-1].phase is journal.Phase.COMPLETED:
                self.record.host = self.target
                directory.save_guest(self.guest.name, self.record)
            await self.source.close()
            if migration.target is not None:
                await migration.target.close()


async def plan(hosting: Hosting, guest: resolved.Guest, target: str, settings: Settings) -> Move:
    """Check all that can be known beforehand. Raises StateError, MachineError or SpecError; nothing is changed."""
    if target not in hosting.lab.hosts:
        raise launching.unknown_host(hosting.lab, target)
    hosting.the_client()
    await finish(hosting, guest.name)
    copy = await guests.running(hosting, guest.name)
    try:
        if copy.host == target:
            others = ", ".join(name for name in hosting.lab.hosts if name != target)
            raise StateError(f"guest {guest.name} is on {target} already", hint=f"other hosts: {others or 'none'}")
        host = hosting.host(target)
        if copy.status != "running":
            raise StateError(
                f"guest {guest.name} is {copy.status} on {copy.host}", hint="only a running guest migrates"
            )
        if target in hosting.record.cut or copy.host in hosting.record.cut:
            cut = target if target in hosting.record.cut else copy.host
            raise StateError(f"host {cut} is cut off from the network", hint=f"limosa host restore {cut}")
        record = hosting.directory.guest_record(guest.name)
        if record is None:
            raise StateError(f"what guest {guest.name} was started with is not recorded", hint="stop and start it anew")
        known = await launching.offer(hosting, target, record.accel)
        _check_target(guest, target, record.machine, known, settings)
        facts = await host.facts()
        taken = guests.taken(hosting, target)
        launching.check_room(hosting, guest, target, taken, facts.memory_available_bytes)
    except BaseException:
        await copy.qemu.close()
        raise
    return Move(hosting, guest, copy.qemu, target, record, known, settings)


def _check_target(guest: resolved.Guest, target: str, machine: str, known: Features, settings: Settings) -> None:
    if known.machine(machine) is None:
        raise MachineError(
            f"QEMU {known.version} on {target} does not know {guest.name}'s machine type {machine}",
            hint=f"start the guest with an older `machine:`, or give {target} a newer `qemu:`",
        )
    for name in settings.capabilities:
        if name not in known.migration_capabilities:
            raise MachineError(f"QEMU {known.version} on {target} has no migration capability {name}")
    for name, _ in settings.parameters:
        if name not in known.migration_parameters:
            raise SpecError(f"QEMU {known.version} on {target} has no migration parameter {name}")


async def finish(hosting: Hosting, guest: str) -> str:
    """Finish or undo a migration whose controller died; return a sentence on what was done, empty for nothing.

    Raises DecisionError when a person must decide.
    """
    entry = journal.unfinished(hosting.directory.journal(guest))
    if entry is None:
        return ""
    found = {copy.host: copy for copy in await guests.copies(hosting, guest)}
    source, target = found.get(entry.source), found.get(entry.target)
    if source is None and target is None:
        _close(hosting, entry, journal.Phase.FAILED)
        return f"the migration of {guest} to {entry.target} ended with its hosts"
    migration = Recovered(hosting, entry, source, target)
    try:
        return await migration.settle()
    finally:
        for copy in found.values():
            await copy.qemu.close()


def _close(hosting: Hosting, entry: journal.Entry, phase: journal.Phase) -> None:
    book = journal.Journal(hosting.directory.journal(entry.guest), entry.guest, entry.source, entry.target)
    book.close(phase, "finished by a later command")


@dataclass(slots=True)
class Recovered:
    """A migration found in the journal, with what runs of it."""

    hosting: Hosting
    entry: journal.Entry
    source: guests.Copy | None
    target: guests.Copy | None

    async def settle(self) -> str:
        """Let the rescue rule decide until it does, then carry it out."""
        async for _ in Deadline.after(60).ticks(0.1):
            situation = await self._situation()
            verdict = rescue.decide(situation)
            sending = self.source is not None and verdict is rescue.Verdict.KEEP_SOURCE
            if sending and self.source is not None and self.target is not None and await self._moves(self.source):
                await self.source.qemu.control.cancel_migration()
                continue
            if verdict is not rescue.Verdict.WAIT:
                break
        guest, ends = self.entry.guest, (self.entry.source, self.entry.target)
        if verdict is rescue.Verdict.KEEP_TARGET and self.target is not None:
            if self.source is not None:
                await self.source.qemu.end()
            record = self.hosting.directory.guest_record(guest)
            if record is not None:
                record.host = self.entry.target
                self.hosting.directory.save_guest(guest, record)
            _close(self.hosting, self.entry, journal.Phase.COMPLETED)
            return f"an interrupted migration was finished: {guest} runs on {self.entry.target}"
        if verdict in {rescue.Verdict.KEEP_SOURCE, rescue.Verdict.RESUME_SOURCE} and self.source is not None:
            if self.target is not None:
                await self.target.qemu.end()
            if situation.source != "running":
                await self.source.qemu.control.resume()
            _close(self.hosting, self.entry, journal.Phase.CANCELLED)
            return f"an interrupted migration was undone: {guest} runs on {self.entry.source}"
        if verdict is rescue.Verdict.LOST:
            _close(self.hosting, self.entry, journal.Phase.FAILED)
            return f"{guest} went down with its host during a migration"
        raise DecisionError(
            f"{guest} is {situation.source} on {ends[0]} and {situation.target} on {ends[1]} "
            "after an interrupted migration; continuing either copy could damage its disk",
            hint=f"end the copy you do not want: limosa stop {guest} --host HOST --force",
        )

    async def _situation(self) -> rescue.Situation:
        source = await self.source.qemu.status() if self.source else rescue.GONE
        target = await self.target.qemu.status() if self.target else rescue.GONE
        return rescue.Situation(source, target, target_may_have_run=True)

    async def _moves(self, source: guests.Copy) -> bool:
        with contextlib.suppress(LimosaError):
            return (await source.qemu.observe.migrate_info()).status in {"setup", "active", "device", "cancelling"}
        return False
