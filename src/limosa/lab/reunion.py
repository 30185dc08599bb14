"""A guest whose memory was left on two hosts: a later command goes on with its post-copy, or says what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError
from limosa.lab import copies
from limosa.lab.guest import LabGuest
from limosa.migration import diary
from limosa.migration.journal import Entry
from limosa.migration.rescue.fate import Verdict
from limosa.tasks import uninterrupted

if TYPE_CHECKING:
    from limosa.migration.between import Between

PATIENCE_S = 10.0
"""How long a command that wants something else waits for a link that is cut."""


async def go_on(guest: LabGuest, entries: Sequence[Entry], *, patience_s: float | None) -> Verdict:
    """See the migration of *entries* to its end: KEEP_SOURCE, KEEP_TARGET, or LOST, of which nothing was ended.

    *patience_s*: how long a link that is cut is waited for; None: until it is back. Raises StateError when it is not,
    DecisionError when only a person can decide.
    """
    from limosa.migration.between import Between

    last = entries[-1]
    found, unknown = await copies.of_migration(guest, last)
    sides = {copy.host: copy.qemu for copy in found if copy.answers}
    between = Between(
        guest=guest.name,
        hosts=(last.source, last.target),
        source=sides.get(last.source),
        target=sides.get(last.target),
        end_target=lambda: copies.end_recorded(guest, last.target),
        hand_over_s=entries[0].plan.hand_over_s if entries[0].plan else 60.0,
        unknown=frozenset(unknown),
    )
    try:
        verdict = await between.settle()
        return await _followed(guest, entries, between, patience_s) if verdict is Verdict.GO_ON else verdict
    finally:
        await uninterrupted(copies.close(found))


async def _followed(guest: LabGuest, entries: Sequence[Entry], between: Between, patience_s: float | None) -> Verdict:
    """Drive it from where it is."""
    from limosa.migration.driver import Driver
    from limosa.migration.transfer import TargetPort, Transfer
    from limosa.qemu.guest_process import QemuProcess
    from limosa.qemu.stream import Stream

    last, plan = entries[-1], entries[0].plan
    if between.source is None or between.target is None or plan is None:
        silent = last.source if between.source is None else last.target
        raise DecisionError(
            f"post-copy of {guest.name}, {last.source} → {last.target}, is not over, and nothing can be learnt of "
            f"{silent}: its memory is on both hosts",
            hint=f"once {silent} can be reached: limosa recover {guest.name}",
        )

    async def no_start() -> QemuProcess:
        raise LimosaError("the target was launched by the command that began the migration")

    book = guest.new_journal(last.source, last.target)
    book.entries, book.stream = list(entries), last.stream
    port = TargetPort(no_start, between.end_target)
    transfer = Transfer(plan, between.source, port, book, guest.hosts.events)
    transfer.target, transfer.patience = between.target, Deadline.after(patience_s)
    transfer.stream = Stream(between.source.host, between.source.running, last.stream)
    with diary.written(guest.hosts.events, guest.hosts.directory.diary(guest.name), guest.name, anew=False):
        outcome = await Driver(transfer).go_on()
    return Verdict.KEEP_TARGET if outcome.failure is None else Verdict.KEEP_SOURCE


async def end_remains(guest: LabGuest) -> None:
    """End what is left of a guest that is lost: a side that has a part of it, and can never have the rest."""
    for copy in await copies.review(guest):
        await copies.end_recorded(guest, copy.host)
    await copies.review(guest)
