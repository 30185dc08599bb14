"""The verb ``migrate``: checks, then the driver, then the record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.errors import LimosaError, MigrationError
from limosa.lab import copies, interruption, preflight, qemu_launch, stream_keys
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost
from limosa.lab.preflight import Inquiry
from limosa.lab.record import GuestRecord, Launched
from limosa.migration import diary
from limosa.migration.phases import FINAL, Phase
from limosa.migration.preflight.check import When
from limosa.migration.preflight.facts import Clocks
from limosa.migration.preflight.finding import Finding, first_error
from limosa.migration.rescue.fate import ended_by_itself, lost
from limosa.migration.settings import Settings
from limosa.qemu import argv, launches, own_log
from limosa.tasks import uninterrupted

if TYPE_CHECKING:
    from limosa.hosts.host import Host
    from limosa.migration.plan import MigrationPlan
    from limosa.migration.transfer import Outcome, StampedBy, Transfer
    from limosa.qemu.guest_process import QemuProcess


class Move:
    """One migration of one guest of a lab, checked and ready to run."""

    def __init__(
        self,
        guest: LabGuest,
        source: QemuProcess,
        target: LabHost,
        record: GuestRecord,
        inquiry: Inquiry,
        plan: MigrationPlan,
        log_bytes: int,
    ) -> None:
        """*log_bytes* is the size of the log of the guest's QEMU on the target, before another one writes to it."""
        self.guest, self.source, self.target = guest, source, target
        self.record, self.inquiry, self.plan, self.log_bytes = record, inquiry, plan, log_bytes
        self.refusal: LimosaError | None = None
        """Why the move must not go on, found while the target came up."""

    async def start_target(self) -> QemuProcess:
        """Launch the incoming QEMU; what is still to be looked at is looked at meanwhile. Raises what is wrong."""
        async with tasks.beside(self._look()) as (looked,):
            try:
                started = await self._launch()
            except LimosaError:
                await looked  # a cause that was found says more than QEMU's last words
                raise
            try:
                await looked
            except BaseException:
                await started.close()
                raise
            return started

    async def _look(self) -> None:
        """The last turn of the preflight. Raises the first error."""
        try:
            told(self.guest, await self.inquiry.turn(When.BESIDE))
        except LimosaError as error:
            self.refusal = error
            raise

    async def _launch(self) -> QemuProcess:
        """The incoming QEMU, which is on record before."""
        from limosa.qemu import guest_process

        guest, target, launch_id = self.guest, self.target, launches.new_id()
        known = self.inquiry.facts.target_qemu
        assert known is not None, "it was needed before"
        planned = qemu_launch.plan(guest.hosts.lab, guest.spec, self.record, target, known, launch_id, incoming=True)
        self.record.copies = (*self.record.copies, Launched(target.name, launch_id))
        guest.save(self.record)
        words, log = argv.command_line(planned), target.qemu_log(guest.name)
        return await guest_process.start(target.port, guest.name, launch_id, words, log, guest.hosts.events)

    async def target_said(self) -> str:
        """What the target's QEMU wrote to its log since it was launched."""
        target, log = self.target.port, self.target.qemu_log(self.guest.name)
        return await own_log.said_since(target, log, self.log_bytes)

    async def end_target(self) -> None:
        """End the target's QEMU without a connection to it."""
        await interruption.end_on(self.guest, self.target.name)

    async def run(self) -> Outcome:
        """Migrate; afterwards the record says where the guest is. A failure is in the outcome, not raised."""
        from limosa.migration.driver import Driver
        from limosa.migration.transfer import TargetPort, Transfer

        source, target = self.source.host.name, self.target.name
        port = TargetPort(self.start_target, self.end_target, self.target_said)
        hosts, events = self.guest.hosts, self.guest.hosts.events
        for remark in self.plan.remarks:
            events.note(remark)
        journal = self.guest.new_journal(source, target, self.plan)
        keys = stream_keys.made_for(self.plan, hosts.directory, self.inquiry.source.migration_address)
        transfer = Transfer(self.plan, self.source, port, journal, events, keys)
        wish = hosts.directory.switch_wish(self.guest.name)
        wish.unlink(missing_ok=True)
        transfer.post_copy_wished = wish.exists
        transfer.clocks = self._clocks
        if self.plan.may_switch:
            log = self.inquiry.source.qemu_log(self.guest.name)
            transfer.source_said = await own_log.listening(self.inquiry.source.port, log)
        transfer.stamped_by = await _stamped_by(self.source.host, self.target.port)
        seen = diary.written(events, hosts.directory.diary(self.guest.name), self.guest.name, anew=True)
        try:
            with seen:
                outcome = await Driver(transfer).run()
        except LimosaError as error:
            refused = self.refusal if isinstance(error, MigrationError) else None
            outcome = transfer.outcome(refused or error)
        finally:
            await uninterrupted(self._settle(transfer))
        if outcome.failure is None and not any(copy.host == self.target.name for copy in self.guest.on_record()):
            by_itself = transfer.target is not None and transfer.target.control.powered_off()
            name = self.guest.name
            outcome.failure = ended_by_itself(name) if by_itself else lost(name, self.target.name)  # a moment ago
        if hosts.directory.prediction(self.guest.name).exists():
            from limosa.lab import foresight

            foresight.hold_against(self.guest, outcome)
        return outcome

    def _clocks(self) -> Clocks | None:
        facts = self.inquiry.facts
        return Clocks(ahead_ns=0, uncertainty_ns=0) if facts.same_machine else facts.clocks

    async def _settle(self, transfer: Transfer) -> None:
        """Record where the guest is and which copies of it are left; hang up."""
        entries, target, sure = transfer.journal.entries, transfer.target, False
        if entries and entries[-1].phase is Phase.COMPLETED:
            self.record.host = self.target.name
            if target is not None:
                self._with_start_time(target)
                sure = transfer.source_ended and self._strike_source() and await _runs(target)
            self.guest.save_if_possible(self.record)
        if entries and entries[-1].phase in FINAL:
            await stream_keys.taken_back(self.plan, [qemu for qemu in (self.source, target) if qemu is not None])
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


