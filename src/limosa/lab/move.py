"""The verb ``migrate``: checks, then the engine, then the record; and finishing what an earlier command began."""

from __future__ import annotations

import contextlib

from limosa.errors import DecisionError, LimosaError, MachineError, SpecError, StateError
from limosa.lab import copies, guests, qemu_launch
from limosa.lab.hosts import LabHosts
from limosa.lab.record import GuestRecord, LabDirectory, Launched
from limosa.migration import journal
from limosa.migration.engine import Migration, Outcome, lost
from limosa.migration.rescue import Verdict
from limosa.migration.settings import Settings
from limosa.migration.settlement import Settlement
from limosa.qemu import argv, guest_process, launches
from limosa.qemu.features import Features
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.stream import Stream
from limosa.spec import resolved
from limosa.tasks import uninterrupted


class Move:
    """One migration of one guest of a lab, checked and ready to run."""

    def __init__(
        self,
        hosts: LabHosts,
        guest: resolved.Guest,
        source: QemuProcess,
        target: str,
        record: GuestRecord,
        known: Features,
        settings: Settings,
    ) -> None:
        self.hosts, self.guest, self.source, self.target = hosts, guest, source, target
        self.record, self.known, self.settings = record, known, settings
        self._log_bytes = 0
        """The size of the target's QEMU log before this migration."""

    @property
    def uri_address(self) -> str:
        """The target's address in the network that migration traffic takes."""
        return self.hosts.address(self.target, self.hosts.lab.migration_network.name)

    async def start_target(self) -> QemuProcess:
        """Launch the incoming QEMU, which is on record before."""
        launch_id, host = launches.new_id(), self.hosts.host(self.target)
        planned = qemu_launch.plan(
            self.hosts, self.guest, self.record, self.target, self.known, launch_id, incoming=True
        )
        log = qemu_launch.qemu_log(host, self.guest.name)
        self._log_bytes = await guest_process.log_size(host, log)
        self.record.copies = (*self.record.copies, Launched(self.target, launch_id))
        self.hosts.directory.save_guest(self.guest.name, self.record)
        return await guest_process.start(
            host, self.guest.name, launch_id, argv.command_line(planned), log, self.hosts.events
        )

    async def target_said(self) -> str:
        """What the target's QEMU wrote to its log since it was launched."""
        host = self.hosts.host(self.target)
        return await guest_process.said_since(host, qemu_launch.qemu_log(host, self.guest.name), self._log_bytes)

    async def end_target(self) -> None:
        """End the target's QEMU without a connection to it."""
        await _end_on(self.hosts, self.target, self.guest.name)

    async def run(self) -> Outcome:
        """Migrate; afterwards the record says where the guest is. A failure is in the outcome, not raised."""
        directory = self.hosts.directory
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
            events=self.hosts.events,
            target_said=self.target_said,
        )
        try:
            outcome = await migration.run()
        except LimosaError as error:
            outcome = migration.outcome(error)
        finally:
            await uninterrupted(self._settle(migration))
        if outcome.failure is None and not any(copy.host == self.target for copy in self.record.copies):
            outcome.failure = lost(self.guest.name, self.target)  # it ended a moment ago
        return outcome

    async def _settle(self, migration: Migration) -> None:
        """Record where the guest is and which copies of it are left; hang up."""
        entries = migration.journal.entries
        if entries and entries[-1].phase is journal.Phase.COMPLETED:
            self.record.host = self.target
            if migration.target is not None:
                self._with_start_time(migration.target)
            _save(self.hosts, self.guest.name, self.record)
        await self.source.close()
        if migration.target is not None:
            await migration.target.close()
        self.record.copies = tuple(await copies.review(self.hosts, self.guest.name))

    def _with_start_time(self, target: QemuProcess) -> None:
        """What was recorded before the target existed, completed by what is known of it."""
        launched = Launched(self.target, target.running.launch, target.running.started)
        others = (copy for copy in self.record.copies if copy.launch != launched.launch)
        self.record.copies = (*others, launched)


def _save(hosts: LabHosts, guest: str, record: GuestRecord) -> None:
    """Write where *guest* is. A disk that does not take it is no failure: commands look for the guest on every host."""
    try:
        hosts.directory.save_guest(guest, record)
    except LimosaError as error:
        hosts.events.note(f"where {guest} is now was not recorded: {error.message}", level="warning")


async def _end_on(hosts: LabHosts, host: str, guest: str) -> None:
    with contextlib.suppress(StateError):  # it stays on record, and a later command looks again
        await copies.end_recorded(hosts, guest, host)


