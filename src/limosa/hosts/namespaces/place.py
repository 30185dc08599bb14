"""Where a lab of namespaces was made: the machine, its boot and the pid namespace in which its processes are seen.

A state directory may be seen from elsewhere: from a development container, or from another machine by NFS. There the
lab's processes cannot be found, and whoever takes that for "they are gone" makes the lab a second time. So the lab's
directory has a file ``place``, which says where, and which the fabric's processes hold a lock on for as long as they
live. The kernel drops the lock with the last of them, so it tells what runs across the pid namespaces of one machine
and, after a crash, that nothing does. Where it is held and none of them can be seen and reached, the command runs in
another user namespace, as in a container that shows this machine's processes, or has the state directory by another
path: that is no news about the lab either. Between machines it is no proof that it can be had: NFS may be mounted with
locks that stay on each machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from limosa import durable, locks, paths, untrusted
from limosa.deadline import Deadline
from limosa.errors import StateError
from limosa.hosts.namespaces.marks import marked, reachable

_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")

APPEAR_S = 2.0
"""How long the fabric's first process may take to appear, which holds the lock from its first moment."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What tells one place from another. Fields that cannot be read are empty."""

    machine: str
    """The machine's id and name: machines that were made from one image may have the same id."""
    name: str
    boot: str
    pid_namespace: str
    """Its inode number, which may be used again once it is gone: where it is the same in the same boot, whatever runs
    still is seen."""
    path: str = ""
    """The lab's directory, which its processes bear as their mark."""


def here() -> Place:
    """Where this process runs."""
    name = platform.node()
    return Place(
        machine=f"{next(filter(None, map(_text, _MACHINE_IDS)), '')} {name}",
        name=name,
        boot=_text(_BOOT_ID),
        pid_namespace=str(_PID_NAMESPACE.readlink()),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def file(directory: Path) -> Path:
    """Where the place of the lab with that *directory* is kept."""
    return directory / "place"


def take(directory: Path) -> int:
    """Note that the lab is made here; a descriptor that holds the lock, for the fabric. Raises MachineError."""
    path = file(directory)
    try:
        durable.replace(path, msgspec.json.encode(msgspec.structs.replace(here(), path=os.path.realpath(directory))))
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # whoever only looks holds it for a moment
    except OSError as error:
        raise paths.cannot_write(error, path.parent) from error
    return descriptor


def leave(directory: Path) -> None:
    """Nothing of the lab runs here any more."""
    file(directory).unlink(missing_ok=True)


def require_here(directory: Path, recorded_pid: Callable[[], int]) -> None:
    """Raise StateError where the lab's fabric runs, or may run, in another place than this one.

    *recorded_pid* is asked for the fabric's first process, as far as is recorded.
    """
    try:
        descriptor = os.open(file(directory), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise paths.cannot_read(error, file(directory)) from error
    try:
        there, held = _decoded(os.pread(descriptor, 4096, 0)), _held(descriptor)
        this = here()
        refusal = judge(this, there, held=held)
        if refusal and not (there is None and marked(os.path.realpath(directory))):
            raise StateError(
                f"lab {directory.name} {refusal}, and it can be commanded from there alone",
                hint=_way_out(directory, this, there),
            )
        if held and _out_of_reach(directory, descriptor, recorded_pid):
            raise _unreached(directory, there)
    finally:
        os.close(descriptor)


def _unreached(directory: Path, there: Place | None) -> StateError:
    text = f"lab {directory.name} runs, and its processes cannot be reached from here"
    if there is not None and there.path not in {"", os.path.realpath(directory)}:
        return StateError(f"{text}: it was made as {there.path}", hint="have its directory there again, then try again")
    return StateError(text, hint="it was made in another user namespace, as a container has: run the command there")


def _out_of_reach(directory: Path, descriptor: int, recorded_pid: Callable[[], int]) -> bool:
    """Whether something of the fabric runs that cannot be reached. Its first process has the lock before it appears."""
    mark = os.path.realpath(directory)
    if (pid := recorded_pid()) and reachable(pid, mark):
        return False
    deadline = Deadline.after(APPEAR_S)
    with contextlib.suppress(OSError):
        while locks.is_taken(descriptor):
            if any(reachable(pid, mark) for pid in marked(mark)):
                return False
            if deadline.passed:
                return True
            time.sleep(0.02)
    return False


def _way_out(directory: Path, this: Place, there: Place | None) -> str:
    """Only where a machine may be gone for good can a person know better than the lock."""
    if there is None or (this.boot and this.boot == there.boot):
        return "run the command there; limosa down there ends the lab, as the end of that container does"
    return (
        "run the command there; if that machine is gone for good, or is this one under another name: "
        f"rm {file(directory)}"
    )


def judge(this: Place, there: Place | None, *, held: bool) -> str:
    """Why a lab that was made *there* cannot be commanded from *this* place; empty where it can, or where nothing of
    it runs any more. *held*: whether somebody holds the lock."""
    if there is None:
        return "runs, and what says where is damaged" if held else ""
    if this.boot and this.boot == there.boot:
        if this.pid_namespace == there.pid_namespace or not held:  # in a pid namespace that is gone nothing runs
            return ""
        return "runs in another pid namespace of this machine, as a container has"
    if held:
        return f"runs on another machine, {there.name}"
    if this.machine == there.machine:
        return ""  # which was started anew since
    return f"was last up on another machine, {there.name}, where it may run still"


def _decoded(data: bytes) -> Place | None:
    try:
        return untrusted.decode(data, type=Place)
    except msgspec.DecodeError:
        return None


def _held(descriptor: int) -> bool:
    """Whether the lock is held; a file system that knows no locks gives no proof that it is not."""
    try:
        return locks.is_taken(descriptor)
    except OSError:
        return True
