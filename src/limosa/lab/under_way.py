"""A migration that another command drives: what it does, and the verb ``switch``, by which it becomes post-copy.

That command holds the guest's monitors. What it does is read from the files that it writes, its journal and its diary;
what is wished lies in a file beside them, where it looks for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.events import Event
from limosa.lab.record import LabDirectory
from limosa.migration import diary, journal
from limosa.migration.phases import AFTER_SWITCH, BETWEEN, FINAL, Phase

OBEY_S = 30.0
"""How long the command that drives it may take: its next look, and QEMU's next slice of sending."""


async def follow(directory: LabDirectory, guest: str) -> AsyncIterator[Event]:
    """What it has done and does, until it is over or the command that drives it has ended. Raises StateError when none
    is under way."""
    _entries(directory, guest)
    async for event in diary.follow(directory.diary(guest), lambda: directory.busy(guest)):
        yield event


async def switch(directory: LabDirectory, guest: str) -> None:
    """Wish it and see it done. Raises StateError when no migration is under way, when its plan does not allow it, and
    when it was over before; LimosaError when nobody heeds the wish."""
    entries = _entries(directory, guest)
    plan = entries[0].plan
    if plan is None or not plan.may_switch:
        raise StateError(
            f"the migration of {guest} that is under way cannot become post-copy: neither QEMU was told so beforehand",
            hint="begin it with --method post-copy, or with --set postcopy-ram=on to decide later",
        )
    if entries[-1].phase in AFTER_SWITCH:
        raise StateError(f"the migration of {guest} is at {entries[-1].phase.value} already")
    wish = directory.switch_wish(guest)
    wish.touch(mode=0o600)
    try:
        async for _ in Deadline.after(OBEY_S).ticks(0.05):
            reached = {entry.phase for entry in journal.read(directory.journal(guest))}
            if reached & BETWEEN:
                return
            if reached & (FINAL | {Phase.SWITCHED, Phase.RESCUING}):
                raise StateError(f"the migration of {guest} was over before it became post-copy")
            if not directory.busy(guest):
                break
    finally:
        wish.unlink(missing_ok=True)
    raise LimosaError(
        f"the command that migrates {guest} does not heed the wish", hint=f"limosa status shows what {guest} does"
    )


def _entries(directory: LabDirectory, guest: str) -> list[journal.Entry]:
    entries: list[journal.Entry] = []
    if directory.busy(guest) and journal.unfinished(directory.journal(guest), guest) is not None:
        entries = journal.read(directory.journal(guest))
    if not entries:
        raise StateError(
            f"no migration of {guest} is under way", hint=f"limosa migrate {guest} HOST --method post-copy begins one"
        )
    return entries
