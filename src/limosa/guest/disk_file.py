"""Disk files: what one is by its own word, which has to be what was said of it, and overlays over it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from limosa import process
from limosa.errors import CommandError, MachineError, SpecError

Format = Literal["raw", "qcow2"]


class _Info(msgspec.Struct, rename="kebab"):
    """What we read of ``qemu-img info --output=json``."""

    format: str
    virtual_size: int
    backing_filename: str = ""
    format_specific: dict[str, object] = {}


class DiskFacts(msgspec.Struct, frozen=True):
    """What a disk file is."""

    format: Format
    virtual_bytes: int
    allocated_bytes: int
    """What it takes on its file system; holes count nothing."""


async def inspect(path: Path, claimed: Format) -> DiskFacts:
    """What *path* is. Raises SpecError when it is not of the *claimed* format, or reaches beyond itself.

    A qcow2 file can name other files as its base or for its data. In a file from elsewhere that would hand the guest
    whatever file of this machine somebody wrote into it, so it is refused.
    """
    try:
        done = await process.run(["qemu-img", "info", "--output=json", "--force-share", "--", str(path)])
        info = msgspec.json.decode(done.stdout, type=_Info)
    except MachineError as error:
        raise MachineError("qemu-img is not installed", hint="apt-get install qemu-utils") from error
    except CommandError as error:
        raise SpecError(f"{path} is not a disk that QEMU can read: {_last(error)}", hint="is it whole?") from error
    except msgspec.MsgspecError as error:
        raise MachineError(f"qemu-img's answer on {path} is not understood: {error}") from error
    if info.format != claimed:
        article = f"format: {info.format}" if info.format in ("raw", "qcow2") else "another disk"
        raise SpecError(
            f"{path} is said to be {claimed}, but it is {info.format}",
            hint=f"write `{article}`" if info.format in ("raw", "qcow2") else f"qemu-img convert -O qcow2 {path} NEW",
        )
    data = info.format_specific.get("data")
    outside = info.backing_filename or (data.get("data-file", "") if isinstance(data, dict) else "")
    if outside:
        raise SpecError(
            f"{path} is only a part: it needs {outside}, which is refused in a disk from elsewhere",
            hint=f"qemu-img convert -O qcow2 {path} NEW makes a whole one, if you trust it",
        )
    return DiskFacts(claimed, info.virtual_size, path.stat().st_blocks * 512)


async def overlay(base_name: str, base: DiskFacts, target: Path) -> None:
    """Make the qcow2 file *target* that holds what will differ from *base*, called *base_name* in the same folder."""
    # By its bare name, and unseen: the folder has another path on the hosts, and may not be on this machine at all.
    argv = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", base.format, "-b", base_name, "--", str(target)]
    await process.run([*argv, str(base.virtual_bytes)])


def _last(error: CommandError) -> str:
    lines = error.stderr.strip().splitlines()
    return lines[-1].removeprefix("qemu-img: ") if lines else "qemu-img said nothing"
