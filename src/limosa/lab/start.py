"""Starting a guest, and waiting until it is up."""

from __future__ import annotations

import asyncio

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.lab import copies, qemu_launch
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHost
from limosa.lab.record import GuestRecord, Launched
from limosa.qemu import argv, guest_process, launches
from limosa.tasks import uninterrupted


async def start(guest: LabGuest, *, wait: bool = True) -> bool:
    """Start *guest* on its host unless it runs; return whether it was started.

    With *wait* it returns when the agent inside answers, and one can log in. Raises LimosaError's children.
    """
    record = await launch(guest)
    if record is not None and wait:
        await boot(guest, record)
    return record is not None


async def launch(guest: LabGuest) -> GuestRecord | None:
    """Prepare *guest* and start its QEMU, unless it runs: then None. Raises as ``start``."""
    hosts, name = guest.hosts, guest.name
    found = await copies.copies(guest)
    try:
        if found:
            guest.take_back([(copy.host, copy.running) for copy in found])
            await _let_go_on(guest, _require_running(guest, found))
            return None
    finally:
        await copies.close(found)
    await copies.refuse_to_double(guest)
    host = hosts.named(guest.spec.host)
    from limosa.lab import guest_access, preparation

    await guest_access.check_address(hosts, guest.spec)
    with hosts.events.stage(f"prepare {name}"):
        record = await preparation.prepare(hosts, guest.spec)
    await qemu_launch.check_room(guest, host)
    with hosts.events.stage(f"start {name} on {host.name}"):
        await _launch(guest, host, record)
    return record


async def boot(guest: LabGuest, record: GuestRecord) -> None:
    """Wait until the agent inside answers, where the guest can have one. Who waits no longer is told so."""
    if guest.spec.image_kind.has_agent:
        with guest.hosts.events.stage(f"boot {guest.name}"):
            try:
                await wait_ready(guest, guest.hosts.named(guest.spec.host), record)
            except asyncio.CancelledError:
                told = f"{guest.name} goes on booting; limosa logs {guest.name} shows how far it is"
                guest.hosts.events.note(told, level="warning")
                raise


async def _let_go_on(guest: LabGuest, runs: copies.Copy) -> None:
    """QEMU stops a guest whose disk takes no more, and keeps what it was writing: whoever asks for it has made room."""
    if runs.answers and runs.status == "io-error":
        await runs.qemu.control.resume()
        told = f"{guest.name} was stopped on {runs.host}, as its disk took no more: it is let go on"
        guest.hosts.events.note(told, level="warning")


def _require_running(guest: LabGuest, found: list[copies.Copy]) -> copies.Copy:
    """The one that runs. Raises StateError for a copy that only waits, DecisionError for two that run."""
    runs = [copy for copy in found if copy.status in copies.RUNNING or not copy.answers]
    if len(runs) > 1:
        raise copies.twice(guest, runs)
    if not runs:
        raise StateError(
            f"guest {guest.name} is {found[0].status} on {found[0].host}",
            hint=f"limosa stop {guest.name} --host {found[0].host} --force ends that copy",
        )
    if not runs[0].answers:
        told = f"{guest.name} is there on {runs[0].host}, but its monitors do not answer"
        guest.hosts.events.note(told, level="warning")
    return runs[0]


async def _launch(guest: LabGuest, host: LabHost, record: GuestRecord) -> None:
    """On record before there is a process, and for as long as there may be one."""
    launch_id, events = launches.new_id(), guest.hosts.events
    known = await host.offer(record.accel)
    planned = qemu_launch.plan(guest.hosts.lab, guest.spec, record, host, known, launch_id)
    record.copies = (Launched(host.name, launch_id),)
    guest.save(record)
    try:
        words, log = argv.command_line(planned), host.qemu_log(guest.name)
        qemu = await guest_process.start(host.port, guest.name, launch_id, words, log, events)
        # Bridges go on sending to where it ran before until they hear of it, and it may be silent for minutes.
        await qemu.control.announce()
        await qemu.close()
    except BaseException:
        await uninterrupted(copies.review(guest))
        raise
    record.copies = (Launched(host.name, launch_id, qemu.running.started),)
    guest.save(record)


async def wait_ready(guest: LabGuest, host: LabHost, record: GuestRecord) -> None:
    """Until the agent inside answers, and the SSH server beside it listens: people log in next. Raises LimosaError with
    the guest's last console lines when the agent does not answer.

    A system of its own is ready when limosa can log in to it, and gets the agent then.
    """
    from limosa.lab import guest_access

    kind = guest.spec.image_kind
    deadline = Deadline.after(kind.boot_s)
    arrival = _Arrival(guest, record) if kind.agent == "brought" else None
    async for _ in deadline.ticks(0.2):
        try:
            async with asyncio.timeout(5):
                agent = await guest_access.connect_agent(host.port, guest.name)
                await agent.close()
        except (LimosaError, TimeoutError, OSError):
            if not await launches.look(host.port, guest.name):
                break
        else:
            if guest.spec.address and arrival is None:
                await guest_access.wait_for_ssh(guest.hosts, guest.spec)
            return
        if arrival is not None and await arrival.settled():
            return
    tail = ["tail", "-n", "1", "--", host.serial_log(guest.name)]
    last = (await host.port.run(tail, check=False)).text.strip().splitlines()[-1:]
    raise LimosaError(
        f"guest {guest.name} did not come up within {kind.boot_s:g} s"
        + (f"; its console ends: {last[0]}" if last else ""),
        hint=f"limosa logs {guest.name}",
    )


class _Arrival:
    """A system of its own on its way up: as soon as one can log in to it, the agent is started in it."""

    def __init__(self, guest: LabGuest, record: GuestRecord) -> None:
        self._hosts, self._guest, self._record = guest.hosts, guest.spec, record
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
