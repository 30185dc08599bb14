"""Stopping a guest, or one copy of it, which is also how a person decides an interrupted migration."""

from __future__ import annotations

import contextlib

from limosa.deadline import Deadline
from limosa.errors import DecisionError, QmpError, StateError
from limosa.lab import copies, interruption, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.migration import journal
from limosa.migration.phases import Phase

SHUTDOWN_S = 30.0
"""How long a guest may take to shut down when its power button is pressed."""


async def stop(guest: LabGuest, *, force: bool = False, host: str = "") -> bool:
    """Stop *guest*, or only its copy on *host*; return whether anything ran.

    With *force* and *host* this is how a person decides an interrupted migration: the other copy goes on.
    """
    entry, damaged = None, False
    try:
        entry = guest.unfinished()
    except DecisionError:
        if not force:
            raise
        damaged = True
    if entry is not None and not force:
        if told := await interruption.finish(guest):
            guest.hosts.events.note(told, level="warning")
        entry = None
    if host and host not in guest.hosts.lab.hosts:
        raise qemu_launch.unknown_host(guest.hosts.lab, host)
    stopped = await _stop(guest, force=force, host=host)
    if entry is None and not damaged:
        return stopped
    left = await _kept(guest, entry)
    try:
        if len(left) == 1 and left[0].status in _HELD:
            await left[0].qemu.control.resume()
        if left and guest.record is not None:
            guest.record.host = left[0].host
            guest.save_if_possible(guest.record)
    finally:
        await copies.close(left)
    if entry is None:
        journal.set_aside(guest.hosts.directory.journal(guest.name))
    else:
        at_target = bool(left) and left[0].host == entry.target
        interruption.close(guest, entry, Phase.COMPLETED if at_target else Phase.CANCELLED)
    return stopped or bool(left)


async def _kept(guest: LabGuest, entry: journal.Entry | None) -> list[copies.Copy]:
    """The copies that a person did not end. A source that stands still in its last phase is let go on first."""
    left = await copies.copies(guest)
    still = [copy for copy in left if entry is not None and copy.host == entry.source and not copy.answers]
    if not still or entry is None or (stream := interruption.stream(entry, still)) is None:
        return left
    await copies.close(left)
    await stream.cut()
    return await copies.copies(guest)


_HELD = frozenset({"postmigrate", "paused", "prelaunch"})
"""Run states of a copy that an interrupted migration left standing still."""


async def _stop(guest: LabGuest, *, force: bool = False, host: str = "") -> bool:
    """Shut *guest* down, or with *force* end its QEMU at once; return whether anything ran.

    *host* names which copy, for the rare case that there are two; with *force*, a copy on a host that does not answer
    is given up by that word. Raises StateError when the guest does not shut down, DecisionError when a copy may go on
    where nobody can look.
    """
    unknown: set[str] = set()
    found = await copies.copies(guest, unknown)
    wanted = [copy for copy in found if not host or copy.host == host]
    try:
        for copy in wanted:
            await _end(guest, copy, force)
    finally:
        await copies.close(found)
    ended = force and await copies.end_unmarked(guest, host)
    unseen = bool(host) and (host in unknown or guest.hosts.doubtful(host))
    if force and unseen and guest.give_up(host):
        told = f"what may run of {guest.name} on {host} is given up: nobody looked there"
        guest.hosts.events.note(told, level="warning")
        return True
    others = {copy.host for copy in found if copy not in wanted}
    for left in await copies.review(guest):
        if left.host not in others:
            raise copies.silent(guest, left.host)
    return bool(wanted) or ended


async def _end(guest: LabGuest, copy: copies.Copy, force: bool) -> None:
    if not copy.answers and force:
        await copies.end_seen(guest, copy.place, copy.running)
    elif force or copy.status != "running" or not guest.spec.image_kind.ends_by_power_button:
        await copy.qemu.end()
    else:
        await _shut_down(copy)


async def _shut_down(copy: copies.Copy) -> None:
    await copy.qemu.control.press_power_button()
    deadline = Deadline.after(SHUTDOWN_S)
    with contextlib.suppress(QmpError):  # the connection ends when QEMU does
        async for event in copy.qemu.control.events(deadline):
            if event.name == "SHUTDOWN":
                break
        else:
            raise StateError(
                f"guest {copy.guest} did not shut down within {SHUTDOWN_S:g} s",
                hint=f"limosa stop {copy.guest} --force",
            )
    await copy.qemu.end()
