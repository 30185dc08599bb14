"""Guests as they are: find every copy that runs, start one, stop one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, QmpError, StateError, UnreachableError
from limosa.hosts.host import Host
from limosa.lab import launching
from limosa.lab.hosting import Hosting
from limosa.lab.record import GuestRecord
from limosa.process import to_the_end
from limosa.qemu import argv, process
from limosa.qemu.process import QemuProcess, runtime_directory
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient

BOOT_S = 180.0
"""How long a guest may take until its agent answers: about 15 s under TCG on a quiet machine."""

OWN_SYSTEM_S = 1800.0
"""How long a system of its own may take until it lets us in: a cloud image's first start under TCG, on two cores with
a load average of 11, took 532 s."""

AGENT_S = 20.0
"""How long the agent of a guest that has booted may take to answer a new client."""

SHUTDOWN_S = 30.0
"""How long a guest may take to shut down when its power button is pressed."""

RUNNING = frozenset({"running", "paused", "io-error", "suspended", "prelaunch", "internal-error", "watchdog"})
"""Run states in which this copy is the guest; the others are those of a migration under way or done."""


class Copy(msgspec.Struct, frozen=True):
    """A QEMU of a guest on a host, and its run state."""

    qemu: QemuProcess
    status: str

    @property
    def host(self) -> str:
        """The host's name."""
        return self.qemu.host.name


async def copies(hosting: Hosting, guest: str, silent: set[str] | None = None) -> list[Copy]:
    """Every QEMU of *guest* on any host that is on, the recorded host's first. The caller closes them.

    A host whose QEMU of the guest does not answer goes into *silent*; without that its error is raised.
    """
    record = None
    with contextlib.suppress(StateError):  # a damaged record must not hide what runs, nor keep it from being stopped
        record = hosting.directory.guest_record(guest)
    names = sorted(hosting.hosts, key=lambda name: record is None or name != record.host)
    hosts = [hosting.hosts[name] for name in names]
    found = await asyncio.gather(*(_copy(host, guest, hosting) for host in hosts), return_exceptions=True)
    whole = [copy for copy in found if isinstance(copy, Copy)]
    for host, failure in zip(hosts, found, strict=True):
        if isinstance(failure, StateError) and silent is not None:
            silent.add(host.name)
        elif isinstance(failure, BaseException):
            for copy in whole:
                await copy.qemu.close()
            raise failure
    return whole


async def _copy(host: Host, guest: str, hosting: Hosting) -> Copy | None:
    try:
        qemu = await process.find(host, guest, hosting.events)
    except UnreachableError:
        raise
    except StateError:
        if await host.alive():
            raise
        return None  # it went off a moment ago
    if qemu is None:
        return None
    status = await qemu.status()
    if status != "gone":
        return Copy(qemu, status)
    await qemu.close()
    return None


async def running(hosting: Hosting, guest: str) -> Copy:
    """The copy that is the guest. Raises StateError when there is none; other copies are hung up."""
    found = await copies(hosting, guest)
    chosen = next((copy for copy in found if copy.status in RUNNING), None)
    for copy in found:
        if copy is not chosen:
            await copy.qemu.close()
    if chosen is None:
        raise stopped(hosting, guest)
    return chosen


def stopped(hosting: Hosting, guest: str) -> StateError:
    """The error for a guest that does not run, which says so of its host too when that is off."""
    record = hosting.directory.guest_record(guest)
    if record is not None and record.host not in hosting.hosts:
        return StateError(
            f"guest {guest} does not run: its host {record.host} is off",
            hint=f"limosa host restore {record.host}, then limosa start {guest}",
        )
    return StateError(f"guest {guest} does not run", hint=f"limosa start {guest}")


async def start(hosting: Hosting, guest: resolved.Guest, *, wait: bool = True) -> bool:
    """Start *guest* on its host unless it runs; return whether it was started.

    With *wait* it returns when the agent inside answers. Raises LimosaError's children.
    """
    found = await copies(hosting, guest.name)
    for copy in found:
        await copy.qemu.close()
    if not found:
        await _refuse_to_double(hosting, guest.name)
    if found:
        if found[0].status not in RUNNING:
            raise StateError(
                f"guest {guest.name} is {found[0].status} on {found[0].host}",
                hint=f"limosa stop {guest.name} --host {found[0].host} --force ends that copy",
            )
        return False
    hosting.host(guest.host)
    from limosa.lab import preparation

    with hosting.events.stage(f"prepare {guest.name}"):
        record = await preparation.prepare(hosting, guest)
    host = hosting.host(guest.host)
    facts = await host.facts()
    launching.check_room(hosting, guest, guest.host, taken(hosting, guest.host), facts.memory_available_bytes)
    with hosting.events.stage(f"start {guest.name} on {guest.host}"):
        known = await launching.offer(hosting, guest.host, record.accel)
        launch = launching.launch(hosting, guest, record, guest.host, known, incoming=False)
        log = launching.qemu_log(host, guest.name)
        qemu = await process.start(host, guest.name, argv.command_line(launch), log, hosting.events)
        try:
            hosting.directory.save_guest(guest.name, record)
        except BaseException:  # without its record it could not be moved, nor found on a host that fell silent
            await to_the_end(qemu.end())
            raise
        await qemu.close()
    if wait and guest.image != "bare":
        with hosting.events.stage(f"boot {guest.name}"):
            await wait_ready(hosting, guest, record)
    return True


