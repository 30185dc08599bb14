"""What of a disk with a system of its own goes onto the storage.

Of an image that is qcow2 the storage holds one base, which all its guests share, and an overlay for each guest; of
another each guest has a copy. A disk that is there is kept: it is the guest's, with all that it has written.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from limosa import temporary
from limosa.errors import MachineError
from limosa.guest.library import Entry
from limosa.guest.own_disk.origin import claim
from limosa.guest.root_disk import check_kept, place_whole
from limosa.qemu.firmware import uefi
from limosa.spec import resolved
from limosa.storage import disk_file
from limosa.storage.disk_file import Claim
from limosa.storage.shelf import Shelf
from limosa.units import format_bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """What was placed, by its names on the storage; empty: not there."""

    disk: str
    format: resolved.DiskFormat
    base: str = ""
    base_format: resolved.DiskFormat = "raw"
    kernel: str = ""
    initrd: str = ""
    seed: str = ""
    firmware_code: str = ""
    firmware_vars: str = ""
    user: str = ""
    """Who logs in by SSH; empty: nobody."""
    own_keys: bool = False
    """Whether its SSH keys are its own, and not the lab's."""


async def place(shelf: Shelf, guest: resolved.Guest, entry: Entry) -> Files:
    """Put the disk and what it starts with onto the storage. Raises MachineError or SpecError."""
    files = await _place_disk(shelf, guest, entry)
    names = {}
    for part, source in (("kernel", entry.kernel), ("initrd", entry.initrd)):
        if source:
            names[part] = f"{guest.name}.{part}"
            await shelf.link(entry.path(source), names[part])
    if entry.firmware == "uefi":
        firmware = uefi()
        names["firmware_code"] = f"uefi-{_digest(firmware.code)[:12]}.fd"
        names["firmware_vars"] = f"{guest.name}.uefi-vars.fd"
        if not await shelf.has(names["firmware_code"]):
            await shelf.copy(firmware.code, names["firmware_code"])
        if not await shelf.has(names["firmware_vars"]):
            await shelf.copy(firmware.variables, names["firmware_vars"])
    return dataclasses.replace(
        files,
        kernel=names.get("kernel", ""),
        initrd=names.get("initrd", ""),
        firmware_code=names.get("firmware_code", ""),
        firmware_vars=names.get("firmware_vars", ""),
    )


async def _place_disk(shelf: Shelf, guest: resolved.Guest, entry: Entry) -> Files:
    assert guest.disk is not None, "a disk that boots by itself is on a storage"
    overlay = entry.format == "qcow2" if guest.disk.overlay is None else guest.disk.overlay
    form: resolved.DiskFormat = "qcow2" if overlay else guest.disk.format
    said = claim(guest, entry)
    facts = disk_file.inspect(said)
    base = f"base-{_identity(entry, said.path)}.{entry.format}" if overlay else ""
    name = f"{guest.name}.{form}"
    if await shelf.has(name) and (not base or await shelf.has(base)):
        await check_kept(shelf, name, form, base, entry.format)
        return Files(name, form, base, entry.format)
    await _check_size(shelf, guest, facts)
    if not overlay:
        await place_whole(shelf, said, name, form)
        return Files(name, form)
    if not await shelf.has(base):
        # What the library has, nobody changes; a file of the user's may change tomorrow, so it is copied.
        await (shelf.link(said.path, base) if entry.name else shelf.copy(said.path, base, said))
    # Of the base as it lies there now, whatever the file was when it was looked at.
    facts = Claim(path=Path(base), format=entry.format).check(await shelf.head(base))
    with temporary.folder("overlay") as folder:
        made = folder / name
        await disk_file.overlay(base, facts, made)
        await shelf.copy(made, name)
    return Files(name, form, base, entry.format)


async def _check_size(shelf: Shelf, guest: resolved.Guest, facts: disk_file.DiskFacts) -> None:
    """Before anything is copied: could the storage ever hold it?"""
    total = await shelf.total_bytes()
    if facts.virtual_bytes > total:
        raise MachineError(
            f"the disk of guest {guest.name} is {format_bytes(facts.virtual_bytes)} large, and its storage holds "
            f"{format_bytes(total)} in all",
            hint="take another storage, or a smaller disk",
        )


def _identity(entry: Entry, source: Path) -> str:
    """What tells one base from another, cheaply: its checksum where it is known, else which file it is."""
    known = str(entry.provenance.get("sha256", ""))
    status = source.stat()
    return (known or hashlib.sha256(f"{source}\0{status.st_size}\0{status.st_mtime_ns}".encode()).hexdigest())[:12]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