async def plan(hosts: LabHosts, guest: resolved.Guest, target: str, settings: Settings) -> Move:
    """Check all that can be known beforehand. Raises StateError, MachineError or SpecError; nothing is changed."""
    if target not in hosts.lab.hosts:
        raise qemu_launch.unknown_host(hosts.lab, target)
    hosts.the_client()
    if told := await finish(hosts, guest.name):
        hosts.events.note(told, level="warning")
    copy, others = await copies.the_guest(hosts, guest.name)
    await copies.close(others)
    try:
        copies.take_back(hosts, guest.name, [copy, *others])
        if copy.host == target:
            free = ", ".join(name for name in hosts.lab.hosts if name != target)
            raise StateError(f"guest {guest.name} is on {target} already", hint=f"other hosts: {free or 'none'}")
        host = hosts.host(target)
        if copy.status != "running":
            raise StateError(
                f"guest {guest.name} is {copy.status} on {copy.host}", hint="only a running guest migrates"
            )
        if target in hosts.record.cut or copy.host in hosts.record.cut:
            cut = target if target in hosts.record.cut else copy.host
            raise StateError(f"host {cut} is cut off from the network", hint=f"limosa host restore {cut}")
        record = hosts.directory.guest_record(guest.name)
        if record is None:
            raise StateError(
                f"what guest {guest.name} was started with is not recorded",
                hint=f"limosa stop {guest.name}, then limosa start {guest.name}",
            )
        if target in {other.host for other in others}:
            await copies.end_recorded(hosts, guest.name, target)
        known = await qemu_launch.offer(hosts, target, record.accel)
        _check_target(guest, target, record.machine, known, settings)
        facts = await host.facts()
        taken = guests.taken(hosts, target)
        qemu_launch.check_room(hosts, guest, target, taken, facts.memory_available_bytes)
    except BaseException:
        await copy.qemu.close()
        raise
    return Move(hosts, guest, copy.qemu, target, record, known, settings)


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


def _unfinished(hosts: LabHosts, guest: str) -> journal.Entry | None:
    """Where an interrupted migration stood. Raises DecisionError when its journal is damaged."""
    return journal.unfinished(hosts.directory.journal(guest), guest, hosts.lab.hosts)


def _stream(entry: journal.Entry, found: list[copies.Copy]) -> Stream | None:
    """What an interrupted migration sends over, when its source is among the copies that were *found*."""
    source = next((copy for copy in found if copy.host == entry.source), None)
    return Stream(source.place, source.running, entry.stream) if source is not None and entry.stream else None


async def _attach(hosts: LabHosts, guest: str, copy: copies.Copy) -> QemuProcess:
    return await guest_process.attach(copy.place, guest, copy.running, hosts.events)


async def finish(hosts: LabHosts, guest: str) -> str:
    """Finish or undo a migration whose controller died; return a sentence on what was done, empty for nothing.

    Raises DecisionError when a person must decide.
    """
    entry = _unfinished(hosts, guest)
    if entry is None:
        return ""
    unknown = {name for name in (entry.source, entry.target) if hosts.doubtful(name)}
    unknown |= {copy.host for copy in copies.on_record(hosts, guest) if await copies.may_run(hosts, copy)}
    found = await copies.copies(hosts, guest, unknown)
    unknown |= {copy.host for copy in found if not copy.answers}
    sides = {copy.host: copy.qemu for copy in found if copy.answers}
    silent = next((copy for copy in found if copy.host == entry.source and not copy.answers), None)
    settlement = Settlement(
        guest=guest,
        source_host=entry.source,
        target_host=entry.target,
        source=sides.get(entry.source),
        target=sides.get(entry.target),
        end_target=lambda: _end_on(hosts, entry.target, guest),
        sent=entry.phase not in {journal.Phase.STARTING_TARGET, journal.Phase.PREPARING},
        watched=False,
        unknown=frozenset(unknown),
        stream=_stream(entry, found),
        find_source=(lambda: _attach(hosts, guest, silent)) if silent else None,
    )
    try:
        verdict = await settlement.settle()
    finally:
        await copies.close(found)
        if settlement.source is not None:
            await settlement.source.close()
    sentence = _settled(hosts, entry, verdict)
    await copies.review(hosts, guest)
    return sentence


