"""Starting a guest, waiting until it is up, stopping it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.lab import copies, qemu_launch
from limosa.lab.hosts import LabHosts
from limosa.lab.record import GuestRecord, Launched
from limosa.qemu import argv, guest_process, launches
from limosa.qemu.launches import runtime_directory
from limosa.spec import resolved
from limosa.tasks import uninterrupted

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient

AGENT_S = 20.0
"""How long the agent of a guest that has booted may take to answer a new client."""

SHUTDOWN_S = 30.0
"""How long a guest may take to shut down when its power button is pressed."""


async def start(hosts: LabHosts, guest: resolved.Guest, *, wait: bool = True) -> bool:
    """Start *guest* on its host unless it runs; return whether it was started.

    With *wait* it returns when the agent inside answers. Raises LimosaError's children.
    """
    found = await copies.copies(hosts, guest.name)
    await copies.close(found)
    if found:
        copies.take_back(hosts, guest.name, found)
        return _runs_already(hosts, guest.name, found)
    await copies.refuse_to_double(hosts, guest.name)
    host = hosts.host(guest.host)
    from limosa.lab import guest_access, preparation

    await guest_access.check_address(hosts, guest)
    with hosts.events.stage(f"prepare {guest.name}"):
        record = await preparation.prepare(hosts, guest)
    facts = await host.facts()
    qemu_launch.check_room(hosts, guest, guest.host, taken(hosts, guest.host), facts.memory_available_bytes)
    with hosts.events.stage(f"start {guest.name} on {guest.host}"):
        await _launch(hosts, guest, record)
    if wait and guest.image_kind.has_agent:
        with hosts.events.stage(f"boot {guest.name}"):
            await wait_ready(hosts, guest, record)
    return True


def _runs_already(hosts: LabHosts, guest: str, found: list[copies.Copy]) -> bool:
    """False: nothing is to be done. Raises StateError for a copy that only waits, DecisionError for two that run."""
    runs = [copy for copy in found if copy.status in copies.RUNNING or not copy.answers]
    if len(runs) > 1:
        raise copies.twice(guest, runs)
    if not runs:
        raise StateError(
            f"guest {guest} is {found[0].status} on {found[0].host}",
            hint=f"limosa stop {guest} --host {found[0].host} --force ends that copy",
        )
    if not runs[0].answers:
        hosts.events.note(f"{guest} is there on {runs[0].host}, but its monitors do not answer", level="warning")
    return False


async def _launch(hosts: LabHosts, guest: resolved.Guest, record: GuestRecord) -> None:
    """On record before there is a process, and for as long as there may be one."""
    host, launch_id = hosts.host(guest.host), launches.new_id()
    known = await qemu_launch.offer(hosts, guest.host, record.accel)
    planned = qemu_launch.plan(hosts, guest, record, guest.host, known, launch_id)
    record.copies = (Launched(guest.host, launch_id),)
    hosts.directory.save_guest(guest.name, record)
    try:
        words, log = argv.command_line(planned), qemu_launch.qemu_log(host, guest.name)
        qemu = await guest_process.start(host, guest.name, launch_id, words, log, hosts.events)
        await qemu.close()
    except BaseException:
        await uninterrupted(copies.review(hosts, guest.name))
        raise
    record.copies = (Launched(guest.host, launch_id, qemu.running.started),)
    hosts.directory.save_guest(guest.name, record)


def taken(hosts: LabHosts, host: str) -> int:
    """Guest memory in bytes that guests of this lab already hold on *host*, by the record."""
    records = {name: copies.readable(hosts, name) for name in hosts.lab.guests}
    here = [name for name, record in records.items() if record is not None and record.host == host]
    return sum(hosts.lab.guests[name].memory_bytes for name in here)


async def wait_ready(hosts: LabHosts, guest: resolved.Guest, record: GuestRecord) -> None:
    """Until the agent inside answers. Raises LimosaError with the guest's last console lines when it does not.

    A system of its own is ready when limosa can log in to it, and gets the agent then.
    """
    kind = guest.image_kind
    deadline = Deadline.after(kind.boot_s)
    arrival = _Arrival(hosts, guest, record) if kind.agent == "brought" else None
    async for _ in deadline.ticks(0.2):
        try:
            async with asyncio.timeout(5):
                agent = await connect_agent(hosts, guest.name, record.host)
                await agent.close()
                return
        except (LimosaError, TimeoutError, OSError):
            if not await launches.look(hosts.host(record.host), guest.name):
                break
        if arrival is not None and await arrival.settled():
            return
    host = hosts.host(record.host)
    console = qemu_launch.serial_log(host, guest.name)
    last = (await host.run(["tail", "-n", "1", "--", console], check=False)).text.strip().splitlines()[-1:]
    raise LimosaError(
        f"guest {guest.name} did not come up within {kind.boot_s:g} s"
        + (f"; its console ends: {last[0]}" if last else ""),
        hint=f"limosa logs {guest.name}",
    )


class _Arrival:
    """A system of its own on its way up: as soon as one can log in to it, the agent is started in it."""

    def __init__(self, hosts: LabHosts, guest: resolved.Guest, record: GuestRecord) -> None:
        self._hosts, self._guest, self._record = hosts, guest, record
        self._carried = False

    async def settled(self) -> bool:
        """Whether there is nothing more to wait for, although no agent answers."""
        from limosa.guest.agent import executable
        from limosa.lab import guest_access

        own, events = self._record.own_disk, self._hosts.events
        if own is None or not self._guest.address or self._carried:
            return False
        if not own.user:
            if await guest_access.answers(self._hosts, self._guest):
                events.note(f"{self._guest.name} answers; it runs no SSH server, so nothing is put into it")
                return True
            return False
        try:
            program = await executable.ensure(events)
            refusal = await guest_access.carry_agent(self._hosts, self._guest, self._record, program)
        except LimosaError:
            return False  # not yet
        if refusal:
            events.note(f"{self._guest.name} is up, but the agent does not run in it: {refusal}", level="warning")
            return True
        self._carried = True
        return False


async def connect_agent(hosts: LabHosts, guest: str, host: str) -> AgentClient:
    """A connection to the agent inside *guest*, which runs on *host*. Raises StateError."""
    from limosa.guest.agent.client import AgentClient

    place = hosts.host(host)
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


async def stop(hosts: LabHosts, guest: str, *, force: bool = False, host: str = "") -> bool:
    """Shut *guest* down, or with *force* end its QEMU at once; return whether anything ran.

    *host* names which copy, for the rare case that there are two; with *force*, a copy on a host that does not answer
    is given up by that word. Raises StateError when the guest does not shut down, DecisionError when a copy may go on
    where nobody can look.
    """
    unknown: set[str] = set()
    found = await copies.copies(hosts, guest, unknown)
    wanted = [copy for copy in found if not host or copy.host == host]
    try:
        for copy in wanted:
            await _end(hosts, guest, copy, force)
    finally:
        await copies.close(found)
    ended = force and await copies.end_unmarked(hosts, guest, host)
    unseen = bool(host) and (host in unknown or hosts.doubtful(host))
    if force and unseen and copies.give_up(hosts, guest, host):
        hosts.events.note(f"what may run of {guest} on {host} is given up: nobody looked there", level="warning")
        return True
    others = {copy.host for copy in found if copy not in wanted}
    for left in await copies.review(hosts, guest):
        if left.host not in others:
            raise copies.silent(hosts, guest, left.host)
    return bool(wanted) or ended


async def _end(hosts: LabHosts, guest: str, copy: copies.Copy, force: bool) -> None:
    if not copy.answers and force:
        await copies.end_seen(hosts, guest, copy.place, copy.running)
    elif force or copy.status != "running" or not hosts.lab.guests[guest].image_kind.ends_by_power_button:
        await copy.qemu.end()
    else:
        await _shut_down(copy, guest)


async def _shut_down(copy: copies.Copy, guest: str) -> None:
    await copy.qemu.control.press_power_button()
    deadline = Deadline.after(SHUTDOWN_S)
    with contextlib.suppress(QmpError):  # the connection ends when QEMU does
        async for event in copy.qemu.control.events(deadline):
            if event.name == "SHUTDOWN":
                break
        else:
            raise StateError(
                f"guest {guest} did not shut down within {SHUTDOWN_S:g} s", hint=f"limosa stop {guest} --force"
            )
    await copy.qemu.end()
