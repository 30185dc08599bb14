"""The copies of a guest: which exist, which one is the guest, and which may exist where nobody can look.

That a copy exists is told by its process. The guest's record names each copy from before its launch until it was seen
gone, so that what one command began no other forgets: while a copy may run where nobody can look, none is started.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from limosa import tasks
from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, StateError, UnreachableError
from limosa.hosts.host import Host
from limosa.lab.guest import LabGuest
from limosa.lab.record import Launched
from limosa.migration.journal import Entry
from limosa.qemu import launches
from limosa.qemu.launches import Running

if TYPE_CHECKING:
    from limosa.qemu.guest_process import QemuProcess

RUNNING = frozenset({"running", "paused", "io-error", "suspended", "prelaunch", "internal-error", "watchdog"})
"""Run states in which this copy is the guest; the others are those of a migration under way or done."""

NO_ANSWER = "no answer"
"""The state of a copy whose process exists while its monitors do not answer: somebody else may hold them."""


class Copy:
    """A QEMU of a guest on a host, and its run state."""

    def __init__(self, guest: str, place: Host, running: Running, status: str, qemu: QemuProcess | None) -> None:
        self.guest, self.place, self.running, self.status = guest, place, running, status
        self._qemu = qemu

    @property
    def host(self) -> str:
        """The host's name."""
        return self.place.name

    @property
    def answers(self) -> bool:
        """Whether its monitors could be had."""
        return self._qemu is not None

    @property
    def qemu(self) -> QemuProcess:
        """With both monitors. Raises StateError when they do not answer."""
        if self._qemu is None:
            raise StateError(
                f"the QEMU of {self.guest} on {self.host} is there, and its monitors do not answer: "
                "another program may hold them",
                hint=f"end what is connected to them; limosa stop {self.guest} --force ends the guest at once",
            )
        return self._qemu

    async def close(self) -> None:
        """Hang up; QEMU goes on."""
        if self._qemu is not None:
            await self._qemu.close()


async def copies(guest: LabGuest, unknown: set[str] | None = None) -> list[Copy]:
    """Every copy of *guest* on the hosts that may have one and are on, the recorded host's first. The caller closes
    them. Where there is none on the hosts that are on record, the others are asked too.

    A host that does not answer now goes into *unknown*; without that its error is raised.
    """
    unknown_before = len(unknown or ())
    found = await _on_all(guest, guest.places, unknown)
    if not found and len(unknown or ()) == unknown_before and (others := guest.widen()):
        found = await _on_all(guest, others, unknown)
    return found


async def of_migration(guest: LabGuest, entry: Entry) -> tuple[list[Copy], set[str]]:
    """Every copy of a guest whose migration was left at *entry*, and the hosts of which nothing can be learnt, or whose
    copy does not answer. The caller closes the copies."""
    await guest.meet()
    unknown = {name for name in (entry.source, entry.target) if guest.hosts.doubtful(name)}
    unknown |= {copy.host for copy in guest.on_record() if await may_run(guest, copy)}
    found = await copies(guest, unknown)
    return found, unknown | {copy.host for copy in found if not copy.answers}


async def _on_all(guest: LabGuest, places: Collection[str], unknown: set[str] | None) -> list[Copy]:
    await guest.meet()
    names = [name for name in places if name in guest.hosts.on]
    async with tasks.beside(*(_on(guest, name) for name in names)) as looks:
        try:
            if names:
                await tasks.load("limosa.qemu.guest_process")  # either takes as long as the other
            await tasks.over(looks)
            errors = {name: error for name, look in zip(names, looks, strict=True) if (error := look.exception())}
            for name, error in errors.items():
                if unknown is None or not isinstance(error, UnreachableError):
                    raise error
                unknown.add(name)
        except BaseException:
            await tasks.uninterrupted(_hang_up(looks))
            raise
    return [copy for name, look in zip(names, looks, strict=True) if name not in errors for copy in look.result()]


async def _hang_up(looks: Sequence[asyncio.Future[list[Copy]]]) -> None:
    """Whatever comes of *looks* is closed."""
    await tasks.ended(looks)
    for look in looks:
        if not look.cancelled() and look.exception() is None:
            await close(look.result())


async def close(found: Collection[Copy], but: Copy | None = None) -> None:
    """Hang up all of them, *but* one."""
    for copy in found:
        if copy is not but:
            await copy.close()


