"""Puts a Debian together on a disk: mmdebstrap in namespaces of its own, then the boot loaders.

It works in a directory that its caller makes and takes away; killed, it leaves no process, no mount and nothing large.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from limosa import process, tasks
from limosa.errors import CommandError, LimosaError, MachineError, SpecError
from limosa.events import Events
from limosa.guest.debian import disk as disks

_TMPFS = "2g"
_STEP = re.compile(r"^I: (.*?)\.*$")
_UNTOLD = ("success", "chroot arch", "automatically", "finding", "running --", "cleaning")
"""What mmdebstrap says that is no step to a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What is put together."""

    suite: str
    sources: tuple[str, ...]
    """The lines of sources.list."""
    packages: tuple[str, ...]
    """Beside what every Debian has; a kernel, grub2-common, grub-pc-bin and grub-efi-amd64-bin have to be in them."""
    units: tuple[str, ...]
    """What systemd starts beside what the packages have it start."""
    size_bytes: int
    root_uuid: str
    """Of its file system; the files that boot it name it."""


def new_uuid() -> str:
    """A ``root_uuid``."""
    return str(uuid.uuid4())


async def assemble(system: System, work: Path, disk: Path, events: Events) -> dict[str, str]:
    """Make the new file *disk*; returns the packages in it and their versions.

    *work* is a directory that holds ``overlay``, the files that are copied over the installed system (``additions``);
    it is gone afterwards. Raises SpecError, MachineError or LimosaError for what Debian's tools complain of.
    """
    layout = disks.Layout(system.size_bytes)
    await disks.partition(disk, layout)
    await _bootstrap(argv(system, work, disk), events)
    with events.stage("make the disk bootable"):
        await disks.make_bootable(disk, work / "boot.img", work / "core.img", work / "bootx64.efi")
    versions = dict(line.split() for line in (work / "packages").read_text().splitlines())
    await asyncio.to_thread(shutil.rmtree, work)
    return versions


def argv(system: System, work: Path, disk: Path) -> list[str]:
    """The command that puts the system together: killed with this process, in namespaces that end with it."""
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    skip = ""
    if os.geteuid() != 0:
        namespaces += ["--user", "--map-root-user", "--map-auto"]
        skip = "check/qemu"
    places = [str(disks.ROOT_START_BYTES), str(disks.Layout(system.size_bytes).root_blocks), system.root_uuid, skip]
    what = [system.suite, ",".join(system.packages), " ".join(system.units), _TMPFS, *places, *system.sources]
    script = str(Path(__file__).parent / "bootstrap.sh")
    return ["setpriv", "--pdeathsig", "KILL", *namespaces, "/bin/sh", script, str(work), str(disk), *what]


async def _bootstrap(command: list[str], events: Events) -> None:
    """Run *command*; each of its steps is a stage."""
    proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    child = await process.start(command, env={"LC_ALL": "C.UTF-8", **proxies})
    assert child.stdin is not None
    child.stdin.close()
    try:
        said = await _hear(child, events)
        status = await child.wait()
    finally:
        await process.stop(child)
    if status != 0:
        raise failure(CommandError(command, status, "\n".join(said)))


async def _hear(child: asyncio.subprocess.Process, events: Events) -> list[str]:
    """Turn what the bootstrap says into stages, to its end; the last lines of it."""
    assert child.stderr is not None and child.stdout is not None
    said: list[str] = []
    async with tasks.beside(_drain(child.stdout)) as (draining,):
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
