"""The guest's root disk: a raw ext4 file system, filled without loop devices and without root."""

from __future__ import annotations

import os
from pathlib import Path

from limosa.errors import CommandError, MachineError
from limosa.guest.micro import packages

SIZE_BYTES = 512 * 1024 * 1024
"""Most of it is a hole in the file: the programs take about 70 MB, the rest is the guest's."""

_OPTIONS = (
    "-q",
    *("-t", "ext4", "-L", "limosa", "-m", "0", "-N", "16384", "-J", "size=16"),
    # Initialised now, so that no kernel thread writes to the disk while something is measured.
    *("-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"),
)


async def make(root: Path, disk: Path) -> None:
    """Write *root* as the file *disk*, every file owned by root. MachineError when there is no space."""
    with disk.open("xb") as file:
        file.truncate(SIZE_BYTES)
    try:
        await packages.run_bound(["mke2fs", *_OPTIONS, "-d", str(root), str(disk)])
        if os.geteuid() != 0:
            await _give_to_root(root, disk)
    except CommandError as error:
        if "No space" in error.stderr or "no space" in error.stderr:
            raise MachineError("no space left for the guest's disk", hint="free some disk space") from error
        raise


async def _give_to_root(root: Path, disk: Path) -> None:
    """Set the owner of every file to root: ``mke2fs -d`` records the user who runs it."""
    names = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    lines = [f'set_inode_field "/{name}" {field} 0' for name in names for field in ("uid", "gid")]
    commands = disk.with_suffix(".debugfs")
    commands.write_text("\n".join(lines) + "\n")
    # From its folder, as debugfs takes what follows a ? in a path for options.
    done = await packages.run_bound(
        ["env", f"--chdir={disk.parent.resolve()}", "debugfs", "-w", "-f", commands.name, disk.name]
    )
    commands.unlink()
    complaints = [line for line in done.stderr.decode(errors="replace").splitlines()[1:] if line.strip()]
    if complaints:
        raise MachineError(f"debugfs could not give the files to root: {complaints[0]}", hint="check e2fsprogs")
