"""Builds the Debian disk: mmdebstrap in namespaces of its own, then the boot loaders. A killed build leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limosa import process, requirements
from limosa.errors import CommandError, LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.agent.build import PROGRAM
from limosa.guest.agent.build import build as build_agent
from limosa.guest.debian import disk as disks
from limosa.guest.debian import files
from limosa.guest.installer.login import make_key

PACKAGES = (
    *("systemd-sysv", "systemd-resolved", "dbus", "udev", "iproute2", "iputils-ping", "openssh-server"),
    *("linux-image-cloud-amd64", "initramfs-tools", "zstd"),
    *("grub2-common", "grub-pc-bin", "grub-efi-amd64-bin", "ca-certificates"),
    *("sysbench", "stress-ng", "iperf3", "procps", "less", "vim-tiny"),
)
"""In the image, beside what every Debian has."""

MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
SUITES = ("bookworm", "trixie")
"""Tried; others of Debian may work too."""

SMALLEST_BYTES = 1 << 30
SPACE_BYTES = 700 << 20
"""What the finished disk takes, with room to spare."""
MEMORY_BYTES = 1 << 30
"""What a build takes of memory at its height, with room to spare: the system is put together there."""
_TMPFS = "2g"
_STEP = re.compile(r"^I: (.*?)\.*$")
_UNTOLD = ("success", "chroot arch", "automatically", "finding", "running --", "cleaning")
"""What mmdebstrap says that is no step to a person."""
_SUBORDINATE = (Path("/etc/subuid"), Path("/etc/subgid"))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person may choose of an image."""

    suite: str = "bookworm"
    size_bytes: int = 2 << 30
    mirror: str = ""
    """Where packages come from; empty: Debian's own network, with its security updates."""
    packages: tuple[str, ...] = ()
    """More of them to install."""


def needed() -> tuple[str, ...]:
    """What this user needs of ``limosa.requirements``."""
    return tuple(name for name in requirements.DEBIAN if name != "newuidmap" or os.geteuid() != 0)


async def build(name: str, choice: Choice, events: Events) -> library.Entry:
    """Make the library's entry *name*; return it.

    Raises library.ImageExists when there is one, SpecError for a choice that cannot be, MachineError when this machine
    lacks something, LimosaError when Debian's tools fail.
    """
    check(name, choice)
    try:
        async with library.adding(name, events) as building:
            _check_machine(building.directory)
            with events.stage(f"build image {name}"):
                provenance = await _make(building.directory, choice, events)
            building.entry = library.Entry(
                disk="disk.raw", access=library.Access(key="user_key"), provenance={"how": "built", **provenance}
            )
    except library.ImageExists as there:
        return there.entry  # by the command that was waited for
    entry = library.find(name)
    assert entry is not None
    return entry


def sources(choice: Choice) -> list[str]:
    """The lines of sources.list."""
    if choice.mirror:
        return [f"deb {choice.mirror} {choice.suite} main"]
    return [
        f"deb {MIRROR} {choice.suite} main",
        f"deb {MIRROR} {choice.suite}-updates main",
        f"deb {SECURITY} {choice.suite}-security main",
    ]


def check(name: str, choice: Choice) -> None:
    """Raise SpecError, or library.ImageExists, for what cannot be built anyway."""
    library.check_name(name)
    if (there := library.find(name)) is not None:
        raise library.ImageExists(there)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", choice.suite):
        raise SpecError(f"{choice.suite!r} is no release of Debian", hint=f"for example {' or '.join(SUITES)}")
    if choice.size_bytes < SMALLEST_BYTES:
        raise SpecError("the disk is too small for Debian", hint="--size 1GiB is the least")
    if choice.mirror and not re.fullmatch(r"(https?|file|copy)://?\S+", choice.mirror):
        raise SpecError(f"{choice.mirror!r} is no mirror", hint=f"as in {MIRROR}")
    for package in choice.packages:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
            raise SpecError(f"{package!r} is no name of a package", hint="as in --package fio")


def _check_machine(directory: Path) -> None:
    """Raise MachineError unless there is room on the disk and in memory, and ids for a user who is not root."""
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < SPACE_BYTES:
        raise MachineError(
            f"building Debian takes {SPACE_BYTES >> 20} MiB, and there are {free_bytes >> 20} in {directory.parent}",
            hint="free some disk space, or set XDG_CACHE_HOME to a larger disk",
        )
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if found and int(found[1]) * 1024 < MEMORY_BYTES:
        raise MachineError(
            f"building Debian takes {MEMORY_BYTES >> 20} MiB of memory, and {int(found[1]) >> 10} are free",
            hint="end what uses it, guests for instance",
        )
    if os.geteuid() != 0:
        _check_user_ids()


