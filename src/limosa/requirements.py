"""The programs that limosa needs from the system, the packages that bring them, and their installation by apt-get."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from limosa import process
from limosa.architecture import X86_64
from limosa.errors import MachineError
from limosa.events import Events

LISTS = Path("/var/lib/apt/lists")
"""Where apt keeps what it knows of packages that are not installed."""

_STATIC_PROGRAM = b"int main(void) { return 0; }\n"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A program that limosa runs: why, and the Debian and Ubuntu packages that bring it."""

    program: str
    why: str
    packages: tuple[str, ...]


REQUIREMENTS: dict[str, Requirement] = {
    r.program: r
    for r in (
        Requirement(X86_64.qemu, "runs the guests", (X86_64.qemu_package,)),
        Requirement("qemu-img", "makes and checks qcow2 disks", ("qemu-utils",)),
        Requirement("ip", "makes bridges, TAPs and links", ("iproute2",)),
        Requirement("tc", "shapes links", ("iproute2",)),
        Requirement("unshare", "makes hosts from namespaces", ("util-linux",)),
        Requirement("nsenter", "runs commands on hosts", ("util-linux",)),
        Requirement("mount", "gives each host its own view of files", ("mount",)),
        Requirement("setpriv", "ends what builds an image together with its builder", ("util-linux",)),
        Requirement("mke2fs", "makes the guest's root disk without root", ("e2fsprogs",)),
        Requirement("debugfs", "gives that disk's files to the guest's root", ("e2fsprogs",)),
        Requirement("ssh", "logs in to guests", ("openssh-client",)),
        Requirement("ssh-keygen", "makes the lab's own key", ("openssh-client",)),
        Requirement("gcc", "builds the agent that measures inside the guest", ("gcc", "libc6-dev")),
        Requirement("apt-get", "fetches the packages that the micro image is made from", ("apt",)),
        Requirement("dpkg-deb", "unpacks them, without installing", ("dpkg",)),
        Requirement("zstd", "packs the micro image", ("zstd",)),
        Requirement("mmdebstrap", "puts a whole Debian together", ("mmdebstrap",)),
        Requirement(
            "/usr/share/keyrings/debian-archive-keyring.gpg", "vouches for its packages", ("debian-archive-keyring",)
        ),
        Requirement("newuidmap", "gives a user the ids that its files belong to", ("uidmap",)),
        Requirement("sfdisk", "writes its disk's partition table", ("fdisk",)),
        Requirement("mkfs.vfat", "makes the partition that UEFI starts from", ("dosfstools",)),
        Requirement("mmd", "makes folders there without mounting it", ("mtools",)),
        Requirement("mcopy", "writes the boot loader there", ("mtools",)),
    )
}
"""By the program's name. Who calls a new program adds it here."""

LAB = (X86_64.qemu, "ip", "tc", "unshare", "nsenter", "mount", "ssh", "ssh-keygen")
"""What running a lab takes."""
IMAGE = ("mke2fs", "debugfs", "setpriv", "gcc", "apt-get", "dpkg-deb", "zstd")
"""What building the guests takes."""
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = (
    *("mmdebstrap", DEBIAN_KEYRING, "unshare", "setpriv", "sfdisk", "mke2fs", "mkfs.vfat", "mmd", "mcopy", "gcc"),
    "newuidmap",
)
"""What ``image build debian`` takes; the last only for who is not root."""
OPTIONAL = ("qemu-img",)
DEMO = LAB + IMAGE

IMAGE_PURPOSE = "the images micro and bare"
PURPOSES = (
    ("", LAB),
    (IMAGE_PURPOSE, IMAGE),
    ("limosa image build debian", DEBIAN),
    ("guests with qcow2 disks", OPTIONAL),
)
"""What programs are for, the first line that names one; empty: no lab can be without."""


def purpose(program: str) -> str:
    """What a program of REQUIREMENTS is needed for; empty when no lab can be without it."""
    return next(words for words, programs in PURPOSES if program in programs)


def find(program: str) -> str | None:
    """The path of a program on the PATH that children get (system folders included), or None.

    A requirement may also be a file, named by its whole path.
    """
    if program.startswith("/"):
        return program if os.path.isfile(program) else None  # noqa: PTH113
    return shutil.which(program, path=process.base_environment()["PATH"])


async def missing(needed: Iterable[str] = DEMO) -> list[Requirement]:
    """Those of the named programs that this machine lacks. A compiler that cannot link statically is missing.

    Raises KeyError for a name that REQUIREMENTS does not have.
    """
    wanted = [REQUIREMENTS[name] for name in dict.fromkeys(needed)]
    absent = [r for r in wanted if find(r.program) is None]
    compiler = REQUIREMENTS["gcc"]
    if compiler in wanted and compiler not in absent and not await _links_statically():
        absent.append(compiler)
    return absent


