"""Distribution packages, fetched and unpacked but never installed, with no need to be root.

apt's own resolver says what belongs together, asked as if nothing were installed at all; then packages that
only matter to an installed system are left out. The machine's package state is read, never written.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from limosa import process
from limosa.errors import CommandError, LimosaError, MachineError
from limosa.events import Events

TOOLS = ("busybox-static", "dropbear-bin", "sysbench", "stress-ng", "iperf3")
"""The packages whose programs the guest has."""

DISK_TOOLS = ("fio",)
"""Only in the image with the general kernel: its libraries (Ceph, ICU, ...) are larger than all the rest."""

BUILD_TOOLS = ("zstd", "lz4")
"""Kernels and modules are compressed with these; they run from where they are unpacked."""

_KERNELS = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
"""The distribution's kernel for virtual machines: a package that depends on the current version."""

_GENERIC_KERNELS = {"debian": "linux-image-amd64", "ubuntu": "linux-image-generic"}
"""The distribution's general kernel, with drivers for real hardware and for what QEMU emulates of it."""

_KEPT = re.compile(r"lib.*|zlib.*|linux-(image|modules)-\d.*")
"""Of what the wanted packages depend on, these may be needed by a program;
the rest is for an installed system."""

_LEFT_OUT = re.compile(
    r"lib.*-(data|mesa.*|perl)|lib(clang|debconfclient|drm-|klibc|llvm|pam-|perl|semanage|sensors|sepol)[^/]*"
    r"|lib(systemd-shared|z3-).*"
)
"""Libraries that no program here loads, some are large. One left out by mistake shows in tree.libraries."""

_FAMILY_HINT = "the micro guest is built from the packages of Debian 12, Debian 13 or Ubuntu 24.04"
_PARALLEL = 2
_DOWNLOAD_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Distribution:
    """Which distribution this is; ``family`` is the one whose package names it uses."""

    family: str
    name: str
    version: str

    @property
    def kernel_package(self) -> str:
        """The package that depends on the newest kernel for virtual machines."""
        return _KERNELS[self.family]

    @property
    def generic_kernel_package(self) -> str:
        """The package that depends on the newest general kernel."""
        return _GENERIC_KERNELS[self.family]


@dataclass(frozen=True, slots=True)
class Package:
    """A package at the version that apt chose."""

    name: str
    version: str


def distribution(os_release: str) -> Distribution:
    """Which distribution the text of /etc/os-release speaks of. MachineError when it has no recipe here."""
    facts = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', os_release, re.MULTILINE))
    name = facts.get("ID", "unknown")
    version = facts.get("VERSION_ID") or facts.get("VERSION_CODENAME", "")
    for family in (name, *facts.get("ID_LIKE", "").split()):
        if family in _KERNELS:
            return Distribution(family, name, version)
    raise MachineError(f"the micro guest has no recipe for the distribution {name}", hint=_FAMILY_HINT)


def chosen(simulation: str, wanted: Sequence[str]) -> list[Package]:
    """The packages to fetch, from what ``apt-get --simulate install`` printed for the *wanted* ones."""
    lines = re.findall(r"^Inst (\S+) (?:\[\S*\] )?\((\S+) ", simulation, re.MULTILINE)
    packages = [Package(name.partition(":")[0], version) for name, version in lines]
    return [
        package
        for package in packages
        if package.name in wanted or (_KEPT.fullmatch(package.name) and not _LEFT_OUT.fullmatch(package.name))
    ]


