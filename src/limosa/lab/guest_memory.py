"""How fast a guest of the lab dirties its memory, found out in the best way that there is."""

from __future__ import annotations

import msgspec

from limosa.errors import LimosaError
from limosa.events import Event, MigrationProgressed
from limosa.lab import copies
from limosa.lab.guest import LabGuest
from limosa.migration import diary
from limosa.prediction import dirty_rate, memory_look, pass_points
from limosa.prediction.working_set import WorkingSet
from limosa.qemu import features, launches, ram
from limosa.qemu.launches import Running


async def working_set(guest: LabGuest) -> WorkingSet:
    """W(t) of *guest*, in some 12 s: by its memory, which takes no monitor and goes on beside a move; else of a guest
    that another command moves by the passes that were seen, and of any other by QMP, in 15 to 25 s under its lock.

    Raises StateError when it does not run, BusyError while another command holds it, DecisionError where a person has
    to say which copy it is, LimosaError where it cannot be told, with the reasons.
    """
    place = await copies.host_of(guest)
    record = guest.known_record()
    if record is None:
        raise copies.not_running(guest)
    size = record.ram_bytes
    memory_bytes = ram.ram_bytes(guest.spec.memory_bytes, record.accel) if size is None else size
    host = guest.hosts.host(place)
    found = await memory_look.read(host, await process(guest, place), memory_bytes)
    if isinstance(found, WorkingSet):
        return found
    if guest.busy and guest.unfinished() is not None:
        seen = await _by_passes(guest, memory_bytes, found.why)
    else:
        seen = await _by_qmp(guest, memory_bytes)
    return msgspec.structs.replace(seen, why=found.why)


async def process(guest: LabGuest, place: str) -> Running:
    """The guest's QEMU there, that on record before any other. Raises StateError where there is none."""
    known = guest.on_record()
    seen = await launches.look(guest.hosts.host(place), guest.name)
    if not seen:
        raise copies.not_running(guest)
    return max(seen, key=lambda running: any(copy.is_surely(place, running) for copy in known))


async def _by_passes(guest: LabGuest, memory_bytes: int, why: str) -> WorkingSet:
    heard: list[Event] = []
    async for event in diary.follow(guest.hosts.directory.diary(guest.name), lambda: False):
        heard.append(event)
    looks = [event for event in heard if isinstance(event, MigrationProgressed)]
    passes = pass_points.of_passes(pass_points.of_looks(looks))
    if not passes:
        raise LimosaError(
            f"how fast {guest.name} dirties its memory is not known yet: {why}",
            hint="the passes of its move tell, from the end of the first one on",
        )
    return pass_points.working_set(passes, memory_bytes)


async def _by_qmp(guest: LabGuest, memory_bytes: int) -> WorkingSet:
    async with guest.hosts.locked("limosa, which reads how fast it dirties its memory", guest.name):
        copy = await copies.running(guest)
        try:
            control = copy.qemu.control
            return await dirty_rate.read(control, await features.of_running(control), memory_bytes)
        finally:
            await copy.close()
