"""Whether a QEMU's emulator loses writes when it moves a guest: a trial, as QEMU offers nothing that could be asked.

The bare guest checks every page that it writes, and its stack is never out of use. It is moved once on one host, from
QEMU to QEMU, with a memory of the size that is wrecked where a QEMU has the fault, and over many rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from pathlib import Path

from limosa import tasks
from limosa.architecture import X86_64
from limosa.deadline import Deadline
from limosa.errors import LimosaError, QmpError, StateError
from limosa.events import Events
from limosa.guest.bare import (
    COMMAND_VERIFY,
    Failed,
    Fault,
    Lost,
    Pass,
    Ready,
    Report,
    SerialReader,
    Stopped,
    Unread,
    Verified,
    kernel_arguments,
)
from limosa.hosts.host import Host
from limosa.process import Completed
from limosa.qemu.argv import Launch, command_line
from limosa.qemu.dirty_log import Verdict
from limosa.qemu.features import Features, common_machine
from limosa.qemu.monitor import Monitor, Ram
from limosa.spec.image_kinds import BARE
from limosa.spec.resolved import Guest

LIMIT_S = 10.0
"""How long a trial may take in all: some 1.5 s on a quiet machine."""

MEMORY_BYTES = 16 << 20
WORKING_SET_MIB = 1
ROUNDS = 8
"""With five or more, QEMU 7.2 was seen to damage the guest in every move."""
RESENT = 4
"""How many times the working set has to be sent: where the guest is hardly scheduled, rounds alone show nothing."""
BANDWIDTH_BYTES_PER_S = 8 << 20
"""So that a round lasts some 130 ms, in which a guest on a crowded machine has its turn."""
REPORT = 64
"""Passes between two lines of the guest: some 25 lines a second."""
TIGHT_MS, AMPLE_MS = 1, 2000
"""Downtime limits: one that cannot be met as long as the guest writes, and one that can."""

_DAMAGE = (Lost, Fault, Failed, Stopped, Unread)
"""What a guest says that was damaged. One that says on the target that it is ready was reset."""


async def hold(host: Host, qemu: str, firmware: tuple[str, ...], offers: Features, kernel: Path) -> Verdict:
    """Try *qemu* on *host*, whose features are *offers*. *kernel* is the bare guest's, as a local file.

    Both QEMUs have ended when this returns. What keeps the trial from showing anything makes the verdict unclear.
    Raises LimosaError's children where nothing could be started at all.
    """
    deadline = Deadline.after(LIMIT_S)
    verdict = await _held(host, qemu, firmware, offers, kernel, deadline)
    while not (verdict.clear or deadline.passed):
        verdict = await _held(host, qemu, firmware, offers, kernel, deadline)
    return verdict


async def _held(
    host: Host, qemu: str, firmware: tuple[str, ...], offers: Features, kernel: Path, deadline: Deadline
) -> Verdict:
    folder = f"{host.runtime_directory}/trial-{secrets.token_hex(4)}"
    try:
        await host.run(["mkdir", "-p", "-m", "0700", folder, f"{folder}/s", f"{folder}/t"])
        await host.put(kernel, f"{folder}/kernel")
        words = [_command(qemu, firmware, offers, folder, side) for side in ("s", "t")]
        async with tasks.beside(*(host.run(argv, check=False) for argv in words)) as running:
            async with asyncio.timeout(deadline.left_s):
                return await _moved(host, folder, running)
    except TimeoutError:
        return _verdict(f"a trial did not end within {LIMIT_S:g} s", clear=False)
    except (QmpError, StateError) as error:
        return _verdict(f"a trial could not be held: {error.message}", clear=False)
    finally:
        with contextlib.suppress(LimosaError):
            await tasks.uninterrupted(host.run(["rm", "-rf", "--", folder], timeout_s=10))


def _command(qemu: str, firmware: tuple[str, ...], offers: Features, folder: str, side: str) -> tuple[str, ...]:
    launch = Launch(
        lab="trial",
        guest=Guest(name="trial", host="", image=BARE.name, memory_bytes=MEMORY_BYTES),
        qemu=qemu,
        features=offers,
        accel="tcg",
        machine=common_machine({"": offers}),
        cpu=X86_64.plain_cpu,
        runtime_directory=f"{folder}/{side}",
        serial_log=f"{folder}/{side}/console.log",
        firmware=firmware,
        kernel=f"{folder}/kernel",
        append=kernel_arguments("write", memory_mib=WORKING_SET_MIB, report=REPORT),
        ram_bytes=MEMORY_BYTES,
        incoming=side == "t",
    )
    return command_line(launch)


async def _moved(host: Host, folder: str, running: list[asyncio.Future[Completed]]) -> Verdict:
    async with contextlib.AsyncExitStack() as stack:
        source, target = [await _monitor(stack, host, f"{folder}/{side}", running) for side in ("s", "t")]
        before, after = [await _line(stack, host, f"{folder}/{side}/serial.sock") for side in ("s", "t")]
        if not isinstance(await before.wait(Pass, *_DAMAGE), Pass):
            return _verdict("the bare guest did not begin to write", clear=False)
        uri = f"unix:{folder}/stream"
        await target.listen_for_migration(uri)
        await source.set_parameters({"max-bandwidth": BANDWIDTH_BYTES_PER_S, "downtime-limit": TIGHT_MS})
        await source.migrate(uri)
        sent = await _sent(source)
        await after.send(COMMAND_VERIFY)
        verified = await after.wait(Verified, Ready, *_DAMAGE)
    rounds = f"a move of {sent.dirty_sync_count} rounds"
    if not isinstance(verified, Verified) or verified.lost_total:
        return _verdict(f"the bare guest was damaged by {rounds}")
    if not _enough(sent):
        return _verdict(f"the bare guest hardly wrote in {rounds}", clear=False)
    return _verdict(f"the bare guest came whole through {rounds}", sound=True)


def _verdict(reason: str, *, sound: bool = False, clear: bool = True) -> Verdict:
    return Verdict(sound=sound, reason=reason, clear=clear, tried_at_s=time.time())


async def _monitor(
    stack: contextlib.AsyncExitStack, host: Host, folder: str, running: list[asyncio.Future[Completed]]
) -> Monitor:
    """A connection to the QEMU in *folder*, once it listens. What passes there is told to nobody."""
    async for _ in Deadline.after(LIMIT_S).ticks(0.02):
        with contextlib.suppress(StateError):
            monitor = await Monitor.open(host, f"{folder}/control.qmp", "trial", Events(), "control")
            stack.push_async_callback(monitor.close)
            return monitor
        if any(process.done() for process in running):
            break
    raise StateError("QEMU did not start")


def _enough(sent: Ram) -> bool:
    """Whether the guest has written, been logged and been sent again often enough to show anything."""
    return sent.dirty_sync_count >= ROUNDS and sent.transferred >= RESENT * WORKING_SET_MIB << 20


async def _sent(source: Monitor) -> Ram:
    """Hold the guest in pre-copy for as long as it takes, then let it go; returns what was sent in all."""
    held = True
    while True:
        info = await source.migrate_info()
        if info.status in ("failed", "cancelled"):
            raise StateError(f"the move failed: {info.error_desc or info.status}")
        ram = info.ram
        if info.status == "completed" and ram is not None:
            return ram
        if held and ram is not None and _enough(ram):
            await source.set_parameters({"max-bandwidth": 0, "downtime-limit": AMPLE_MS})
            held = False
        await asyncio.sleep(0.01)


class _Line:
    """The guest's serial line at one of the two QEMUs.

    A line that the move cuts in two is read by neither: its second half alone says nothing.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._serial = reader, writer, SerialReader()

    async def send(self, command: bytes) -> None:
        self._writer.write(command)
        await self._writer.drain()

    async def wait(self, *kinds: type[Report]) -> Report:
        """The next report of one of these *kinds*. Raises StateError when the line ends."""
        while data := await self._reader.read(65536):
            for report in self._serial.feed(data):
                if isinstance(report, kinds):
                    return report
        raise StateError("QEMU ended")


async def _line(stack: contextlib.AsyncExitStack, host: Host, path: str) -> _Line:
    reader, writer = await asyncio.open_unix_connection(sock=await host.connect(path))
    stack.callback(writer.close)
    return _Line(reader, writer)
