"""The guest ``micro``: the distribution's own kernel and a few of its programs, built here without root.

``digest`` names what an image would be made of; ``build`` makes one. ``seed`` is what belongs to one guest.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limosa import process
from limosa.errors import MachineError
from limosa.events import Events
from limosa.guest.agent import executable
from limosa.guest.image_folder import in_thread

KERNEL_ARGUMENTS = (
    "console=ttyS0 root=/dev/vda rw quiet panic=1 mitigations=off no_timer_check tsc=reliable nokaslr"
    " cryptomgr.notests random.trust_cpu=on audit=0 apparmor=0 net.ifnames=0"
)
"""Each is explained in docs/guest-micro.md."""

SPACE_BYTES = 700 * 1024 * 1024
"""What a build needs while it is under way."""

_NEEDED = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "setpriv": "util-linux",
}
_OS_RELEASE = Path("/etc/os-release")


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made in its directory: file names, the kernel's command line, where it all came from."""

    kernel: str
    initrd: str
    disk: str
    kernel_arguments: str
    provenance: dict[str, Any]


def digest(agent: Path | None) -> str:
    """16 hexadecimal digits over what decides an image: our recipe, the distribution, the agent.

    Takes a few milliseconds. The versions of packages are not part of it, since only apt knows them;
    they are in the image's provenance.
    """
    total = hashlib.sha256(_OS_RELEASE.read_bytes())
    for part in sorted(Path(__file__).parent.glob("*.[ps][yh]")):
        if part.name not in ("seed.py", "provision.py"):
            total.update(part.name.encode() + b"\0" + part.read_bytes())
    total.update(b"agent\0" + (agent.read_bytes() if agent is not None else executable.source_digest().encode()))
    return total.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Contents:
    """What an image is made of beside what all have."""

    generic_kernel: bool
    tools: tuple[str, ...]
    programs: tuple[str, ...]
    modules: tuple[str, ...]


async def build(directory: Path, events: Events, agent: Path | None) -> Built:
    """The image ``micro``; see ``make``."""
    from limosa.guest.micro import kernel, packages, tree

    return await make(directory, events, agent, Contents(False, packages.TOOLS, tree.PROGRAMS, kernel.MODULES))


async def make(directory: Path, events: Events, agent: Path | None, contents: Contents) -> Built:
    """Make ``kernel``, ``initrd`` and ``disk.raw`` in the existing *directory*; return what they are.

    Raises MachineError when the machine lacks a program, the network or the space.
    """
    from limosa.guest.micro import disk, initramfs, kernel, packages, tree, vmlinux

    check_machine(directory)
    durations_s: dict[str, float] = {}
    system = packages.distribution(_OS_RELEASE.read_text())
    work = directory / "work"
    work.mkdir()
    if agent is None:
        agent = work / executable.PROGRAM
        with _timed(events, durations_s, "compile agent"):
            await executable.build(agent, events)
    agent_sha256 = hashlib.sha256(agent.read_bytes()).hexdigest()
    with _timed(events, durations_s, "fetch packages"):
        kernel_package = system.generic_kernel_package if contents.generic_kernel else system.kernel_package
        wanted = [kernel_package, *contents.tools, *packages.BUILD_TOOLS]
        chosen = await packages.Apt(work / "apt").fetch(wanted, work / "archives", events)
    with _timed(events, durations_s, "unpack packages"):
        unpacked = work / "unpacked"
        await packages.unpack(sorted((work / "archives").glob("*.deb")), unpacked)
    with _timed(events, durations_s, "make kernel and initramfs"):
        found = kernel.find(unpacked)
        modules = await kernel.load_order(found, unpacked, contents.modules)
        busybox = tree.busybox(unpacked)
        if not await vmlinux.extract(found.file, directory / "kernel", unpacked):
            await in_thread(shutil.copyfile, found.file, directory / "kernel")
        (directory / "initrd").write_bytes(initramfs.make(busybox.read_bytes(), modules))
    with _timed(events, durations_s, "make disk"):
        root = work / "root"
        root.mkdir()
        applets = await _applets(busybox)
        await in_thread(tree.make, unpacked, root, agent, applets, contents.programs)
        await disk.make(root, directory / "disk.raw")
    await in_thread(shutil.rmtree, work)
    return Built(
        "kernel",
        "initrd",
        "disk.raw",
        KERNEL_ARGUMENTS,
        {
            "distribution": f"{system.name} {system.version}".strip(),
            "agent_sha256": agent_sha256,
            "kernel_release": found.release,
            "modules": [module.name for module in modules],
            "packages": {package.name: package.version for package in chosen},
            "stages_s": durations_s,
        },
    )


def check_machine(directory: Path) -> None:
    """Raise MachineError unless the programs and the disk space for a build are there."""
    path = process.base_environment()["PATH"]
    missing = sorted({package for tool, package in _NEEDED.items() if shutil.which(tool, path=path) is None})
    if missing:
        raise MachineError(
            f"building the guest image needs {', '.join(missing)}",
            hint=f"apt-get install {' '.join(missing)}",
        )
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < SPACE_BYTES:
        raise MachineError(
            f"building the guest image needs {SPACE_BYTES // 2**20} MiB,"
            f" and there are {free_bytes // 2**20} in {directory}",
            hint="free some disk space, or set XDG_CACHE_HOME to a larger disk",
        )


@contextmanager
def _timed(events: Events, durations_s: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    with events.stage(stage):
        yield
    durations_s[stage] = round(time.monotonic() - started, 3)


async def _applets(busybox: Path) -> list[str]:
    """What the busybox can do. MachineError when it lacks what the guest's own scripts need."""
    from limosa.guest.micro import tree

    applets = (await process.run([str(busybox), "--list"])).text.split()
    missing = sorted(set(tree.APPLETS) - set(applets))
    if missing:
        raise MachineError(
            f"this distribution's busybox-static lacks {', '.join(missing)}",
            hint="report which distribution this is",
        )
    return applets