async def _on(guest: LabGuest, name: str) -> list[Copy]:
    found: list[Copy] = []
    try:
        for running in await _look(guest, name):
            if (copy := await _copy(guest, name, running)) is not None:
                found.append(copy)
    except BaseException:
        await close(found)
        raise
    return found


async def _look(guest: LabGuest, name: str) -> list[Running]:
    """The processes there. A host that went off a moment ago has none. Raises UnreachableError."""
    try:
        return await launches.look(guest.hosts.on[name], guest.name)
    except UnreachableError:
        raise
    except StateError as error:
        if await guest.hosts.kind(name).ended(name):
            return []
        raise UnreachableError(error.message, hint=error.hint) from error


async def _copy(guest: LabGuest, name: str, running: Running) -> Copy | None:
    from limosa.qemu import guest_process

    host = guest.hosts.on[name]
    try:
        qemu = await guest_process.attach(host, guest.name, running, guest.hosts.events)
    except UnreachableError:
        raise
    except StateError:
        return Copy(guest.name, host, running, NO_ANSWER, None) if await _exists(host, running) else None
    try:
        status = await qemu.status()
    except BaseException:
        await qemu.close()
        raise
    if status not in {"gone", "unreachable"}:
        return Copy(guest.name, host, running, status, qemu)
    await qemu.close()
    return None if status == "gone" else Copy(guest.name, host, running, NO_ANSWER, None)


async def _exists(host: Host, running: Running) -> bool:
    try:
        return await launches.exists(host, running)
    except UnreachableError:
        raise
    except StateError:
        return False


# -- which one is the guest -------------------------------------------------------------------------------------------


async def the_guest(guest: LabGuest) -> tuple[Copy, list[Copy]]:
    """The copy that is the guest, and the others, which do not run; all have to be closed.

    Raises StateError when it does not run or does not answer, DecisionError when it runs twice or may run where nobody
    can look.
    """
    unknown: set[str] = set()
    found = await copies(guest, unknown)
    try:
        chosen = [copy for copy in found if copy.status in RUNNING or not copy.answers]
        if len(chosen) > 1:
            raise twice(guest, chosen)
        if not chosen:
            raise await stopped(guest)
        assert chosen[0].qemu is not None
    except BaseException:
        await close(found)
        raise
    return chosen[0], [copy for copy in found if copy is not chosen[0]]


async def running(guest: LabGuest) -> Copy:
    """The copy that is the guest; others are hung up. Raises as ``the_guest``."""
    chosen, others = await the_guest(guest)
    await close(others)
    return chosen


def twice(guest: LabGuest, found: Collection[Copy]) -> DecisionError:
    """The error for a guest that runs more than once."""
    where = " and ".join(f"{copy.status} on {copy.host}" for copy in found)
    return DecisionError(
        f"{guest.name} is {where}", hint=f"end the copy you do not want: limosa stop {guest.name} --host HOST --force"
    )


async def stopped(guest: LabGuest) -> LimosaError:
    """The error for a guest of which no copy was found."""
    for copy in guest.on_record():
        if await may_run(guest, copy):
            return silent(guest, copy.host)
    record = guest.record
    if record is not None and record.host not in guest.hosts.on:
        return StateError(
            f"guest {guest.name} does not run: its host {record.host} is off",
            hint=f"{guest.hosts.way_back(record.host)}, then limosa start {guest.name}",
        )
    return not_running(guest)


def not_running(guest: LabGuest) -> StateError:
    """The error for a guest of which it is sure that no copy exists."""
    return StateError(f"guest {guest.name} does not run", hint=f"limosa start {guest.name}")


def silent(guest: LabGuest, host: str) -> DecisionError:
    """The error for a guest that may run on a host of which nobody knows what runs there."""
    if guest.hosts.visited(host) is not None:
        return DecisionError(
            f"guest {guest.name} runs on {host}, where the lab's mark is lost or hidden from this login",
            hint=f"log in there as before; or end it: limosa stop {guest.name} --host {host} --force",
        )
    why = guest.hosts.silence(host)
    return DecisionError(
        f"guest {guest.name} may run on {host}, which does not answer" + (f": {why.message}" if why else ""),
        hint=f"bring {host} back{f' ({why.hint})' if why and why.hint else ''}; or, sure that it has ended there: "
        f"limosa stop {guest.name} --host {host} --force",
    )


async def host_of(guest: LabGuest) -> str:
    """The host where *guest* is. Takes no monitor that a migration needs. Raises StateError when there is none,
    DecisionError when it runs twice."""
    names = await hosts_of(guest)
    if not names:
        raise await stopped(guest)
    if len(names) == 1 or guest.busy:
        return names[0]
    found = await copies(guest, set())
    await close(found)
    runs = [copy for copy in found if copy.status in RUNNING]
    if len(runs) > 1:
        raise twice(guest, runs)
    return runs[0].host if runs else names[0]