class Apt:
    """apt with a state of its own in *directory*, so that nothing of the machine's is locked or written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._status = directory / "status"
        self._options: tuple[str, ...] = ()
        (directory / "cache/archives/partial").mkdir(parents=True)
        self._status.touch()

    async def fetch(self, wanted: Sequence[str], directory: Path, events: Events) -> list[Package]:
        """Fetch *wanted* and what they need into *directory*; apt checks signatures and sums.

        Raises MachineError when they cannot be had. Where the machine's own package lists are empty,
        unreadable or too old for the mirror, private ones are fetched.
        """
        directory.mkdir()
        try:
            return await self._fetch(wanted, directory)
        except CommandError:
            events.note("the package lists of this machine do not serve: fetching private ones")
        lists = self._directory / "lists"
        (lists / "partial").mkdir(parents=True)
        self._options = (f"Dir::State::lists={lists}", "Acquire::Languages=none")
        complaints = await self._update()
        try:
            return await self._fetch(wanted, directory)
        except CommandError as error:
            raise unobtainable(error, complaints) from error

    async def _update(self) -> str:
        """Fetch package lists; return what apt complained of: a list that nobody needs may be missing."""
        try:
            return (await self._apt("update")).stderr.decode(errors="replace")
        except CommandError as error:
            return error.stderr

    async def _fetch(self, wanted: Sequence[str], directory: Path) -> list[Package]:
        printed = await self._apt("--simulate", "--no-install-recommends", "install", *wanted)
        packages = chosen(printed.text, wanted)
        names = [f"{package.name}={package.version}" for package in packages]
        await self._apt("download", *names, cwd=directory)
        return packages

    async def _apt(self, *words: str, cwd: Path | None = None) -> process.Completed:
        options = (
            f"Dir::State::status={self._status}",
            f"Dir::Cache={self._directory / 'cache'}",
            "Dir::Cache::pkgcache=pkgcache.bin",
            "Dir::Cache::srcpkgcache=srcpkgcache.bin",
            # As the user _apt, a download into a directory that only its owner may enter would fail.
            f"APT::Sandbox::User={'root' if os.geteuid() == 0 else ''}",
            "Debug::NoLocking=1",
            "Acquire::Retries=2",
            *self._options,
        )
        argv = ["apt-get", "-q", *(part for option in options for part in ("-o", option)), *words]
        return await run_bound(argv, cwd=cwd, timeout_s=_DOWNLOAD_LIMIT_S)


async def unpack(archives: Sequence[Path], tree: Path) -> None:
    """Unpack *archives* into one *tree*; no script of theirs runs."""
    tree.mkdir()
    turn = asyncio.Semaphore(_PARALLEL)

    async def one(archive: Path) -> None:
        async with turn:
            await run_bound(["dpkg-deb", "-x", str(archive), str(tree)])

    try:
        async with asyncio.TaskGroup() as tasks:
            for archive in archives:
                tasks.create_task(one(archive))
    except ExceptionGroup as group:
        raise _first(group) from group


async def unpacked_tool(unpacked: Path, tool: str, *words: str, stdin: bytes) -> bytes:
    """What an unpacked program prints; it runs with the unpacked libraries, whatever the machine has."""
    loader = "ld-linux-x86-64.so.2"
    places = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
    found = next(unpacked / place / loader for place in places if (unpacked / place / loader).is_file())
    libraries = ":".join(str(unpacked / place) for place in places)
    argv = [str(found), "--library-path", libraries, str(unpacked / "usr/bin" / tool), *words]
    return (await run_bound(argv, stdin=stdin)).stdout


async def run_bound(
    argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float | None = None, stdin: bytes = b""
) -> process.Completed:
    """Run a local command that dies with this process, even when it is killed with SIGKILL."""
    bound = ["setpriv", "--pdeathsig", "KILL", *argv]
    return await process.run(bound, cwd=cwd, timeout_s=timeout_s, stdin=stdin, env={"LC_ALL": "C.UTF-8"})


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def unobtainable(error: CommandError, earlier: str = "") -> LimosaError:
    """The error for a person, from apt's complaints: *error*, and *earlier* ones about package lists."""
    said = f"{earlier}\n{error.stderr}"
    if "No space left" in said:
        return MachineError("no space left for the packages of the guest image", hint="free some disk space")
    unreachable = re.search(r"^[EW]: (Failed to fetch .*|.*Could not resolve.*|.*Temporary failure.*)$", said, re.M)
    missing = re.findall(r"Unable to locate package (\S+)|Package '(\S+)' has no", error.stderr)
    if missing and not unreachable:
        names = ", ".join(sorted({name or other for name, other in missing}))
        return MachineError(
            f"apt does not know {names}",
            hint="add the component main (on Ubuntu universe too) to apt's sources, then try again",
        )
    complaint = unreachable.group(1) if unreachable else str(error)
    return MachineError(
        f"the packages of the guest image could not be fetched: {complaint}",
        hint=f"check the network and apt's sources; to see it again: {error.replay}",
    )
