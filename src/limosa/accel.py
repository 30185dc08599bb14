"""Which accelerator a guest gets on a host: KVM where it is proved to run a Linux kernel, else TCG with the reason.

``/dev/kvm`` can open and still be unable to run a guest (nested virtualisation without hardware support: firmware
crawls, a stock kernel never reaches its init). So ``auto`` boots the guest's own kernel under a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limosa import remembered, tasks
from limosa.architecture import X86_64
from limosa.deadline import Deadline
from limosa.errors import LimosaError, MachineError, StateError
from limosa.hosts.host import Host
from limosa.process import Completed

PROOF_LIMIT_S = 8.0
"""A Linux kernel was seen to reach its init after 4 to 7 s under TCG on a busy machine, and a KVM that works is many
times faster. Where KVM only emulates, the firmware alone was seen to take 6 to 55 s."""

FIRST_LINE_SHARE = 0.5
"""The share of the limit within which something has to be printed: the kernel's first line came after 1 to 1.6 s
under TCG. Where KVM only emulates, half the time is saved."""

PROOF_CPU = X86_64.plain_cpu
"""For a proof: every KVM that runs a 64-bit guest starts it, whereas ``host`` was seen to abort QEMU."""

REFUSAL_LASTS_S = 7 * 86400.0
"""A proof that failed is tried again after a week: the machine may only have been busy."""

DEVICE = "/dev/kvm"

_PROOF_MACHINE = (
    *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-smp", "1", "-m", "256"),
    *("-machine", f"{X86_64.machine},{X86_64.machine_switches()}"),
    *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a proof boots: files on the host, and how it is known to run. The words complete sentences."""

    name: str
    reach: str
    reached: str
    marker: bytes
    """What it prints on the serial console when it runs."""
    kernel: str
    append: str
    initrd: str = ""
    bios: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """What an attempt to run a guest under KVM showed; ``reason`` is one plain clause."""

    works: bool
    reason: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class Accel:
    """The accelerator, why it was chosen, and when (Unix time in seconds) that was proved; 0: nothing to prove."""

    kind: Literal["kvm", "tcg"]
    reason: str
    proved_at_s: float = 0.0


Prove = Callable[[], Awaitable[Proof]]


async def choose(
    host: Host,
    wanted: Literal["auto", "kvm", "tcg"],
    prove: Prove,
    *,
    key: str,
    cache: Path | None = None,
    fresh: bool = False,
) -> Accel:
    """The accelerator for a guest on *host*. *prove* is called only when nothing valid is cached under *key*.

    ``tcg`` never touches /dev/kvm. Raises MachineError when ``kvm`` is demanded and does not work.
    """
    if wanted == "tcg":
        return Accel("tcg", "the lab file asks for it")
    refusal = await device_refusal(host)
    if refusal:
        return unproved(host.name, wanted, refusal)
    kept = remembered.place("accel", key, cache)
    known = None if fresh else _recalled(kept)
    found = known or _judged(await prove())
    if known is None:
        remembered.write(kept, found)
    if found.kind == "tcg":
        unproved(host.name, wanted, found.reason)
    return found


def unproved(host: str, wanted: str, reason: str) -> Accel:
    """TCG, because of *reason*, which needs no proof. Raises MachineError when KVM is demanded."""
    if wanted == "kvm":
        raise MachineError(
            f"KVM is asked for, but does not work on {host}: {reason}",
            hint="write `accel: auto` or `accel: tcg` in the lab file: the guest runs anywhere, but slower",
        )
    return Accel("tcg", reason)


async def device_refusal(host: Host) -> str:
    """Why /dev/kvm does not open on *host*; empty when it does. It is really opened: modes do not tell everything."""
    opening = ["dd", "if=/dev/null", f"of={DEVICE}", "count=0", "conv=nocreat,notrunc", "status=none"]
    done = await host.run(opening, env={"LC_ALL": "C"}, check=False, timeout_s=10)
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip()
    if "No such file" in said:
        return f"no {DEVICE}"
    if "Permission denied" in said:
        return f"{DEVICE}: permission denied (limosa doctor says what lets this user in)"
    return f"{DEVICE} does not open: {said.rpartition(': ')[2]}"


# Alpine has no machine-id. The firmware's is for root alone to read.
_MACHINE = """for file in /etc/machine-id /var/lib/dbus/machine-id /sys/class/dmi/id/product_uuid; do
    if [ -s $file ] && cat $file 2>/dev/null; then exit; fi
done"""