async def _refuse_to_double(hosting: Hosting, guest: str) -> None:
    """Raise DecisionError when *guest* was last on a host of which nobody knows now what runs there."""
    record = hosting.directory.guest_record(guest)
    if record is not None and await hosting.doubtful(record.host):
        raise DecisionError(
            f"guest {guest} was last on {record.host}, which does not answer: it may run there still",
            hint=f"bring {record.host} back; or, sure that it is off: limosa stop {guest} --force, then start",
        )


def taken(hosting: Hosting, host: str) -> int:
    """Guest memory in bytes that guests of this lab already hold on *host*, by the record."""
    records = {name: hosting.directory.guest_record(name) for name in hosting.lab.guests}
    here = [name for name, record in records.items() if record is not None and record.host == host]
    return sum(hosting.lab.guests[name].memory_bytes for name in here)


async def wait_ready(hosting: Hosting, guest: resolved.Guest, record: GuestRecord) -> None:
    """Until the agent inside answers. Raises LimosaError with the guest's last console lines when it does not.

    A system of its own is ready when it lets us in, and gets the agent then.
    """
    limit_s = OWN_SYSTEM_S if guest.boots_disk else BOOT_S
    deadline = Deadline.after(limit_s)
    arrival = _Arrival(hosting, guest, record) if guest.boots_disk else None
    async for _ in deadline.ticks(0.2):
        try:
            async with asyncio.timeout(5):
                agent = await connect_agent(hosting, guest.name, record.host)
                await agent.close()
                return
        except (LimosaError, TimeoutError, OSError):
            if await process.running_pid(hosting.host(record.host), guest.name) is None:
                break
        if arrival is not None and await arrival.settled():
            return
    host = hosting.host(record.host)
    console = launching.serial_log(host, guest.name)
    last = (await host.run(["tail", "-n", "1", "--", console], check=False)).text.strip().splitlines()[-1:]
    raise LimosaError(
        f"guest {guest.name} did not come up within {limit_s:g} s" + (f"; its console ends: {last[0]}" if last else ""),
        hint=f"limosa logs {guest.name}",
    )


class _Arrival:
    """A system of its own on its way up: let in by it, we start the agent in it."""

    def __init__(self, hosting: Hosting, guest: resolved.Guest, record: GuestRecord) -> None:
        self._hosting, self._guest, self._record = hosting, guest, record
        self._carried = False

    async def settled(self) -> bool:
        """Whether there is nothing more to wait for, although no agent answers."""
        from limosa.lab import preparation, reach

        own, events = self._record.own_disk, self._hosting.events
        if own is None or not self._guest.address or self._carried:
            return False
        if not own.user:
            if await reach.answers(self._hosting, self._guest):
                events.note(f"{self._guest.name} answers; it runs no SSH server, so nothing is put into it")
                return True
            return False
        try:
            program = await preparation.agent_program(events)
            refusal = await reach.carry_agent(self._hosting, self._guest, self._record, program)
        except LimosaError:
            return False  # not yet
        if refusal:
            events.note(f"{self._guest.name} is up, but the agent does not run in it: {refusal}", level="warning")
            return True
        self._carried = True
        return False


async def connect_agent(hosting: Hosting, guest: str, host: str) -> AgentClient:
    """A connection to the agent inside *guest*, which runs on *host*. Raises StateError."""
    from limosa.guest.agent.client import AgentClient

    place = hosting.host(host)
    connection = await place.connect(f"{runtime_directory(place, guest)}/agent.sock")
    try:
        agent = await AgentClient.open(connection)
    except BaseException:
        connection.close()
        raise
    try:
        # The agent notices a new client when it next looks at its port, so the first greeting may get lost.
        await agent.wait_ready(Deadline.after(AGENT_S))
    except BaseException:
        await agent.close()
        raise
    return agent


async def stop(hosting: Hosting, guest: str, *, force: bool = False, host: str = "") -> bool:
    """Shut *guest* down, or with *force* end its QEMU at once; return whether anything ran.

    *host* names which copy, for the rare case that there are two. Raises StateError when it does not shut down.
    """
    found, others, silent = list[Copy](), list[Copy](), set[str]()
    for copy in await copies(hosting, guest, silent if force else None):
        (found if not host or copy.host == host else others).append(copy)
    for name in silent:
        if not host or name == host:
            await process.end_leftover(hosting.host(name), guest, Deadline.after(0))
    for copy in others:
        await copy.qemu.close()
    for copy in found:
        if force or copy.status != "running" or hosting.lab.guests[guest].image == "bare":
            await copy.qemu.end()
        else:
            await _shut_down(copy, guest)
    if (found or force) and not others:
        hosting.directory.forget_guest(guest)
    return bool(found or silent)


async def _shut_down(copy: Copy, guest: str) -> None:
    await copy.qemu.control.press_power_button()
    deadline = Deadline.after(SHUTDOWN_S)
    with contextlib.suppress(QmpError):  # the connection ends when QEMU does
        async for event in copy.qemu.control.events(deadline):
            if event.name == "SHUTDOWN":
                break
        else:
            await copy.qemu.close()
            raise StateError(
                f"guest {guest} did not shut down within {SHUTDOWN_S:g} s", hint=f"limosa stop {guest} --force"
            )
    await copy.qemu.end()
