"""What a lab is doing now: looked at, never changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from limosa import tasks
from limosa.errors import DecisionError
from limosa.events import MigrationProgressed
from limosa.hosts.kind import HostState
from limosa.lab import copies
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts
from limosa.migration import diary
from limosa.migration.journal import Entry
from limosa.migration.phases import BETWEEN, Phase
from limosa.migration.rescue.fate import lost_between
from limosa.units import format_duration

ANSWER_S = 20.0
"""How long a host may take to say what it is: logging in has up to 8 s, and the link over it 10."""


class MoveStatus(msgspec.Struct, frozen=True):
    """Where the migration is that a command makes, as that command writes it down; QEMU is not asked."""

    source: str
    target: str
    method: str
    """As its plan says; empty where an older version began it."""
    phase: str
    since_ns: int
    """When the phase began, of CLOCK_REALTIME."""
    look: MigrationProgressed | None = None
    """Its last look at the source's QEMU; None before the first one."""


class GuestStatus(msgspec.Struct, frozen=True):
    """One guest; ``state`` is QEMU's run state, ``stopped``, ``moving``, ``busy``, ``no answer`` or ``unknown``.

    Of one without an answer the QEMU is there; an unknown one may run on ``host``, which does not answer.
    """

    name: str
    state: str
    host: str = ""
    address: str = ""
    accel: str = ""
    machine: str = ""
    cpu: str = ""
    unfinished: str = ""
    """What is open or amiss, as a sentence: an interrupted migration, a damaged journal or record, a second copy."""
    hint: str = ""
    """What helps against that, and of one that is unknown."""
    move: MoveStatus | None = None
    """Its migration, while a command makes one."""


class HostStatus(msgspec.Struct, frozen=True):
    """One host as it is now."""

    name: str
    state: HostState
    addresses: dict[str, str]
    why: str = ""
    """What keeps us out of one that does not answer, as a sentence."""
    hint: str = ""
    """What helps against that."""


class LabStatus(msgspec.Struct, frozen=True):
    """A lab as it is now."""

    name: str
    up: bool
    file: str
    directory: str
    hosts: list[HostStatus]
    guests: list[GuestStatus]
    left: list[str] = []
    """Hosts on which something may remain of a lab that is down: ``down`` takes it away when they answer."""


async def look(hosts: LabHosts) -> LabStatus:
    """The lab as it is now. All hosts are asked at once, and so are all guests looked for."""
    await hosts.meet(within_s=ANSWER_S)
    guests = await tasks.together(_guest(LabGuest(hosts, spec)) for spec in hosts.lab.guests.values())
    return LabStatus(
        name=hosts.lab.name,
        up=hosts.client is not None,
        file=hosts.lab.file,
        directory=str(hosts.directory.path),
        hosts=[_host(hosts, name) for name in hosts.lab.hosts],
        guests=guests,
        left=[] if hosts.client else [name for name in hosts.elsewhere if hosts.may_hold(name)],
    )


def _host(hosts: LabHosts, name: str) -> HostStatus:
    state, addresses = (
        hosts.state(name),
        {network: hosts.address(name, network) for network in hosts.lab.networks},
    )
    if state is not HostState.NO_ANSWER:
        return HostStatus(name, state, addresses)
    error = hosts.absent(name)
    return HostStatus(name, state, addresses, error.message, error.hint)


