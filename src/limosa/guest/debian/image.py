"""``limosa image build debian``: what may be chosen, what it takes, and the image in the library."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limosa import requirements
from limosa.errors import MachineError, SpecError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.agent import executable
from limosa.guest.debian import additions
from limosa.guest.debian.bootstrap import System, assemble, new_uuid
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
    work, root_uuid = directory / "work", new_uuid()
    (work / "overlay").mkdir(parents=True)
    work.chmod(0o755)
    with events.stage("compile agent"):
        await executable.build(work / executable.PROGRAM, events)
    public_key = make_key(directory / "user_key", "limosa-image")
    additions.write(work / "overlay", root_uuid=root_uuid, authorized_key=public_key, agent=work / executable.PROGRAM)
    system = System(
        suite=choice.suite,
        sources=tuple(sources(choice)),
        packages=(*PACKAGES, *choice.packages),
        units=additions.UNITS,
        size_bytes=choice.size_bytes,
        root_uuid=root_uuid,
    )
    versions = await assemble(system, work, directory / "disk.raw", events)
    return {
        "distribution": f"debian {choice.suite}",
        "from": sources(choice),
        "root_uuid": root_uuid,
        "kernel_arguments": additions.KERNEL_ARGUMENTS,
        "packages": versions,
    }
