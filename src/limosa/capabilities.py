"""What this machine permits and has, found by trying: the findings of ``limosa doctor``.

Capabilities are tried in namespaces made for the purpose, never concluded from versions.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from limosa import paths, process
from limosa.errors import LimosaError
from limosa.requirements import OPTIONAL, REQUIREMENTS, Requirement, find, install_argv, missing

GIB = 1024**3
DISK_NEEDED_BYTES = 2 * GIB
"""The micro image with the packages it is made from, a lab's disks and a run, with room to spare."""
MEMORY_NEEDED_BYTES = 3 * GIB // 2
"""The example's guest has 512 MiB and is in memory twice while it moves; QEMU and the clients come on top."""

KVM_CREATE_VM = 0xAE01
USERFAULTFD_IOC_NEW = 0xAA00
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``fix`` is what a person can do about it; empty when all is well or nothing helps."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True


async def examine() -> list[Finding]:
    """Try everything that limosa needs or can use, all at once; in under a second. Required findings come first."""
    checks: list[Callable[[], Awaitable[Finding]]] = [
        _python, _static_compiler, _user_namespaces, _bridge, _tap, _shaping, _delay, _kvm, _userfaultfd,
        _disk, _memory, _browser,
    ]  # fmt: skip
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_settle(check)) for check in checks]
    programs = [_program(r) for r in REQUIREMENTS.values() if r.program != "gcc"]
    return sorted([*programs, *(t.result() for t in tasks)], key=lambda finding: not finding.required)


async def _settle(check: Callable[[], Awaitable[Finding]]) -> Finding:
    """A check that fails by an error of ours is a finding too, so that doctor always prints the whole table."""
    try:
        return await check()
    except LimosaError as error:
        return Finding(check.__name__.strip("_").replace("_", " "), False, error.message, error.hint)


def _program(requirement: Requirement) -> Finding:
    path, required = find(requirement.program), requirement.program not in OPTIONAL
    fix = "" if path else " ".join(install_argv(requirement.packages, root=os.geteuid() == 0))
    return Finding(requirement.program, path is not None, path or f"missing; {requirement.why}", fix, required)


async def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11 or newer", sys.version_info >= (3, 11), f"{version} at {sys.executable}")


async def _static_compiler() -> Finding:
    requirement = REQUIREMENTS["gcc"]
    if not await missing(["gcc"]):
        return Finding("gcc", True, "compiles and links a static program")
    fix = " ".join(install_argv(requirement.packages, root=os.geteuid() == 0))
    return Finding("gcc", False, f"cannot link a static program; {requirement.why}", fix)


async def _in_namespaces(script: str, *flags: str) -> str:
    """Run a shell script in fresh namespaces; return what went wrong, empty when nothing did."""
    own_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *own_user, *flags, "sh", "-ec", script]
    try:
        done = await process.run(argv, check=False, timeout_s=5)
    except LimosaError as error:
        return error.message
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"exit status {done.returncode}")


async def _user_namespaces() -> Finding:
    name, root = "user namespaces without root", os.geteuid() == 0
    done = await process.run(["unshare", "--user", "--map-root-user", "true"], check=False)
    if done.returncode == 0:
        return Finding(name, True, "made one", required=not root)
    said = done.stderr.decode(errors="replace").strip()
    return Finding(name, False, said, namespaces_fix(), required=not root)


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return ""


def namespaces_fix(sysctl: Callable[[str], str] = _sysctl) -> str:
    """What permits user namespaces on a machine with these kernel settings (a function from name to value)."""
    for name, forbids, permits in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu since 23.10
        ("kernel.unprivileged_userns_clone", "0", "1"),  # Debian's own switch
        ("user.max_user_namespaces", "0", "15000"),
    ):
        if sysctl(name) == forbids:
            line = f"sudo sysctl -w {name}={permits}"
            return f"{line}   (and, to keep it: echo {name}={permits} | sudo tee /etc/sysctl.d/60-limosa.conf)"
    return "run limosa as root; in a container, start it with permission to make user namespaces"


async def _bridge() -> Finding:
    script = "ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link set v0 master br0"
    said = await _in_namespaces(script, "--net")
    fix = "load the modules: sudo modprobe -a bridge veth" if said else ""
    return Finding("bridge and veth", not said, said or "made in a network namespace", fix)


