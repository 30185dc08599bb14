"""The guests of a lab brought up side by side: prepared and launched one after another, then they boot at once.

Preparing takes turns, as guests share what is prepared: an image is built once, KVM is proved once, and a disk is
copied no faster by two. Booting is what takes long. How many boot at once is bounded for each machine, by what its
hosts say of it: their CPUs together are not more than the machine's, as emulated guests take them whole and have
deadlines, and their memory is not more than is available, as none has touched all of its own yet. A guest that would be
too much waits until another is up; one that nobody boots beside is judged as if it had come alone. So whatever can be
brought up one by one still can be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from limosa import tasks
from limosa.errors import LimosaError
from limosa.hosts.host import Host, HostFacts
from limosa.lab import interruption
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts
from limosa.lab.record import GuestRecord
from limosa.lab.start import boot, launch
from limosa.spec import resolved


async def bring_up(hosts: LabHosts, made: list[str], *, start: bool, wait: bool) -> list[LimosaError]:
    """Settle what is open of each guest, and (with *start*) start it, if its host is on; append what was started to
    *made*. Returns why some were not, in the file's order: none keeps another from it.
    """
    work = _SideBySide(hosts, start=start, wait=wait)
    guests = hosts.lab.guests.values()
    failures = await tasks.each([work.bring_up(guest) for guest in guests])
    made += [f"guest {guest.name}" for guest in guests if guest.name in work.started]
    return [error for error in failures if error is not None]


def fits(guest: resolved.Guest, booting: Collection[resolved.Guest], facts: HostFacts) -> bool:
    """Whether a machine has room for *guest* beside those that are *booting* there."""
    together = [guest, *booting]
    cpus, memory_bytes = sum(each.cpus for each in together), sum(each.memory_bytes for each in together)
    return not booting or (cpus <= facts.cpus and memory_bytes <= facts.memory_available_bytes)


class _Machine:
    """One machine, whichever hosts are on it: the guests that boot there, and those that wait for their turn."""

    def __init__(self) -> None:
        self.queue = asyncio.Lock()
        self._booting: dict[str, resolved.Guest] = {}
        self._ended = asyncio.Event()

    async def wait_for_room(self, guest: resolved.Guest, host: Host) -> None:
        """Until *guest* can boot beside the others."""
        while not fits(guest, self._booting.values(), await host.facts()):
            self._ended.clear()
            await self._ended.wait()

    def enter(self, guest: resolved.Guest) -> None:
        """It is about to boot."""
        self._booting[guest.name] = guest

    def leave(self, guest: resolved.Guest) -> None:
        """It is up, or will not be."""
        self._booting.pop(guest.name, None)
        self._ended.set()


class _SideBySide:
    """One command's work on the guests; whoever uses it holds the lab's lock."""

    def __init__(self, hosts: LabHosts, *, start: bool, wait: bool) -> None:
        self._hosts, self._start, self._wait = hosts, start, wait
        self._machines: dict[str, _Machine] = {}
        self._turn = asyncio.Lock()
        self.started = set[str]()
        self._several = len(hosts.lab.guests) > 1

    async def bring_up(self, guest: resolved.Guest) -> LimosaError | None:
        """Bring one up; what kept it from that."""
        try:
            with self._hosts.events.about(guest.name) if self._several else contextlib.nullcontext():
                await self._bring_up(guest)
        except LimosaError as error:
            error.about = f"guest {guest.name}"
            return error
        return None

    async def _bring_up(self, guest: resolved.Guest) -> None:
        port = self._hosts.on.get(guest.host) if self._start else None
        machine = await self._machine(port)
        with contextlib.ExitStack() as stack:
            async with machine.queue:
                if port is not None:
                    await machine.wait_for_room(guest, port)
                stack.enter_context(self._hosts.directory.locked("limosa up", guest.name))
                found = LabGuest(self._hosts, guest)
                async with self._turn:
                    record = await self._launch(found, start=port is not None)
                machine.enter(guest)
            try:
                if record is None:
                    return
                if self._wait:
                    await boot(found, record)
                self.started.add(guest.name)
            finally:
                machine.leave(guest)

    async def _machine(self, port: Host | None) -> _Machine:
        """The machine that a host is on; one of its own for a guest that is not to be started."""
        if port is None:
            return _Machine()
        return self._machines.setdefault((await port.facts()).machine, _Machine())

    async def _launch(self, found: LabGuest, *, start: bool) -> GuestRecord | None:
        """What is started now, with its record; None for a guest that runs, or is not to be started."""
        for told in (await interruption.finish(found, boots=start), await interruption.end_strays(found)):
            if told:
                self._hosts.events.note(told, level="warning")
        return await launch(found) if start else None
