"""What this machine permits and has, found by trying: the findings of ``limosa doctor``.

Capabilities are tried in namespaces made for the purpose, never concluded from versions.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from limosa import paths, process, remedies, remembered, userfaultfd
from limosa.errors import LimosaError
from limosa.requirements import REQUIREMENTS, Requirement, find, install_line, missing, purpose

GIB = 1024**3
DISK_NEEDED_BYTES = 2 * GIB
"""The micro image with the packages it is made from, a lab's disks and a run, with room to spare."""
MEMORY_NEEDED_BYTES = 3 * GIB // 2
"""The example's guest has 512 MiB and is in memory twice while it moves; QEMU and the clients come on top."""

UEFI_FOLDERS = ("/etc/qemu/firmware", "/usr/share/qemu/firmware")

FULL_SPEED = "guests at full speed (else by TCG)"

KVM_CREATE_VM = 0xAE01


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``fix`` is what a person can do about it; empty when all is well or nothing helps."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True
    """Whether labs cannot be without it."""
    needed_for: str = ""
    """What it is for, where labs can be without it."""


async def examine() -> list[Finding]:
    """Try everything that limosa needs or can use, all at once; in under a second. Required findings come first."""
    checks: list[Callable[[], Awaitable[Finding]]] = [
        _python, _static_compiler, _user_namespaces, _bridge, _tap, _shaping, _delay, _kvm, _userfaultfd,
        _disk, _memory, _uefi, _nfs, _containers, _browser,
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
    path, needed_for = find(requirement.program), purpose(requirement.program)
    if requirement.program == "newuidmap" and os.geteuid() == 0:
        needed_for += " by an ordinary user"
    detail = path or f"missing; {requirement.why}"
    fix = "" if path else _install(requirement.packages)
    return Finding(requirement.program, path is not None, detail, fix, not needed_for, needed_for)


def _install(packages: Sequence[str]) -> str:
    """The line that installs packages of Debian and Ubuntu."""
    if find("apt-get") is None:
        return "install it with this system's own tools"
    return install_line(packages, root=os.geteuid() == 0)


async def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python 3.11 or newer", sys.version_info >= (3, 11), f"{version} at {sys.executable}")


async def _static_compiler() -> Finding:
    requirement = REQUIREMENTS["gcc"]
    lacks = bool(await missing(["gcc"]))
    fix = _install(requirement.packages) if lacks else ""
    detail = f"cannot link a static program; {requirement.why}" if lacks else "compiles and links a static program"
    needed_for = purpose("gcc")
    return Finding("gcc", not lacks, detail, fix, not needed_for, needed_for)


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
    needed_for = "labs of an ordinary user" if root else ""
    done = await process.run(["unshare", "--user", "--map-root-user", "true"], check=False)
    if done.returncode == 0:
        return Finding(name, True, "made one", "", not root, needed_for)
    said = done.stderr.decode(errors="replace").strip()
    return Finding(name, False, said, remedies.namespaces_fix(), not root, needed_for)


async def _bridge() -> Finding:
    script = "ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link set v0 master br0"
    said = await _in_namespaces(script, "--net")
    fix = remedies.module_fix(said, "bridge veth") if said else ""
    return Finding("bridge and veth", not said, said or "made in a network namespace", fix)


async def _tap() -> Finding:
    said = await _in_namespaces("ip tuntap add dev tap0 mode tap", "--net")
    fix = remedies.tun_fix() if said else ""
    return Finding("TAP by /dev/net/tun", not said, said or "made in a network namespace", fix)


async def _shaping() -> Finding:
    script = "ip link add v0 type veth peer name v1; tc qdisc add dev v0 root tbf rate 1gbit burst 1mb latency 50ms"
    said = await _in_namespaces(script, "--net")
    fix = remedies.module_fix(said, "sch_tbf") if said else ""
    detail = said or "shaped a link in a network namespace"
    return Finding("link rate (tbf)", not said, detail, fix, False, "networks with a rate")


async def _delay() -> Finding:
    script = "ip link add v0 type veth peer name v1; tc qdisc add dev v0 root netem delay 1ms"
    said = await _in_namespaces(script, "--net")
    fix = remedies.module_fix(said, "sch_netem") if said else ""
    detail = said or "delayed a link in a network namespace"
    return Finding("link delay (netem)", not said, detail, fix, False, "networks with a delay")


async def _kvm() -> Finding:
    ok, detail, fix = False, "", ""
    try:
        device = os.open(remedies.KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        said = await process.run(["sh", "-c", remedies.ASK, "sh", remedies.KVM], check=False)
        seen = remedies.device(remedies.KVM, said.stdout.decode(errors="replace"))
        if error.errno in (errno.ENODEV, errno.ENXIO):  # a file without a driver behind it
            seen = replace(seen, there=False, container=False)
        detail, fix = f"{remedies.KVM}: {error.strerror}", remedies.kvm_fix(seen)
    else:
        try:
            os.close(fcntl.ioctl(device, KVM_CREATE_VM, 0))
            ok, detail, fix = _proved_kvm()
        except OSError as error:
            detail, fix = f"{remedies.KVM} opens but makes no VM: {error.strerror}", remedies.busy_kvm_fix(error.errno)
        finally:
            os.close(device)
    return Finding("KVM", ok, detail, fix, False, FULL_SPEED)


class _Accel(msgspec.Struct):
    """What ``limosa.accel`` keeps of a proof, as far as it matters here."""

    kind: str
    reason: str
    proved_at_s: float = 0.0


def _proved_kvm() -> tuple[bool, str, str]:
    """Whether a KVM that makes a VM runs a guest, what is known of that, and the fix: by the guests that were started
    since this boot, one that failed before one that ran. A proof takes seconds, so none is made here."""
    booted_s = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    answers = (remembered.read(file, _Accel) for file in (paths.cache() / "accel").glob("*.json"))
    proofs = [answer for answer in answers if answer is not None and answer.proved_at_s > booted_s]
    proofs.sort(key=lambda proof: (proof.kind == "tcg", proof.proved_at_s))
    if not proofs:
        return True, "makes a VM; whether Linux gets anywhere in it is proved at a guest's start", ""
    ran = proofs[-1].kind == "kvm"
    return ran, proofs[-1].reason, "" if ran else remedies.NESTED


async def _userfaultfd() -> Finding:
    name, needed_for = "userfaultfd", "post-copy"
    said = userfaultfd.by_call()
    if not said:
        return Finding(name, True, "the system call is permitted", "", False, needed_for)
    if userfaultfd.by_device():
        fix = remedies.kernel_line("sysctl -w vm.unprivileged_userfaultfd=1")
        return Finding(name, False, said, fix, False, needed_for)
    return Finding(name, True, "by /dev/userfaultfd, which QEMU 8.1 and newer use", "", False, needed_for)


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
    needed = f"{MEMORY_NEEDED_BYTES / GIB:.1f} GiB are needed for the demo"
    fix = "" if enough else f"{needed}: end something, or use smaller guests"
    return Finding("memory", enough, f"{available / GIB:.1f} GiB available", fix, False, "the demo and guests as large")


async def _uefi() -> Finding:
    described = sorted(file for folder in UEFI_FOLDERS for file in Path(folder).glob("*.json"))
    found = next((str(file) for file in described if b'"uefi"' in file.read_bytes()), "")
    detail = found or "missing; OVMF starts such guests"
    fix = "" if found else _install(("ovmf",))
    return Finding("UEFI", bool(found), detail, fix, False, "guests with firmware: uefi")


async def _nfs() -> Finding:
    """The client is the kernel's; the server too, or an ordinary process. All of it is for root only."""
    name, needed_for = "NFS", "storage of the kind nfs"
    types = Path("/proc/filesystems").read_text().split()
    modprobe = find("modprobe")
    if "nfs4" not in types and not (
        modprobe and (await process.run([modprobe, "-n", "nfsv4"], check=False)).returncode == 0
    ):
        fix = "take a kernel with NFS (CONFIG_NFS_V4), or a directory that the hosts share in another way"
        return Finding(name, False, "this kernel cannot mount it", fix, False, needed_for)
    kernels, ganesha = find("exportfs") and find("rpc.nfsd"), find("ganesha.nfsd")
    if not (kernels or ganesha):
        fix = _install(("nfs-ganesha", "nfs-ganesha-vfs"))
        return Finding(name, False, "this kernel mounts it, but there is no server", fix, False, needed_for)
    if os.geteuid():
        return Finding(name, False, "only root may serve and mount it", "run limosa as root", False, needed_for)
    return Finding(name, True, f"this kernel mounts it, {kernels or ganesha} serves it", "", False, needed_for)


async def _containers() -> Finding:
    found = next((path for name in ("incus", "lxc") if (path := find(name))), "")
    how = f"install Incus (Debian 13, Ubuntu 24.04) or LXD (Debian 12); see {paths.document('hosts.md')}"
    fix = "" if found else how
    return Finding("Incus or LXD", bool(found), found or "missing", fix, False, "hosts that are containers")


async def _browser() -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := find(name))), "")
    fix = "" if path else _install(("chromium",))
    return Finding("Chromium", bool(path), path or "missing", fix, False, "the homework's PDF")