async def _links_statically() -> bool:
    argv = ["gcc", "-static", "-x", "c", "-", "-o", "/dev/null"]
    return (await process.run(argv, stdin=_STATIC_PROGRAM, check=False)).returncode == 0


def packages(requirements: Iterable[Requirement]) -> tuple[str, ...]:
    """The packages that bring them, each once, sorted."""
    return tuple(sorted({package for r in requirements for package in r.packages}))


def install_argv(names: Sequence[str], *, root: bool) -> list[str]:
    """The command line that installs packages; ``root`` is whether it is run as root already."""
    prefix = [] if root else ["sudo"]
    return [*prefix, "apt-get", "install", "-y", "--no-install-recommends", *names]


def install_line(names: Sequence[str], *, root: bool) -> str:
    """The same for a person to type. A fresh machine has no package lists, so they are fetched first there."""
    argv = install_argv(names, root=root)
    before = [] if has_lists() else [_update_argv(argv)]
    return " && ".join(" ".join(each) for each in (*before, argv))


def has_lists() -> bool:
    """Whether apt has lists of packages; a container's image often comes without."""
    return any(LISTS.glob("*_Packages*"))


def _update_argv(install: Sequence[str]) -> list[str]:
    return [*install[: install.index("apt-get")], "apt-get", "update"]


async def install(
    requirements: Sequence[Requirement],
    events: Events,
    *,
    no_install: bool = False,
    may_ask: bool | None = None,
) -> None:
    """Install what is missing through apt-get, after saying what and why; nothing happens for an empty list.

    As root, else through sudo, which may ask for a password on the terminal (``may_ask``; None: when there is one).
    Raises MachineError: with ``no_install`` (the hint is the exact line), without apt-get or a usable sudo,
    and when apt-get failed.
    """
    if not requirements:
        return
    root = os.geteuid() == 0
    argv, line = install_argv(packages(requirements), root=root), install_line(packages(requirements), root=root)
    reasons = "; ".join(f"{r.program}, which {r.why}" for r in requirements)
    if find("apt-get") is None:
        names = ", ".join(r.program for r in requirements)
        hint = f"this is no Debian or Ubuntu, so install the programs with the system's own tools: {names}"
        raise MachineError(f"this machine lacks {reasons}", hint=hint)
    if no_install:
        raise MachineError(f"this machine lacks {reasons}", hint=f"run: {line}")
    terminal = os.isatty(0) and os.isatty(2) if may_ask is None else may_ask
    silent = root or await _sudo_is_silent()
    if not silent and not (terminal and find("sudo")):
        hint = f"run as root: {line.replace('sudo ', '')}"
        raise MachineError(f"this machine lacks {reasons}, and sudo cannot be used here", hint=hint)
    events.note(f"this machine lacks {reasons}. Installing: {line}")
    with events.stage("install packages"):
        await _install(argv, asks=not silent, line=line)
    still = await missing(r.program for r in requirements if r.program in REQUIREMENTS)
    if still:
        names = ", ".join(r.program for r in still)
        raise MachineError(f"apt-get succeeded, but {names} is still missing", hint=f"look at: {line}")


async def _sudo_is_silent() -> bool:
    return find("sudo") is not None and (await process.run(["sudo", "-n", "true"], check=False)).returncode == 0


async def _install(argv: Sequence[str], *, asks: bool, line: str) -> None:
    """Run apt-get; where it has no lists, or fails with those that it has, they are brought up to date before."""
    update, no_lists = _update_argv(argv), ""
    for command in (argv, update, argv) if has_lists() else (update, argv):
        status, last = await _run_apt(command, asks=asks)
        if status == 0 and command is argv:
            return
        if command is update:
            no_lists = last if status else ""
    what = "fetch its lists of packages" if no_lists else "install the packages"
    raise MachineError(f"apt-get could not {what}: {no_lists or last}", hint=f"to see it again: {line}")


async def _run_apt(argv: Sequence[str], *, asks: bool) -> tuple[int, str]:
    """The exit status and the last line of complaint. sudo asks only on the terminal that started us, so a command
    that asks keeps it: the one process here that does not go through the process door."""
    if asks:
        child = await asyncio.create_subprocess_exec(*argv, env=process.base_environment(), stdout=sys.stderr)
        try:
            return await child.wait(), "its own words are above"
        except BaseException:
            await child.wait()  # apt-get had the same Ctrl-C; never leave dpkg half-way
            raise
    proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    done = await process.run(argv, env={"DEBIAN_FRONTEND": "noninteractive", **proxies}, check=False)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return done.returncode, said[-1] if said else "it said nothing"
