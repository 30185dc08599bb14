"""What a move would do, checked on both hosts, with nothing changed: ``limosa migrate --plan``."""

from __future__ import annotations

import msgspec

from limosa import tasks
from limosa.errors import LimosaError
from limosa.lab import copies, preflight
from limosa.lab.guest import LabGuest
from limosa.lab.preflight import Inquiry
from limosa.migration.plan import MigrationPlan
from limosa.migration.preflight.check import When
from limosa.migration.preflight.facts import Clocks, Facts
from limosa.migration.preflight.finding import Finding, first_error, refused
from limosa.migration.settings import Settings
from limosa.network.obstacles import PathSize


class Prospect(msgspec.Struct, frozen=True, kw_only=True):
    """One move of one guest that has not begun."""

    guest: str
    source: str
    target: str
    qemu: dict[str, str] = {}
    """The version of each host's, as far as it answered."""
    plan: MigrationPlan | None = None
    """What would be done; None where that cannot be said, for a reason that is among the findings."""
    findings: tuple[Finding, ...] = ()
    """In the order of the checks: a refused move gives the first error."""
    clocks: Clocks | None = None
    """How far the target's is ahead of the source's; None for one machine, and where it is not known."""
    packets: PathSize | None = None
    """How large packets may be between the two; None where it is not known."""

    @property
    def refusal(self) -> LimosaError | None:
        """What the move would be refused with; None where it could begin."""
        found = first_error(self.findings)
        return found.error() if found else None


async def of(guest: LabGuest, target: str, settings: Settings) -> Prospect:
    """What moving *guest* to the host *target* would be. For whoever holds the guest's lock.

    Raises what the move itself would where there is nothing to plan: the guest does not run, or a person has to decide.
    """
    hosts = guest.hosts
    settings = settings.over(guest.spec.migration)
    to = hosts.named(target) if target in hosts.on else None
    facts = msgspec.structs.replace(preflight.of(guest, target, settings), unfinished=guest.unfinished() is not None)
    inquiry = Inquiry(guest, to, facts)
    async with tasks.beside(inquiry.ask(preflight.EARLY if guest.record and to else ())) as (asked,):
        copy, others = await copies.the_guest(guest)
        await copies.close(others)
        try:
            inquiry.found(copy, others)
            findings = await inquiry.turn(When.FIRST)
            if first_error(findings) is None:
                await asked
                findings += await inquiry.turn(When.BEFORE)
                findings += await inquiry.turn(When.BESIDE, When.ASKED)
        finally:
            await copy.qemu.close()
    return _prospect(inquiry.facts, findings)


def unseen(guest: str, source: str, target: str, why: LimosaError) -> Prospect:
    """A move that could not be looked at."""
    return Prospect(guest=guest, source=source, target=target, findings=(refused(why),))


def _prospect(facts: Facts, findings: list[Finding]) -> Prospect:
    known = {facts.source: facts.source_qemu, facts.target: facts.target_qemu}
    return Prospect(
        guest=facts.guest,
        source=facts.source,
        target=facts.target,
        qemu={host: offers.version for host, offers in known.items() if offers is not None},
        plan=facts.plan,
        findings=tuple(findings),
        clocks=facts.clocks,
        packets=facts.packets,
    )