async def hosts_of(guest: LabGuest) -> list[str]:
    """The hosts that have a process of *guest*; while it moves, first the one where it runs. No monitor is taken."""
    names = await _seen_on(guest, guest.places)
    if not names and (others := guest.widen()):
        names = await _seen_on(guest, others)
    return sorted(names, key=lambda name: name != _recorded_host(guest))


async def _seen_on(guest: LabGuest, places: Collection[str]) -> list[str]:
    await guest.meet()
    there = [name for name in places if name in guest.hosts.on]
    looks = await tasks.together(_looked(guest, name) for name in there)
    return [name for name, seen in zip(there, looks, strict=True) if seen]


async def _looked(guest: LabGuest, name: str) -> bool:
    try:
        return bool(await _look(guest, name))
    except StateError:
        return False  # whoever wants to reach the guest can do so where it is seen


def _recorded_host(guest: LabGuest) -> str:
    """Where the guest runs by what was written down, of a move or else of the guest."""
    with contextlib.suppress(LimosaError):
        if (entry := guest.unfinished()) is not None:
            return entry.guest_host
    return guest.record.host if guest.record else ""


# -- what is on record ------------------------------------------------------------------------------------------------


async def review(guest: LabGuest) -> list[Launched]:
    """Strike out of the record what is seen to be gone, and return the copies that are left.

    A record without any is removed: the guest is stopped. A disk that takes no change is no harm: it is looked again.
    """
    await guest.meet()
    known = guest.on_record()
    gone = await tasks.together(seen_gone(guest, copy) for copy in known)
    left = [copy for copy, ended in zip(known, gone, strict=True) if not ended]
    guest.strike(left)
    return left


async def seen_gone(guest: LabGuest, copy: Launched) -> bool:
    """Whether it is sure that the copy does not exist: nobody found it where it would be, or its host is off."""
    if copy.host not in guest.hosts.on:
        return not await may_run(guest, copy)
    try:
        return not any(copy.is_it(running) for running in await _look(guest, copy.host))
    except StateError:
        return False


async def may_run(guest: LabGuest, copy: Launched) -> bool:
    """Whether a copy on a host that is not to be had may run: nobody can look there, or it is there all the same."""
    if guest.hosts.doubtful(copy.host):
        return True
    try:
        return bool(await unmarked(guest, copy))
    except LimosaError:
        return True


async def unmarked(guest: LabGuest, copy: Launched) -> list[Running]:
    """The copy's process on a host that answers, and has nothing by which the lab is known there."""
    host = guest.hosts.visited(copy.host)
    return await launches.anywhere(host, copy.launch) if host is not None and copy.launch else []


async def end_unmarked(guest: LabGuest, host: str = "") -> bool:
    """End such copies, only those on *host* where one is named; return whether there was any."""
    await guest.meet()
    found = False
    for copy in guest.on_record():
        if host in {"", copy.host} and (place := guest.hosts.visited(copy.host)) is not None:
            for running in await unmarked(guest, copy):
                await launches.end(place, running, Deadline.after(0))
                found = True
    return found


async def refuse_to_double(guest: LabGuest) -> None:
    """Raise DecisionError when a copy of *guest* may run where nobody can look."""
    for copy in await review(guest):
        raise silent(guest, copy.host)


async def end_recorded(guest: LabGuest, host: str) -> None:
    """End the copies on *host* that are on record. On a host that is off none runs.

    Raises UnreachableError when the host does not answer, DecisionError for a copy that is not on record.
    """
    if host in guest.hosts.on:
        for running in await _look(guest, host):
            await end_seen(guest, guest.hosts.on[host], running)


async def end_seen(guest: LabGuest, host: Host, running: Running) -> None:
    """End a copy without its monitor. Raises DecisionError unless it is on record: it may be anybody's."""
    if not any(copy.is_surely(host.name, running) for copy in guest.on_record()):
        raise DecisionError(
            f"process {running.pid} on {host.name} looks like a QEMU of {guest.name}, and is not on record",
            hint=f"limosa stop {guest.name} --host {host.name} --force ends it if its monitors answer; else look at "
            f"it, and end it there if it is not wanted: limosa exec {host.name} -- ps",
        )
    await launches.end(host, running, Deadline.after(0))
