"""A guest whose memory was left on two hosts: a later command goes on with its post-copy, or says what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError
from limosa.lab import copies, stream_keys
from limosa.lab.guest import LabGuest
from limosa.migration import diary
from limosa.migration.journal import Entry
from limosa.migration.rescue.fate import Verdict
from limosa.qemu import own_log
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
        if verdict is Verdict.GO_ON:
            mute = next((copy.host for copy in found if not copy.answers), "")
            verdict = await _followed(guest, entries, between, patience_s, mute)
        if verdict is not Verdict.LOST:
            await stream_keys.taken_back(entries[0].plan, sides.values())
        return verdict
    finally:
        await uninterrupted(copies.close(found))


async def _followed(
    guest: LabGuest, entries: Sequence[Entry], between: Between, patience_s: float | None, mute: str
) -> Verdict:
    """Drive it from where it is. *mute*: the host whose QEMU is there and does not answer."""
    from limosa.migration.driver import Driver
    from limosa.migration.transfer import TargetPort, Transfer
    from limosa.qemu.guest_process import QemuProcess
    from limosa.qemu.stream import Stream

    last, plan = entries[-1], entries[0].plan
    if between.source is None or between.target is None or plan is None:
        raise _unseen(guest.name, last, last.source if between.source is None else last.target, mute)

    async def no_start() -> QemuProcess:
        raise LimosaError("the target was launched by the command that began the migration")

    book = guest.new_journal(last.source, last.target)
    book.entries, book.stream = list(entries), last.stream
    sides = [guest.hosts.named(name) for name in (last.source, last.target)]
    logs = [await own_log.listening(side.port, side.qemu_log(guest.name)) for side in sides]
    keys = stream_keys.made_for(plan, guest.hosts.directory, sides[0].migration_address)
    port = TargetPort(no_start, between.end_target, logs[1])
    transfer = Transfer(plan, between.source, port, book, guest.hosts.events, keys)
    transfer.source_said = logs[0]
    transfer.target, transfer.patience = between.target, Deadline.after(patience_s)
    transfer.stream = Stream(between.source.host, between.source.running, last.stream)
    with diary.written(guest.hosts.events, guest.hosts.directory.diary(guest.name), guest.name, anew=False):
        outcome = await Driver(transfer).go_on()
    return Verdict.KEEP_TARGET if outcome.failure is None else Verdict.KEEP_SOURCE


def _unseen(guest: str, last: Entry, host: str, mute: str) -> DecisionError:
    """The error of a command that cannot speak to the side on *host*."""
    told = f"post-copy of {guest}, {last.source} → {last.target}, is not over, and its memory is on both hosts"
    if host != mute:
        hint = f"once {host} can be reached: limosa recover {guest}"
        return DecisionError(f"{told}; nothing can be learnt of {host}", hint=hint)
    # QEMU takes no new client while its main loop stands still, not even for what may pass it by.
    return DecisionError(
        f"{told}; QEMU on {host} answers nobody: another program holds its monitors, or what it emulates waits for "
        "memory that only the other side has",
        hint=f"end what is connected to them, then limosa recover {guest}; if nothing is, this cannot be mended, and "
        f"limosa stop {guest} --force ends what is left",
    )


async def end_remains(guest: LabGuest) -> None:
    """End what is left of a guest that is lost: a side that has a part of it, and can never have the rest."""
    for copy in await copies.review(guest):
        await copies.end_recorded(guest, copy.host)
    await copies.review(guest)
