"""The verb ``migrate``: checks, then the driver, then the record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from limosa import tasks
from limosa.errors import LimosaError, MachineError, StateError
from limosa.lab import copies, interruption, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost
from limosa.lab.record import GuestRecord, Launched
from limosa.migration import pause_estimate
from limosa.migration import plan as plans
from limosa.migration.choice import Offer
from limosa.migration.phases import Phase
from limosa.migration.rescue.fate import lost
from limosa.migration.settings import Settings
from limosa.qemu import argv, dirty_log, launches, own_log
from limosa.qemu.features import Features
from limosa.tasks import uninterrupted

if TYPE_CHECKING:
    from limosa.migration.plan import MigrationPlan
    from limosa.migration.transfer import Outcome, Transfer
    from limosa.qemu.guest_process import QemuProcess


class Readiness(msgspec.Struct, frozen=True):
    """What the target said of itself before a migration."""

    known: Features
    """What its QEMU can do."""
    log_bytes: int
    """The size of the log of the guest's QEMU there."""
    refusal: MachineError | None
    """Why it has no room."""


async def _readiness(guest: LabGuest, target: LabHost | None) -> Readiness | None:
    """Ask the target; None while it is not known what for. Raises MachineError for a QEMU that is of no use."""
    if guest.record is None or target is None:
        return None
    log = own_log.log_size(target.port, target.qemu_log(guest.name))
    # As tasks they begin after the looks that were begun before them: those wait for hosts, these load modules first.
    offer = target.offer(guest.record.accel)
    async with tasks.beside(log, _refusal(guest, target), offer) as (log_bytes, refusal, known):
        return Readiness(await known, await log_bytes, await refusal)


async def _source_offer(guest: LabGuest) -> Offer | None:
    """What the QEMU can do of the host that the guest is on as far as the record says; None: it cannot be told so."""
    with contextlib.suppress(LimosaError):  # the program may be gone that the guest was started by
        if guest.record is not None and guest.record.host in guest.hosts.on:
            host = guest.hosts.named(guest.record.host)
            return Offer(host.name, await host.offer(guest.record.accel))
    return None


async def _offer_of(copy: copies.Copy) -> Offer:
    """What a running QEMU says that it can do."""
    from limosa.qemu import features

    control = copy.qemu.control
    version, schema = await control.execute("query-version"), await control.execute("query-qmp-schema")
    return Offer(copy.host, features.of_migration(version, schema))


async def _refusal(guest: LabGuest, target: LabHost) -> MachineError | None:
    try:
        await qemu_launch.check_room(guest, target)
    except MachineError as error:
        return error
    return None


class Move:
    """One migration of one guest of a lab, checked and ready to run."""

    def __init__(
        self,
        guest: LabGuest,
        source: QemuProcess,
        target: LabHost,
        record: GuestRecord,
        ready: Readiness,
        plan: MigrationPlan,
    ) -> None:
        self.guest, self.source, self.target = guest, source, target
        self.record, self.ready, self.plan = record, ready, plan

    async def start_target(self) -> QemuProcess:
        """Launch the incoming QEMU, which is on record before."""
        from limosa.qemu import guest_process

        guest, target, launch_id = self.guest, self.target, launches.new_id()
        planned = qemu_launch.plan(
            guest.hosts.lab, guest.spec, self.record, target, self.ready.known, launch_id, incoming=True
        )
        self.record.copies = (*self.record.copies, Launched(target.name, launch_id))
        guest.save(self.record)
        words, log = argv.command_line(planned), target.qemu_log(guest.name)
        return await guest_process.start(target.port, guest.name, launch_id, words, log, guest.hosts.events)

    async def target_said(self) -> str:
        """What the target's QEMU wrote to its log since it was launched."""
        target, log = self.target.port, self.target.qemu_log(self.guest.name)
        return await own_log.said_since(target, log, self.ready.log_bytes)

    async def end_target(self) -> None:
        """End the target's QEMU without a connection to it."""
        await interruption.end_on(self.guest, self.target.name)

    async def run(self) -> Outcome:
        """Migrate; afterwards the record says where the guest is. A failure is in the outcome, not raised."""
        from limosa.migration.driver import Driver
        from limosa.migration.transfer import TargetPort, Transfer

        source, target = self.source.host.name, self.target.name
        port = TargetPort(self.start_target, self.end_target, self.target_said)
        events = self.guest.hosts.events
        for remark in self.plan.remarks:
            events.note(remark)
        transfer = Transfer(self.plan, self.source, port, self.guest.new_journal(source, target, self.plan), events)
        wish = self.guest.hosts.directory.switch_wish(self.guest.name)
        wish.unlink(missing_ok=True)
        transfer.post_copy_wished = wish.exists
        try:
            outcome = await Driver(transfer).run()
        except LimosaError as error:
            outcome = transfer.outcome(error)
        finally:
            await uninterrupted(self._settle(transfer))
        if outcome.failure is None and not any(copy.host == self.target.name for copy in self.guest.on_record()):
            outcome.failure = lost(self.guest.name, self.target.name)  # it ended a moment ago
        return outcome

    async def _settle(self, transfer: Transfer) -> None:
        """Record where the guest is and which copies of it are left; hang up."""
        entries, target, sure = transfer.journal.entries, transfer.target, False
        if entries and entries[-1].phase is Phase.COMPLETED:
            self.record.host = self.target.name
            if target is not None:
                self._with_start_time(target)
                sure = transfer.source_ended and self._strike_source() and await _runs(target)
            self.guest.save_if_possible(self.record)
        await self.source.close()
        if target is not None:
            await target.close()
        if not sure:
            await copies.review(self.guest)

    def _with_start_time(self, target: QemuProcess) -> None:
        """What was recorded before the target existed, completed by what is known of it."""
        launched = Launched(self.target.name, target.running.launch, target.running.started)
        others = (copy for copy in self.record.copies if copy.launch != launched.launch)
        self.record.copies = (*others, launched)

    def _strike_source(self) -> bool:
        """Take what was seen to end off the record; return whether the target's copy alone is left."""
        ended, host = self.source.running, self.source.host.name
        self.record.copies = tuple(copy for copy in self.record.copies if not copy.is_surely(host, ended))
        return [copy.host for copy in self.record.copies] == [self.target.name]