async def _stamped_by(source: Host, target: Host) -> StampedBy:
    """Whose clock both QEMUs tell their moments by. A machine that does not say what it is may be another."""
    from limosa.hosts import own_facts

    with contextlib.suppress(LimosaError):
        one, other = await tasks.each((source.facts(), target.facts()))
        if one.machine and one.machine == other.machine:
            return "this machine" if one.machine == own_facts.facts().machine else "another machine"
    return "two machines"


async def _runs(target: QemuProcess) -> bool:
    """Whether the target says so, now: only then nobody has to look whether it exists."""
    with contextlib.suppress(LimosaError):
        return await target.status() == "running"
    return False


def told(guest: LabGuest, findings: list[Finding]) -> None:
    """Tell of the warnings. Raises the first error."""
    if refusal := first_error(findings):
        raise refusal.error()
    for finding in findings:
        if finding.severity == "warning":
            fix = f"; {finding.fix}" if finding.fix else ""
            guest.hosts.events.note(f"{finding.sentence}{fix}", level="warning")


async def plan(guest: LabGuest, target: str, settings: Settings) -> Move:
    """Check what has to be known before anything is launched. Raises StateError, MachineError or SpecError; nothing is
    changed."""
    guest.hosts.the_client()
    settings = settings.over(guest.spec.migration)
    if sentence := await interruption.finish(guest):
        guest.hosts.events.note(sentence, level="warning")
    to = guest.hosts.named(target) if target in guest.hosts.on else None
    inquiry = Inquiry(guest, to, preflight.of(guest, target, settings))
    driver = tasks.load("limosa.migration.driver")
    async with tasks.beside(_early(guest, to, inquiry), driver) as (asked, _):  # while the guest is looked for
        copy, others = await copies.the_guest(guest)
        await copies.close(others)
        try:
            guest.take_back([(each.host, each.running) for each in (copy, *others)])
            inquiry.found(copy, others)
            told(guest, await inquiry.turn(When.FIRST))
            record, log_bytes = guest.record, await asked
            assert record is not None and to is not None, "the first turn ends the move otherwise"
            if target in {other.host for other in others}:
                await copies.end_recorded(guest, target)
                log_bytes = await _early(guest, to, inquiry, again=True)
            told(guest, await inquiry.turn(When.BEFORE))
            made = inquiry.facts.plan
            assert made is not None, "what it lacks would be an error"
        except BaseException:
            await copy.qemu.close()
            raise
    return Move(guest, copy.qemu, to, record, inquiry, made, log_bytes)


async def _early(guest: LabGuest, to: LabHost | None, inquiry: Inquiry, *, again: bool = False) -> int:
    """Ask the target what it is asked anyway; the size of the log of the guest's QEMU there."""
    if guest.record is None or to is None:
        return 0
    log = own_log.log_size(to.port, to.qemu_log(guest.name))
    # As tasks they begin after the looks that were begun before them: those wait for hosts, these load modules first.
    async with tasks.beside(log, inquiry.ask(preflight.EARLY, again=again)) as (log_bytes, facts):
        await facts
        return int(await log_bytes)