async def end_strays(hosts: LabHosts, guest: str) -> str:
    """End copies of *guest* that wait for a migration which is over: its target could not be reached when it failed.

    Returns a sentence on what was done, empty for nothing.
    """
    if _unfinished(hosts, guest) is not None:
        return ""
    found = await copies.copies(hosts, guest)
    waiting = [copy for copy in found if copy.status == "inmigrate"]
    if not any(copy.status in copies.RUNNING for copy in found):
        waiting = []
    await copies.close(found)
    for copy in waiting:
        await copies.end_seen(hosts, guest, copy.place, copy.running)
    if not waiting:
        return ""
    await copies.review(hosts, guest)
    return f"what a failed migration of {guest} had left on {', '.join(copy.host for copy in waiting)} was ended"


def _settled(hosts: LabHosts, entry: journal.Entry, verdict: Verdict) -> str:
    """Close the journal and record where the guest is."""
    guest, record = entry.guest, copies.readable(hosts, entry.guest)
    if verdict is Verdict.KEEP_TARGET:
        if record is not None:
            record.host = entry.target
            _save(hosts, guest, record)
        _close(hosts, entry, journal.Phase.COMPLETED)
        return f"an interrupted migration was finished: {guest} is on {entry.target}"
    if verdict is Verdict.LOST:
        _close(hosts, entry, journal.Phase.FAILED)
        return f"after an interrupted migration: {lost(guest, entry.source).message}"
    _close(hosts, entry, journal.Phase.CANCELLED)
    return f"an interrupted migration was undone: {guest} is on {entry.source}"


def _close(hosts: LabHosts, entry: journal.Entry, phase: journal.Phase) -> None:
    book = journal.Journal(hosts.directory.journal(entry.guest), entry.guest, entry.source, entry.target)
    book.close(phase, "by a later command")


async def stop(hosts: LabHosts, guest: str, *, force: bool = False, host: str = "") -> bool:
    """Stop *guest*, or only its copy on *host*; return whether anything ran.

    With *force* and *host* this is how a person decides an interrupted migration: the other copy goes on.
    """
    entry, damaged = None, False
    try:
        entry = _unfinished(hosts, guest)
    except DecisionError:
        if not force:
            raise
        damaged = True
    if entry is not None and not force:
        if told := await finish(hosts, guest):
            hosts.events.note(told, level="warning")
        entry = None
    if host and host not in hosts.lab.hosts:
        raise qemu_launch.unknown_host(hosts.lab, host)
    stopped = await guests.stop(hosts, guest, force=force, host=host)
    if entry is None and not damaged:
        return stopped
    left = await _kept(hosts, guest, entry)
    try:
        if len(left) == 1 and left[0].status in _HELD:
            await left[0].qemu.control.resume()
        if left and (record := copies.readable(hosts, guest)) is not None:
            record.host = left[0].host
            _save(hosts, guest, record)
    finally:
        await copies.close(left)
    if entry is None:
        journal.set_aside(hosts.directory.journal(guest))
    else:
        at_target = bool(left) and left[0].host == entry.target
        _close(hosts, entry, journal.Phase.COMPLETED if at_target else journal.Phase.CANCELLED)
    return stopped or bool(left)


async def _kept(hosts: LabHosts, guest: str, entry: journal.Entry | None) -> list[copies.Copy]:
    """The copies that a person did not end. A source that stands still in its last phase is let go on first."""
    left = await copies.copies(hosts, guest)
    still = [copy for copy in left if entry is not None and copy.host == entry.source and not copy.answers]
    if not still or entry is None or (stream := _stream(entry, still)) is None:
        return left
    await copies.close(left)
    await stream.cut()
    return await copies.copies(hosts, guest)


_HELD = frozenset({"postmigrate", "paused", "prelaunch"})
"""Run states of a copy that an interrupted migration left standing still."""


def under_way(directory: LabDirectory, guest: str) -> str | None:
    """Where the guest is by now whose migration a command is at work on; None when there is none."""
    try:
        entry = journal.unfinished(directory.journal(guest), guest)
    except DecisionError:
        return None
    return entry.guest_host if entry is not None else None


def interrupted(hosts: LabHosts, guest: str) -> tuple[str, str]:
    """What a migration without a controller left open, in a sentence, and what helps; both empty when there is none."""
    try:
        entry = _unfinished(hosts, guest)
    except DecisionError as error:
        return error.message, error.hint
    if entry is None or hosts.directory.busy(guest):
        return "", ""
    sentence = f"its migration {entry.source} → {entry.target} was interrupted at {entry.phase.value}"
    return sentence, f"limosa start {guest} --lab {hosts.lab.name} settles it"