async def _tap() -> Finding:
    said = await _in_namespaces("ip tuntap add dev tap0 mode tap", "--net")
    return Finding("TAP by /dev/net/tun", not said, said or "made in a network namespace", tun_fix() if said else "")


def tun_fix(path: Path = Path("/dev/net/tun")) -> str:
    """What makes this machine's TUN device usable: by whether it is there and may be opened."""
    if os.access(path, os.R_OK | os.W_OK):
        return "allow network namespaces first (see user namespaces)"
    return tun_hint(path.exists(), path)


def tun_hint(there: bool, path: Path = Path("/dev/net/tun")) -> str:
    """What makes a TUN device usable that cannot be opened, here or on another host."""
    if not there:
        return f"sudo modprobe tun; in a container, pass {path} in"
    return f"sudo chmod 0666 {path}   (what udev sets on ordinary systems)"


async def _shaping() -> Finding:
    script = "ip link add v0 type veth peer name v1; tc qdisc add dev v0 root tbf rate 1gbit burst 1mb latency 50ms"
    said = await _in_namespaces(script, "--net")
    fix = "load the module: sudo modprobe sch_tbf" if said else ""
    return Finding("link rate (tbf)", not said, said or "shaped a link in a network namespace", fix)


async def _delay() -> Finding:
    script = "ip link add v0 type veth peer name v1; tc qdisc add dev v0 root netem delay 1ms"
    said = await _in_namespaces(script, "--net")
    fix = "load the module: sudo modprobe sch_netem (only networks with a delay need it)" if said else ""
    return Finding("link delay (netem)", not said, said or "delayed a link in a network namespace", fix, False)


async def _kvm() -> Finding:
    name = "KVM"
    try:
        device = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        fix = "sudo usermod -aG kvm $USER, then log in again" if error.errno == errno.EACCES else ""
        return Finding(name, False, f"/dev/kvm: {error.strerror}; guests run emulated (TCG)", fix, False)
    try:
        os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
    except OSError as error:
        return Finding(name, False, f"/dev/kvm opens but makes no VM: {error.strerror}", "", False)
    finally:
        os.close(device)
    return Finding(name, True, "makes a VM; whether Linux gets anywhere in it is proved at a guest's start", "", False)


async def _userfaultfd() -> Finding:
    name = "userfaultfd for post-copy"
    said = _try_userfaultfd()
    if not said:
        return Finding(name, True, "the system call is permitted", "", False)
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
        os.close(fcntl.ioctl(device, USERFAULTFD_IOC_NEW, os.O_CLOEXEC))
        os.close(device)
    except OSError:
        fix = "sudo sysctl -w vm.unprivileged_userfaultfd=1   (or chmod /dev/userfaultfd, for QEMU 8.1 and newer)"
        return Finding(name, False, said, fix, False)
    return Finding(name, True, "by /dev/userfaultfd, which QEMU 8.1 and newer use", "", False)


def _try_userfaultfd() -> str:
    number = _SYS_USERFAULTFD.get(os.uname().machine)
    if number is None:
        return "not known on this processor"
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""


async def _disk() -> Finding:
    places = [(place, _free_bytes(place)) for place in (paths.cache(), paths.state())]
    place, free = min(places, key=lambda pair: pair[1])
    detail = f"{free / GIB:.1f} GiB free for {place}"
    fix = f"{DISK_NEEDED_BYTES / GIB:.0f} GiB are needed: make room, or set XDG_CACHE_HOME and XDG_STATE_HOME"
    return Finding("disk space", free >= DISK_NEEDED_BYTES, detail, "" if free >= DISK_NEEDED_BYTES else fix)


def _free_bytes(place: Path) -> int:
    while not place.exists():
        place = place.parent
    about = os.statvfs(place)
    return about.f_bavail * about.f_frsize


async def _memory() -> Finding:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    enough = available >= MEMORY_NEEDED_BYTES
    fix = (
        ""
        if enough
        else f"{MEMORY_NEEDED_BYTES / GIB:.1f} GiB are needed for the demo: end something, or use smaller guests"
    )
    return Finding("memory", enough, f"{available / GIB:.1f} GiB available", fix)


async def _browser() -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := find(name))), "")
    return Finding("Chromium", bool(path), path or "missing; only the report's own test needs it", "", False)