async def _runs(target: QemuProcess) -> bool:
    """Whether the target says so, now: only then nobody has to look whether it exists."""
    with contextlib.suppress(LimosaError):
        return await target.status() == "running"
    return False


async def plan(guest: LabGuest, target: str, settings: Settings) -> Move:
    """Check all that can be known beforehand. Raises StateError, MachineError or SpecError; nothing is changed."""
    guest.hosts.the_client()
    settings = settings.over(guest.spec.migration)
    if told := await interruption.finish(guest):
        guest.hosts.events.note(told, level="warning")
    to = guest.hosts.named(target) if target in guest.hosts.on else None
    driver = tasks.load("limosa.migration.driver")
    async with tasks.beside(_readiness(guest, to), _source_offer(guest), driver) as (asked, offered, _):
        # while the guest is looked for
        copy, others = await copies.the_guest(guest)
        await copies.close(others)
        try:
            guest.take_back([(each.host, each.running) for each in (copy, *others)])
            to = _free(guest, copy, target, to)
            record = guest.known_record()
            if record is None:
                raise StateError(
                    f"what guest {guest.name} was started with is not recorded",
                    hint=f"limosa stop {guest.name}, then limosa start {guest.name}",
                )
            ready: Readiness | None = await asked
            if target in {other.host for other in others}:
                await copies.end_recorded(guest, target)
                ready = None
            ready = ready or await _readiness(guest, to)
            assert ready is not None, "the target is on, and the guest on record"
            _check_target(guest, to, record.machine, ready.known)
            source: Offer | None = await offered
            if source is None or source.host != copy.host:
                source = await _offer_of(copy)
            made = _planned(guest, settings, source, Offer(target, ready.known), to.migration_address)
            dirty_log.check_target(guest.name, target, ready.known, record.ram_bytes, record.accel)
            if ready.refusal is not None:
                raise ready.refusal
        except BaseException:
            await copy.qemu.close()
            raise
    return Move(guest, copy.qemu, to, record, ready, made)


def _planned(guest: LabGuest, settings: Settings, source: Offer, target: Offer, address: str) -> MigrationPlan:
    rate = guest.hosts.lab.migration_network.rate_bits_per_s
    link = None if rate is None else pause_estimate.stream(rate)
    return plans.made(guest.name, settings, source, target, address, link_bytes_per_s=link)


def _free(guest: LabGuest, copy: copies.Copy, target: str, to: LabHost | None) -> LabHost:
    """The target, if it is on and the guest can go from where it is to there."""
    hosts = guest.hosts
    if copy.host == target:
        free = ", ".join(name for name in hosts.lab.hosts if name != target)
        raise StateError(f"guest {guest.name} is on {target} already", hint=f"other hosts: {free or 'none'}")
    if to is None:
        raise hosts.absent(target)
    if copy.status != "running":
        raise StateError(f"guest {guest.name} is {copy.status} on {copy.host}", hint="only a running guest migrates")
    if target in hosts.record.cut or copy.host in hosts.record.cut:
        cut = target if target in hosts.record.cut else copy.host
        raise StateError(f"host {cut} is cut off from the network", hint=f"limosa host restore {cut}")
    return to


def _check_target(guest: LabGuest, target: LabHost, machine: str, known: Features) -> None:
    if known.machine(machine) is None:
        raise MachineError(
            f"QEMU {known.version} on {target.name} does not know {guest.name}'s machine type {machine}",
            hint=f"start the guest with an older `machine:`, or give {target.name} a newer `qemu:`",
        )
