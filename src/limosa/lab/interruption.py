"""A migration whose controller died: told of, finished or undone by a later command, or decided by a person."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from limosa.errors import StateError
from limosa.lab import copies, reunion, stream_keys
from limosa.lab.guest import LabGuest
from limosa.migration import journal
from limosa.migration.phases import BEFORE_SENDING, Phase
from limosa.migration.rescue.fate import Verdict, lost, lost_between
from limosa.qemu.stream import Stream

if TYPE_CHECKING:
    from limosa.qemu.guest_process import QemuProcess


async def finish(guest: LabGuest, *, patience_s: float | None = reunion.PATIENCE_S, boots: bool = False) -> str:
    """Finish or undo a migration whose controller died; return a sentence on what was done, empty for nothing.

    *patience_s*: how long a post-copy's link that is cut is waited for; None: until it is back. *boots*: whether a
    guest that is lost is going to be started again, so that what is left of it is ended.

    Raises DecisionError when a person must decide, StateError for a link that is not back, and LimosaError for a guest
    that is lost.
    """
    entries = guest.migration_so_far()
    if not entries:
        return ""
    entry = entries[-1]
    if journal.became_post_copy(entries):
        verdict = Verdict.LOST
        if entry.phase is not Phase.LOST:
            verdict = await reunion.go_on(guest, entries, patience_s=patience_s)
        if verdict is Verdict.LOST:
            return await _lost(guest, entry, boots=boots)
        sentence = _settled(guest, entry, verdict)
        await copies.review(guest)
        return sentence
    return await _settle(guest, entries)


async def _lost(guest: LabGuest, entry: journal.Entry, *, boots: bool) -> str:
    error = lost_between(guest.name, entry.source, entry.target)
    if not boots:
        if entry.phase is not Phase.LOST:
            close(guest, entry, Phase.LOST)
        raise error
    await reunion.end_remains(guest)
    close(guest, entry, Phase.FAILED)
    return error.message


async def _settle(guest: LabGuest, entries: Sequence[journal.Entry]) -> str:
    from limosa.migration.settlement import Settlement

    entry = entries[-1]
    found, unknown = await copies.of_migration(guest, entry)
    sides = {copy.host: copy.qemu for copy in found if copy.answers}
    silent = next((copy for copy in found if copy.host == entry.source and not copy.answers), None)
    settlement = Settlement(
        guest=guest.name,
        source_host=entry.source,
        target_host=entry.target,
        source=sides.get(entry.source),
        target=sides.get(entry.target),
        end_target=lambda: end_on(guest, entry.target),
        sent=entry.phase not in BEFORE_SENDING,
        watched=False,
        unknown=frozenset(unknown),
        stream=stream(entry, found),
        find_source=(lambda: _attach(guest, silent)) if silent else None,
        paused=journal.paused_guest(entries),
    )
    try:
        verdict = await settlement.settle()
        if verdict is not Verdict.LOST:
            await stream_keys.taken_back(entries[0].plan, sides.values())
    finally:
        await copies.close(found)
        if settlement.source is not None:
            await settlement.source.close()
    sentence = _settled(guest, entry, verdict)
    await copies.review(guest)
    return sentence


async def end_on(guest: LabGuest, host: str) -> None:
    """End the copy on *host*, without a connection to it."""
    with contextlib.suppress(StateError):  # it stays on record, and a later command looks again
        await copies.end_recorded(guest, host)


def stream(entry: journal.Entry, found: list[copies.Copy]) -> Stream | None:
    """What an interrupted migration sends over, when its source is among the copies that were *found*."""
    source = next((copy for copy in found if copy.host == entry.source), None)
    return Stream(source.place, source.running, entry.stream) if source is not None and entry.stream else None


async def _attach(guest: LabGuest, copy: copies.Copy) -> QemuProcess:
    from limosa.qemu import guest_process

    return await guest_process.attach(copy.place, guest.name, copy.running, guest.hosts.events)


def _settled(guest: LabGuest, entry: journal.Entry, verdict: Verdict) -> str:
    """Close the journal and record where the guest is."""
    if verdict is Verdict.KEEP_TARGET:
        if guest.record is not None:
            guest.record.host = entry.target
            guest.save_if_possible(guest.record)
        close(guest, entry, Phase.COMPLETED)
        return f"an interrupted migration was finished: {guest.name} is on {entry.target}"
    if verdict is Verdict.LOST:
        close(guest, entry, Phase.FAILED)
        return f"after an interrupted migration: {lost(guest.name, entry.source).message}"
    close(guest, entry, Phase.CANCELLED)
    return f"an interrupted migration was undone: {guest.name} is on {entry.source}"


def close(guest: LabGuest, entry: journal.Entry, phase: Phase) -> None:
    """Write down how the migration of *entry* ended."""
    guest.new_journal(entry.source, entry.target).close(phase, "by a later command")


async def end_strays(guest: LabGuest) -> str:
    """End copies of *guest* that wait for a migration which is over: its target could not be reached when it failed.

    Returns a sentence on what was done, empty for nothing.
    """
    if guest.unfinished() is not None:
        return ""
    found = await copies.copies(guest)
    waiting = [copy for copy in found if copy.status == "inmigrate"]
    if not any(copy.status in copies.RUNNING for copy in found):
        waiting = []
    await copies.close(found)
    for copy in waiting:
        await copies.end_seen(guest, copy.place, copy.running)
    if not waiting:
        return ""
    await copies.review(guest)
    return f"what a failed migration of {guest.name} had left on {', '.join(copy.host for copy in waiting)} was ended"
