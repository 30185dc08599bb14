"""A QEMU process on a host: start it and have both monitors, find one that runs, end one for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, QmpError, StateError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.process import to_the_end
from limosa.qemu.argv import PIDFILE
from limosa.qemu.monitor import Monitor

START_S = 20.0
"""How long QEMU may take until its monitor answers: about 0.1 s, far more on a crowded machine."""

END_S = 10.0

EXIT_S = 3.0
"""How long a QEMU that has closed its monitor may take to be gone; it frees the guest's memory."""


def runtime_directory(host: Host, guest: str) -> str:
    """Where a guest's sockets are on the host that runs it."""
    return f"{host.runtime_directory}/guests/{guest}"


class QemuProcess(msgspec.Struct):
    """A guest's QEMU on one host, with its two monitors connected."""

    guest: str
    host: Host
    control: Monitor
    observe: Monitor

    async def close(self) -> None:
        """Hang up both monitors; QEMU goes on."""
        await asyncio.gather(self.control.close(), self.observe.close())

    async def end(self) -> None:
        """End QEMU, by its monitor or, when that does not help, by SIGKILL; returns when it is gone."""
        with contextlib.suppress(LimosaError, TimeoutError):
            async with asyncio.timeout(END_S):
                await self.control.quit()
        await self.close()
        await end_leftover(self.host, self.guest, Deadline.after(END_S))

    async def status(self) -> str:
        """The run state; ``gone`` when QEMU does not exist any more, and then all that it had said was read.

        ``unreachable``: it exists but does not answer. Raises StateError when the host is off.
        """
        try:
            return await self.observe.status()
        except QmpError as error:
            patience = Deadline.after(0 if error.error_class == "Silent" else EXIT_S)
        async for _ in patience.ticks(0.02):
            if await running_pid(self.host, self.guest) is None:
                await self.control.wait_ended(Deadline.after(EXIT_S))
                return "gone"
        return "unreachable"


async def start(
    host: Host, guest: str, argv: Sequence[str], log: str, events: Events, *, deadline: Deadline | None = None
) -> QemuProcess:
    """Launch QEMU and connect both monitors.

    Raises MachineError or StateError with QEMU's own last words when it does not come up; then it is gone.
    """
    deadline = deadline or Deadline.after(START_S)
    await host.run(["mkdir", "-p", "-m", "0700", runtime_directory(host, guest)])
    # Its pid has to be known, whatever happens meanwhile: it would outlive us.
    pid, cancelled = await to_the_end(host.spawn(argv, log=log))
    try:
        if cancelled:
            raise asyncio.CancelledError
        control = await _first_monitor(host, guest, pid, log, events, deadline)
        try:
            observe = await Monitor.open(
                host, f"{runtime_directory(host, guest)}/observe.qmp", guest, events, "observe"
            )
        except BaseException:
            await control.close()
            raise
    except BaseException:
        await to_the_end(_end_started(host, guest, pid))
        raise
    return QemuProcess(guest, host, control, observe)


async def _end_started(host: Host, guest: str, pid: int) -> None:
    with contextlib.suppress(StateError):  # a host that is off runs nothing
        await _signal(host, pid, "KILL")
        await end_leftover(host, guest, Deadline.after(EXIT_S))


async def _first_monitor(host: Host, guest: str, pid: int, log: str, events: Events, deadline: Deadline) -> Monitor:
    looks = 0
    async for _ in deadline.ticks(0.004):
        with contextlib.suppress(StateError):
            return await Monitor.open(host, f"{runtime_directory(host, guest)}/control.qmp", guest, events, "control")
        looks += 1
        if looks % 10 == 0 and not await _exists(host, pid):
            raise await _last_words(host, guest, log)
    raise LimosaError(f"QEMU for guest {guest} on {host.name} did not answer within {START_S:g} s", hint=f"see {log}")


async def _signal(host: Host, pid: int, name: str) -> bool:
    """Send a signal; whether it arrived. By the shell's own kill: a small system has no program of that name."""
    return (await host.run(["sh", "-c", 'kill -"$1" "$2"', "sh", name, str(pid)], check=False)).returncode == 0


async def _exists(host: Host, pid: int) -> bool:
    return await _signal(host, pid, "0")


async def _last_words(host: Host, guest: str, log: str) -> LimosaError:
    """Why QEMU ended, in a sentence of ours where the cause is known."""
    said = (await host.run(["tail", "-n", "3", "--", log], check=False)).text
    text = _last_line(said) or "it said nothing"
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


def _last_line(said: str) -> str:
    """QEMU's last message in *said* without the program's name."""
    lines = said.strip().splitlines()
    return lines[-1].split("qemu-system-x86_64: ", 1)[-1] if lines else ""


async def log_size(host: Host, log: str) -> int:
    """The bytes of *log* so far; 0 when it does not exist."""
    said = (await host.run(["stat", "-c", "%s", "--", log], check=False)).text
    return int(said) if said else 0


async def said_since(host: Host, log: str, offset: int) -> str:
    """QEMU's last message in *log* after its first *offset* bytes; empty when it said nothing."""
    with contextlib.suppress(LimosaError):
        return _last_line((await host.run(["tail", "-c", f"+{offset + 1}", "--", log], check=False)).text)
    return ""


async def find(host: Host, guest: str, events: Events) -> QemuProcess | None:
    """The running QEMU of *guest* on *host*, or None. Raises StateError when it exists but does not answer."""
    directory = runtime_directory(host, guest)
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
    """The pid, on the host, of the guest's QEMU; None when it does not run.

    By its command line, not by its pid file: that is not written yet while QEMU starts, and a pid may have passed on
    to another process. A process that is ending has no command line any more.
    """
    pattern = f"{runtime_directory(host, guest)}/{PIDFILE}".encode()
    find_it = ["sh", "-c", "exec grep -alsF -f - /proc/[0-9]*/cmdline"]
    found = (await host.run(find_it, stdin=pattern + b"\n", check=False)).text.split("/")
    return int(found[2]) if len(found) > 2 else None


async def end_leftover(host: Host, guest: str, deadline: Deadline) -> None:
    """Wait for the guest's QEMU on *host* to end by itself until *deadline*, then kill it. Never raises for a host
    that is off: nothing runs there."""
    try:
        async for _ in deadline.ticks(0.005):
            if (pid := await running_pid(host, guest)) is None:
                return
        if pid is not None:
            await _signal(host, pid, "KILL")
        async for _ in Deadline.after(END_S).ticks(0.01):
            if await running_pid(host, guest) is None:
                return
    except StateError:
        return
    raise LimosaError(f"QEMU of guest {guest} on {host.name} does not end, not even by SIGKILL")