async def proof_key(
    host: Host, kernel: Path, qemu_identity: str, *, cpu: str = PROOF_CPU, limit_s: float = PROOF_LIMIT_S
) -> str:
    """The cache key of a proof: the host's machine, CPU, boot and kernel, the guest's kernel and CPU, QEMU, the limit.

    *kernel* is the guest's kernel as a local file; *qemu_identity* is that of ``features.Features``.
    """
    facts = await host.facts()
    machine = await host.run(["sh", "-c", _MACHINE], check=False, timeout_s=10)
    with kernel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [machine.text, facts.machine, facts.cpu_model, facts.kernel, digest, qemu_identity, cpu, f"{limit_s:g}"]
    return remembered.key(*parts)


async def prove_kvm(
    host: Host,
    *,
    qemu: str,
    subject: Subject,
    cpu: str = PROOF_CPU,
    runtime_directory: str,
    firmware: Sequence[str] = (),
    limit_s: float = PROOF_LIMIT_S,
    accel: str = "kvm",
) -> Proof:
    """Boot *subject* until its marker is seen on the serial console.

    The QEMU is ended in every case before this returns. *accel* is there to try the method itself under TCG.
    """
    path = f"{runtime_directory}/accel-{uuid.uuid4().hex[:8]}.sock"
    argv = [qemu, *(word for folder in firmware for word in ("-L", folder)), "-accel", accel, "-cpu", cpu]
    argv += [*_PROOF_MACHINE, "-chardev", _listener(path), "-serial", "chardev:console"]
    argv += ["-kernel", subject.kernel, "-append", subject.append]
    argv += ["-initrd", subject.initrd] if subject.initrd else []
    argv += ["-bios", subject.bios] if subject.bios else []
    started = time.monotonic()
    try:
        async with tasks.beside(host.run(argv, check=False)) as (machine,):
            failure = await _watch(host, path, machine, subject, limit_s)
            ended = await _last_words(machine)
    finally:
        with contextlib.suppress(LimosaError):
            await host.run(["rm", "-f", path], timeout_s=10)
    duration_s = time.monotonic() - started
    if not failure:
        reason = f"{subject.name} {subject.reached} under {accel.upper()} in {duration_s:.1f} s"
        return Proof(True, reason, duration_s)
    return Proof(False, f"{DEVICE} opens, but {f'QEMU ended with: {ended}' if ended else failure}", duration_s)


def _listener(path: str) -> str:
    """The guest starts when we are connected (``wait=on``), so nothing that it prints is missed."""
    return f"socket,id=console,path={path.replace(',', ',,')},server=on,wait=on"


async def _watch(host: Host, path: str, machine: asyncio.Future[Completed], subject: Subject, limit_s: float) -> str:
    """Read the console until the marker: empty when it came in time, else what was missing."""
    whole, first = Deadline.after(limit_s), Deadline.after(limit_s * FIRST_LINE_SHARE)
    connection = await _connected(host, path, machine, first)
    if connection is None:
        return f"QEMU did not open its console within {limit_s * FIRST_LINE_SHARE:g} s"
    printed = b""
    with connection, contextlib.suppress(TimeoutError, ConnectionError):
        while subject.marker not in printed:
            async with asyncio.timeout((whole if printed else first).left_s):
                chunk = await asyncio.get_running_loop().sock_recv(connection, 4096)
            if not chunk:
                return f"QEMU closed its console before {subject.name} {subject.reached}"
            printed = (printed + chunk)[-65536:]
        return ""
    if printed:
        return f"{subject.name} did not {subject.reach} within {limit_s:g} s"
    return f"{subject.name} printed nothing within {limit_s * FIRST_LINE_SHARE:g} s"


async def _connected(
    host: Host, path: str, machine: asyncio.Future[Completed], deadline: Deadline
) -> socket.socket | None:
    async for _ in deadline.ticks(0.02):
        if machine.done():
            return None
        with contextlib.suppress(StateError):
            return await host.connect(path)
    return None


async def _last_words(machine: asyncio.Future[Completed]) -> str:
    """What the proof's QEMU said last, when it has ended by itself; raises what kept it from starting."""
    if not machine.done():
        # A QEMU that fails prints its reason, closes the console and exits a moment later.
        await asyncio.wait([machine], timeout=0.1)
    if not machine.done():
        return ""
    said = machine.result().stderr.decode(errors="replace").strip()
    return said.splitlines()[-1] if said else "no message"


def _judged(proof: Proof) -> Accel:
    return Accel("kvm" if proof.works else "tcg", proof.reason, time.time())


def _recalled(kept: Path) -> Accel | None:
    known = remembered.read(kept, Accel)
    if known is not None and known.kind == "tcg" and time.time() - known.proved_at_s > REFUSAL_LASTS_S:
        return None
    return known
