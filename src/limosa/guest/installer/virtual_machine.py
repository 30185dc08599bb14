"""The virtual machine that an installation runs in: a QEMU on this machine, without root, that ends with the command.

Its console is one end of a socket pair, so there is no path that anybody else could open, nor one that stays behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limosa import process, tasks
from limosa.errors import LimosaError, MachineError

QEMU = "qemu-system-x86_64"

CPU = {"tcg": "Nehalem", "kvm": "host"}
"""What an installer runs on. Emulated: old enough to be emulated whole, and new enough for any distribution."""

_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the machine has. Paths are this machine's; empty text or None: without."""

    disk: Path
    iso: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    memory_bytes: int = 512 << 20
    cpus: int = 1
    machine: Literal["pc", "q35"] = "pc"
    """``pc`` has an IDE drive for the ISO, which every installer knows; guests of a lab are ``q35``."""
    network: Literal["none", "closed", "open"] = "closed"
    """``closed``: an address by DHCP and nothing beyond; ``open``: out to the network, as any program of the user."""
    ssh_port: int = 0
    """The port of 127.0.0.1 that leads to the machine's port 22; 0: none does."""
    reboots: bool = True
    """Whether a reboot starts it again; else it ends the machine."""
    accel: Literal["tcg", "kvm"] = "tcg"
    display: bool = False
    """Whether it has a VGA screen and a keyboard too, for media that speak on nothing else."""


class Running:
    """A machine that runs: its console, and what QEMU itself has said."""

    def __init__(
        self, console: socket.socket, child: asyncio.subprocess.Process, monitor: socket.socket | None
    ) -> None:
        self.console, self.child = console, child
        self.monitor = monitor
        """Where its display can be looked at, if it has one."""
        self.said = ""

    @property
    def last_words(self) -> str:
        """QEMU's last message; empty when it said nothing."""
        lines = self.said.strip().splitlines()
        return lines[-1].removeprefix(f"{QEMU}: ") if lines else ""

    async def wait_ended(self, within_s: float) -> bool:
        """Whether QEMU ends by itself in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.child.wait()
        return self.child.returncode is not None


def command_line(hardware: Hardware, console: int, qemu: str = QEMU, monitor: int = -1) -> list[str]:
    """The argv of QEMU; *console* and *monitor* are descriptors: the far ends of the serial console and of QMP."""
    h = hardware
    # graphics=off lets SeaBIOS, and boot loaders that use its services, print on the serial console.
    argv = [qemu, "-name", "limosa-install", "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", _SANDBOX]
    argv += ["-machine", f"{h.machine},graphics=off,vmport=off", "-accel", h.accel, "-cpu", CPU[h.accel]]
    argv += ["-smp", str(h.cpus), "-m", f"{h.memory_bytes >> 20}M", "-rtc", "base=utc"]
    argv += ["-chardev", f"socket,id=console,fd={console}", "-serial", "chardev:console"]
    file = {"driver": "file", "filename": str(h.disk), "node-name": "disk-file", "discard": "unmap"}
    argv += ["-blockdev", json.dumps(file), "-blockdev", '{"driver":"raw","node-name":"disk","file":"disk-file"}']
    argv += ["-device", "virtio-blk-pci,drive=disk,bootindex=1"]
    argv += ["-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"]
    if h.iso:
        readonly = {"driver": "file", "filename": str(h.iso), "node-name": "iso-file", "read-only": True}
        argv += ["-blockdev", json.dumps(readonly)]
        argv += ["-blockdev", '{"driver":"raw","node-name":"iso","file":"iso-file","read-only":true}']
        argv += ["-device", "ide-cd,drive=iso" if h.kernel else "ide-cd,drive=iso,bootindex=0"]
    if h.kernel:
        argv += ["-kernel", str(h.kernel), "-append", h.append]
        argv += ["-initrd", str(h.initrd)] if h.initrd else []
    if h.network != "none":
        forward = f",hostfwd=tcp:127.0.0.1:{h.ssh_port}-:22" if h.ssh_port else ""
        argv += ["-netdev", f"user,id=net,restrict={'off' if h.network == 'open' else 'on'}{forward}"]
        # Without its own boot ROM: it would only delay the boot.
        argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
    if h.display:
        # The ISA card has no driver in Linux, so the screen stays in the text mode that the firmware set.
        argv += ["-device", "isa-vga", "-chardev", f"socket,id=monitor,fd={monitor}"]
        argv += ["-mon", "chardev=monitor,mode=control"]
    return [*argv, *([] if h.reboots else ["-no-reboot"])]


@asynccontextmanager
async def running(hardware: Hardware, qemu: str = QEMU) -> AsyncIterator[Running]:
    """A machine that runs until the end of the block, and no longer than this process, even when that is killed.

    Raises MachineError when QEMU is missing or cannot start.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    monitor, monitored = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, monitor:
        with theirs, monitored:
            descriptors = (theirs.fileno(), monitored.fileno())
            line = command_line(hardware, descriptors[0], qemu, descriptors[1])
            child = await process.start(["setpriv", "--pdeathsig", "KILL", *line], pass_fds=descriptors)
        machine = Running(ours, child, monitor if hardware.display else None)
        try:
            async with tasks.beside(_listen(machine)):
                try:
                    await _started(machine, hardware)
                    yield machine
                finally:
                    await tasks.uninterrupted(process.stop(child))
        finally:
            # Its streams are pipes of ours: closed here, or the interpreter complains when it collects them.
            child._transport.close()  # type: ignore[attr-defined]


async def _listen(machine: Running) -> None:
    assert machine.child.stderr is not None
    while line := await machine.child.stderr.readline():
        machine.said = (machine.said + line.decode(errors="replace"))[-4000:]


async def _started(machine: Running, hardware: Hardware) -> None:
    """A QEMU that cannot start says so within a moment."""
    if not await machine.wait_ended(0.3):
        return
    await asyncio.sleep(0.05)
    last = machine.last_words or "it said nothing"
    if "hostfwd" in last or "host forwarding" in last:
        raise PortTaken(f"port {hardware.ssh_port} of 127.0.0.1 was taken meanwhile", hint="try again")
    raise MachineError(f"QEMU could not start the installation: {last}", hint="limosa doctor tries what it needs")


class PortTaken(LimosaError):
    """Somebody else took the port for the SSH check before QEMU did."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def new_disk(path: Path, size_bytes: int) -> None:
    """A raw disk of holes. Raises OSError."""
    with path.open("xb") as file:
        file.truncate(size_bytes)
