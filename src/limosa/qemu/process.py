"""A QEMU process on a host: start it and have both monitors, find one that runs, end one for good."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, QmpError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.qemu.monitor import Monitor

START_S = 20.0
"""How long QEMU may take until its monitor answers: about 0.1 s, far more on a crowded machine."""

END_S = 10.0


def runtime_directory(guest: str) -> str:
    """Where a guest's sockets are on the host that runs it."""
    return f"/run/limosa/guests/{guest}"


@dataclass(slots=True)
class QemuProcess:
    """A guest's QEMU on one host, with its two monitors connected."""

    guest: str
    host: Host
    control: Monitor
    observe: Monitor

    async def close(self) -> None:
        """Hang up both monitors; QEMU goes on."""
        await self.control.close()
        await self.observe.close()

    async def end(self) -> None:
        """End QEMU, by its monitor or, when that does not help, by SIGKILL; returns when it is gone."""
        with contextlib.suppress(LimosaError):
            await self.control.quit()
        await self.close()
        await end_leftover(self.host, self.guest, Deadline.after(END_S))

    async def status(self) -> str:
        """The run state, or ``gone`` when QEMU does not exist any more."""
        try:
            return await self.observe.status()
        except QmpError:
            return "gone" if await running_pid(self.host, self.guest) is None else "unreachable"


async def start(
    host: Host, guest: str, argv: Sequence[str], log: str, events: Events, *, deadline: Deadline | None = None
) -> QemuProcess:
    """Launch QEMU and connect both monitors.

    Raises MachineError or StateError with QEMU's own last words when it does not come up.
    """
    deadline = deadline or Deadline.after(START_S)
    await host.run(["mkdir", "-p", "-m", "0700", runtime_directory(guest)])
    pid = await host.spawn(argv, log=log)
    try:
        control = await _first_monitor(host, guest, pid, log, events, deadline)
        try:
            observe = await Monitor.open(host, f"{runtime_directory(guest)}/observe.qmp", guest, events, "observe")
        except BaseException:
            await control.close()
            raise
    except BaseException:
        await host.run(["kill", "-KILL", str(pid)], check=False)
        raise
    return QemuProcess(guest, host, control, observe)


async def _first_monitor(host: Host, guest: str, pid: int, log: str, events: Events, deadline: Deadline) -> Monitor:
    looks = 0
    async for _ in deadline.ticks(0.004):
        with contextlib.suppress(StateError):
            return await Monitor.open(host, f"{runtime_directory(guest)}/control.qmp", guest, events, "control")
        looks += 1
        if looks % 10 == 0 and not await _exists(host, pid):
            raise await _last_words(host, guest, log)
    raise LimosaError(f"QEMU for guest {guest} on {host.name} did not answer within {START_S:g} s", hint=f"see {log}")


async def _exists(host: Host, pid: int) -> bool:
    return (await host.run(["kill", "-0", str(pid)], check=False)).returncode == 0


async def _last_words(host: Host, guest: str, log: str) -> LimosaError:
    """Why QEMU ended, in a sentence of ours where the cause is known."""
    said = (await host.run(["tail", "-n", "3", "--", log], check=False)).text
    text = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
    text = text.split("qemu-system-x86_64: ", 1)[-1]
    if "unsupported machine type" in text:
        return MachineError(
            f"QEMU on {host.name} does not know guest {guest}'s machine type",
            hint="set `machine:` to one that every host's QEMU knows, see limosa doctor",
        )
    if 'Failed to get "write" lock' in said or "Failed to get shared" in said:
        return StateError(
            f"the disk of guest {guest} is in use by another process", hint="limosa status shows who runs it"
        )
    if "annot allocate memory" in said or "cannot set up guest memory" in said:
        return MachineError(
            f"{host.name} has no memory left for guest {guest}", hint="lower the guest's `memory`, or stop another"
        )
    return LimosaError(f"QEMU for guest {guest} on {host.name} ended at once: {text}", hint=f"its log: {log}")


async def find(host: Host, guest: str, events: Events) -> QemuProcess | None:
    """The running QEMU of *guest* on *host*, or None. Raises StateError when it exists but does not answer."""
    directory = runtime_directory(guest)
    try:
        control = await Monitor.open(host, f"{directory}/control.qmp", guest, events, "control")
    except StateError:
        if await running_pid(host, guest) is None:
            return None
        raise
    try:
        observe = await Monitor.open(host, f"{directory}/observe.qmp", guest, events, "observe")
    except StateError:
        await control.close()
        return None
    return QemuProcess(guest, host, control, observe)


async def running_pid(host: Host, guest: str) -> int | None:
    """The pid, on the host, of the process whose pid file the guest has there; None when it does not run."""
    script = 'pid=$(cat "$1/qemu.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && echo "$pid"'
    done = await host.run(["sh", "-c", script, "sh", runtime_directory(guest)], check=False)
    return int(done.text) if done.text.isdigit() else None


async def end_leftover(host: Host, guest: str, deadline: Deadline) -> None:
    """Wait for the guest's QEMU on *host* to end by itself until *deadline*, then kill it. Never raises for a host
    that is off: nothing runs there."""
    try:
        async for _ in deadline.ticks(0.005):
            if (pid := await running_pid(host, guest)) is None:
                return
        await host.run(["kill", "-KILL", str(pid)], check=False)
        async for _ in Deadline.after(END_S).ticks(0.01):
            if await running_pid(host, guest) is None:
                return
    except StateError:
        return
    raise LimosaError(f"QEMU of guest {guest} on {host.name} does not end, not even by SIGKILL")