async def _guest(guest: LabGuest) -> GuestStatus:
    hosts, spec, name, record = guest.hosts, guest.spec, guest.name, guest.record
    # A record that cannot be read hides neither what runs nor the other guests.
    wrong, help_ = (guest.damage.message, guest.damage.hint) if guest.damage else ("", "")
    if (record is not None or wrong) and guest.busy:
        return _in_work(guest, wrong, help_)
    unknown = set[str]()
    found = await copies.copies(guest, unknown) if hosts.client else []
    await copies.close(found)
    if any(not copy.answers for copy in found) and guest.busy:  # a command has begun meanwhile
        return _in_work(guest, wrong, help_)
    unfinished, hint = _interrupted(guest)
    moving = len(found) > 1 and bool(unfinished)
    if not unfinished:
        unfinished, hint = wrong, help_
    if not found:
        for copy in guest.on_record():
            if copy.host in unknown or await copies.may_run(guest, copy):
                hint = hint or copies.silent(guest, copy.host).hint
                return GuestStatus(name, "unknown", copy.host, spec.address, unfinished=unfinished, hint=hint)
        return GuestStatus(name, "stopped", "", spec.address, unfinished=unfinished, hint=hint)
    chosen = next((copy for copy in found if copy.status in copies.RUNNING), found[0])
    if len(found) > 1 and not moving:
        unfinished, hint = _beside(guest, chosen, found)
    shown = (record.accel, record.machine, record.cpu) if record else ("", "", "")
    state = "moving" if moving else chosen.status
    return GuestStatus(name, state, chosen.host, spec.address, *shown, unfinished, hint)


def _in_work(guest: LabGuest, wrong: str, hint: str) -> GuestStatus:
    """Of a guest that a command is at work on: that holds its monitors, which serve one client at a time."""
    spec, record, entries = guest.spec, guest.record, _under_way(guest)
    now = entries[-1] if entries else None
    host, state = (now.guest_host, "moving") if now else (record.host if record else "", "busy")
    if now and now.phase in BETWEEN:
        wrong = _at(now)
    shown = (record.accel, record.machine, record.cpu) if record else ("", "", "")
    return GuestStatus(spec.name, state, host, spec.address, *shown, wrong, hint, _move(guest, entries))


def _move(guest: LabGuest, entries: Sequence[Entry]) -> MoveStatus | None:
    if not entries:
        return None
    first, last = entries[0], next(entry for entry in reversed(entries) if entry.action is None)
    look = diary.last_look(guest.hosts.directory.diary(guest.name), first.time_ns)
    method = first.plan.method if first.plan else ""
    return MoveStatus(last.source, last.target, method, last.phase.value, last.time_ns, look)


def _beside(guest: LabGuest, chosen: copies.Copy, found: list[copies.Copy]) -> tuple[str, str]:
    """What is said of a guest's other copies, and what helps."""
    runs = [copy for copy in found if copy.status in copies.RUNNING]
    if len(runs) > 1:
        error = copies.twice(guest, runs)
        return error.message, error.hint
    other = next(copy for copy in found if copy is not chosen)
    ends = "limosa up" if other.status == "inmigrate" else f"limosa stop {guest.name} --host {other.host} --force"
    return f"a copy that a failed migration left on {other.host} is there still", f"{ends} ends it"


def _under_way(guest: LabGuest) -> list[Entry]:
    """The steps of the migration that a command is at work on; empty when there is none."""
    try:
        return guest.migration_so_far()
    except DecisionError:
        return []


def _at(entry: Entry) -> str:
    """What a post-copy does, and since when."""
    since_s = max(0.0, (time.time_ns() - entry.time_ns) / 1e9)
    link = f"{entry.source} ↔ {entry.target}"
    if entry.phase is Phase.WAITING_FOR_LINK:
        return f"post-copy waits for its link, {link}, since {format_duration(since_s)}"
    if entry.phase is Phase.RECOVERING:
        return f"post-copy takes its link up again, {link}"
    return f"post-copy, {link}, since {format_duration(since_s)}"


def _interrupted(guest: LabGuest) -> tuple[str, str]:
    """What a migration without a controller left open, in a sentence, and what helps; both empty when there is none."""
    try:
        entry = guest.unfinished()
    except DecisionError as error:
        return error.message, error.hint
    if entry is None or guest.busy:
        return "", ""
    if entry.phase is Phase.LOST:
        lost = lost_between(guest.name, entry.source, entry.target)
        return lost.message, lost.hint
    if entry.phase in BETWEEN:
        return _at(entry), f"limosa recover {guest.name} --lab {guest.hosts.lab.name} goes on with it"
    sentence = f"its migration {entry.source} → {entry.target} was interrupted at {entry.phase.value}"
    return sentence, f"limosa start {guest.name} --lab {guest.hosts.lab.name} settles it"
