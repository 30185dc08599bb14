"""A guest's QEMU on a host: start it and have both monitors, attach to one that runs, end one for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from limosa import tasks
from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.qemu import launches, own_log
from limosa.qemu.launches import Running, runtime_directory
from limosa.qemu.monitor import Monitor
from limosa.tasks import to_the_end, uninterrupted

START_S = 20.0
"""How long QEMU may take until its monitor answers: about 0.1 s, far more on a crowded machine."""

END_S = 10.0

APPEAR_S = 2.0
"""How long the sockets of a QEMU whose launcher was killed may take to appear."""

EXIT_S = 3.0
"""How long a QEMU that has closed its monitor may take to be gone; it frees the guest's memory."""


class QemuProcess:
    """A guest's QEMU on one host, with its two monitors connected."""

    def __init__(self, guest: str, host: Host, control: Monitor, observe: Monitor, running: Running) -> None:
        self.guest, self.host, self.running = guest, host, running
        self.control, self.observe = control, observe

    async def close(self) -> None:
        """Hang up both monitors; QEMU goes on."""
        await tasks.each((self.control.close(), self.observe.close()))

    async def end(self) -> None:
        """End QEMU, by its monitor or, when that does not help, by SIGKILL; returns when it is gone.

        Raises UnreachableError when that is not known.
        """
        with contextlib.suppress(LimosaError, TimeoutError):
            async with asyncio.timeout(END_S):
                await self.control.quit()
                await self.control.wait_ended(Deadline.after(EXIT_S))  # what it says last may tell that the guest ran
        await self.close()
        await launches.end(self.host, self.running, Deadline.after(END_S))

    async def status(self) -> str:
        """The run state; ``gone`` when QEMU does not exist any more, and then all that it had said was read.

        ``unreachable``: it exists but does not answer. Raises StateError when the host is off.
        """
        try:
            return await self.observe.status()
        except QmpError as error:
            patience = Deadline.after(0 if error.error_class == "Silent" else EXIT_S)
        async for _ in patience.ticks(0.02):
            if not await launches.exists(self.host, self.running):
                await self.control.wait_ended(Deadline.after(EXIT_S))
                return "gone"
        return "unreachable"


async def start(
    host: Host,
    guest: str,
    launch: str,
    argv: Sequence[str],
    log: str,
    events: Events,
    *,
    deadline: Deadline | None = None,
) -> QemuProcess:
    """Launch QEMU and connect both monitors. *launch* is the id that *argv* bears.

    Raises MachineError or StateError with QEMU's own last words when it does not come up; then it is gone, unless its
    host does not answer any more.
    """
    deadline = deadline or Deadline.after(START_S)
    await host.run(["mkdir", "-p", "-m", "0700", runtime_directory(host, guest)])
    try:
        pid, cancelled = await to_the_end(host.spawn(argv, log=log))  # half a request might be a process all the same
        if cancelled:
            raise asyncio.CancelledError
        running = await launches.appeared(host, guest, launch, pid, Deadline.after(APPEAR_S))
        if running is None:
            raise await own_log.why_ended(host, guest, log)
        control = await _first_monitor(host, guest, running, log, events, deadline)
        return await _observed(control, host, guest, running, events)
    except BaseException:
        await uninterrupted(_end_started(host, guest, launch))
        raise


async def _observed(control: Monitor, host: Host, guest: str, running: Running, events: Events) -> QemuProcess:
    """With the other monitor too; both are closed when that does not answer."""
    try:
        observe = await Monitor.open(host, f"{runtime_directory(host, guest)}/observe.qmp", guest, events, "observe")
    except BaseException:
        await control.close()
        raise
    return QemuProcess(guest, host, control, observe, running)


async def _end_started(host: Host, guest: str, launch: str) -> None:
    with contextlib.suppress(StateError):  # a host that is off runs nothing; one that is silent stays on record
        if (running := await launches.find(host, guest, launch)) is not None:
            await launches.end(host, running, Deadline.after(0))


async def _first_monitor(
    host: Host, guest: str, running: Running, log: str, events: Events, deadline: Deadline
) -> Monitor:
    looks = 0
    async for _ in deadline.ticks(0.004):
        with contextlib.suppress(StateError):
            return await Monitor.open(host, f"{runtime_directory(host, guest)}/control.qmp", guest, events, "control")
        looks += 1
        if looks % 10 == 0 and not await launches.exists(host, running):
            raise await own_log.why_ended(host, guest, log)
    raise LimosaError(f"QEMU for guest {guest} on {host.name} did not answer within {START_S:g} s", hint=f"see {log}")


async def attach(host: Host, guest: str, running: Running, events: Events) -> QemuProcess:
    """Connect to a QEMU that was seen to run. Raises StateError when it does not answer, or has ended."""
    path, deadline = f"{runtime_directory(host, guest)}/control.qmp", Deadline.after(APPEAR_S)
    while True:
        try:
            control = await Monitor.open(host, path, guest, events, "control")
            break
        except StateError:
            if deadline.passed or not await launches.exists(host, running):
                raise
            await asyncio.sleep(0.02)
    return await _observed(control, host, guest, running, events)