def _check_user_ids() -> None:
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    for file in _SUBORDINATE:
        with contextlib.suppress(OSError):
            if any(line.split(":")[0] in (user, str(os.geteuid())) for line in file.read_text().splitlines()):
                continue
        raise MachineError(
            f"{file} gives the user {user} no range of ids, which the files of a whole system need",
            hint=f"run as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
        )


async def _make(directory: Path, choice: Choice, events: Events) -> dict[str, Any]:
    """Make disk.raw and user_key in *directory*; return what is worth knowing of where they came from."""
    work, disk = directory / "work", directory / "disk.raw"
    (work / "overlay").mkdir(parents=True)
    work.chmod(0o755)
    layout, root_uuid = disks.Layout(choice.size_bytes), str(uuid.uuid4())
    with events.stage("compile agent"):
        await build_agent(work / PROGRAM, events)
    public_key = make_key(directory / "user_key", "limosa-image")
    files.write(work / "overlay", root_uuid=root_uuid, authorized_key=public_key, agent=work / PROGRAM)
    await disks.partition(disk, layout)
    await _bootstrap(bootstrap_argv(work, disk, layout, root_uuid, choice), events)
    with events.stage("make the disk bootable"):
        await disks.make_bootable(disk, work / "boot.img", work / "core.img", work / "bootx64.efi")
    versions = dict(line.split() for line in (work / "packages").read_text().splitlines())
    await asyncio.to_thread(shutil.rmtree, work)
    return {
        "distribution": f"debian {choice.suite}",
        "from": sources(choice),
        "root_uuid": root_uuid,
        "kernel_arguments": files.KERNEL_ARGUMENTS,
        "packages": versions,
    }


def bootstrap_argv(work: Path, disk: Path, layout: disks.Layout, root_uuid: str, choice: Choice) -> list[str]:
    """The command that puts the system together: killed with this process, in namespaces that end with it."""
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    skip = ""
    if os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user", "--map-auto"]
        skip = "check/qemu"
    packages = ",".join([*PACKAGES, *choice.packages])
    places = [str(disks.ROOT_START_BYTES), str(layout.root_blocks), root_uuid, skip]
    script = str(Path(__file__).parent / "bootstrap.sh")
    words = ["/bin/sh", script, str(work), str(disk), choice.suite, packages, _TMPFS, *places, *sources(choice)]
    return ["setpriv", "--pdeathsig", "KILL", *namespaces, *words]


async def _bootstrap(argv: list[str], events: Events) -> None:
    """Run *argv*; each of its steps is a stage."""
    proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    child = await process.start(argv, env={"LC_ALL": "C.UTF-8", **proxies})
    assert child.stdin is not None
    child.stdin.close()
    try:
        said = await _hear(child, events)
        status = await child.wait()
    finally:
        await process.stop(child)
    if status != 0:
        raise failure(CommandError(argv, status, "\n".join(said)))


async def _hear(child: asyncio.subprocess.Process, events: Events) -> list[str]:
    """Turn what the bootstrap says into stages, to its end; the last lines of it."""
    assert child.stderr is not None and child.stdout is not None
    said: list[str] = []
    draining = asyncio.create_task(_drain(child.stdout))
    with contextlib.ExitStack() as stage:
        while line := (await child.stderr.readline()).decode(errors="replace").strip():
            said = [*said[-200:], line]
            if (step := _STEP.match(line)) and not step[1].startswith(_UNTOLD):
                stage.close()
                stage.enter_context(events.stage(step[1]))
    await draining
    return said


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def failure(error: CommandError) -> LimosaError:
    """The error for a person, from what mmdebstrap and its children said."""
    said = error.stderr
    if "No space left" in said or "Could not allocate block" in said:
        return MachineError(
            "there was not enough space to put Debian together",
            hint="a larger --size, more free memory, or more disk space",
        )
    if missing := re.search(r"Unable to locate package (\S+)|Package '(\S+)' has no", said):
        return SpecError(f"Debian has no package {missing[1] or missing[2]}", hint="look at --package and --suite")
    if fetching := re.search(r"^(?:[EW]: |Err:\d+ )(Failed to fetch .*|.*Could not resolve.*)$", said, re.MULTILINE):
        return MachineError(
            f"Debian's packages could not be fetched: {fetching[1]}", hint="check the network, --mirror and --suite"
        )
    if mapping := re.search(r"^(unshare|newuidmap|newgidmap): .*$", said, re.MULTILINE):
        return MachineError(
            f"this user cannot have a range of user ids: {mapping[0]}",
            hint="limosa doctor says whether user namespaces are permitted; the package uidmap brings newuidmap",
        )
    last = [line for line in said.splitlines() if line.startswith("E: ")]
    return LimosaError(f"Debian could not be put together: {last[0][3:] if last else error.message}", hint=error.hint)
