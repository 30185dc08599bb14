"""A guest's root disk on its storage, whatever its image is: what it starts from, and one that lies there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from limosa.spec import resolved
from limosa.storage import disk_file
from limosa.storage.disk_file import Claim
from limosa.storage.shelf import Shelf


def source_claim(guest: resolved.Guest) -> Claim:
    """What was said of the file that the disk of *guest* starts from.

    ``format`` is the disk's: a raw file becomes a qcow2 disk, but a qcow2 file is never taken for raw.
    """
    assert guest.disk is not None
    said = Claim(path=Path(guest.disk.source), format=guest.disk.format, key=f"guests.{guest.name}.disk.source")
    if said.format == "qcow2" and disk_file.is_raw(said):
        return dataclasses.replace(said, format="raw")
    return said


async def place_whole(shelf: Shelf, said: Claim, name: str, form: resolved.DiskFormat) -> None:
    """Put a copy of the disk of *said* onto the storage, in the format *form*."""
    await (shelf.copy(said.path, name, said) if form == said.format else shelf.convert(said, name, form))


async def check_kept(
    shelf: Shelf, name: str, form: resolved.DiskFormat, base: str = "", base_format: resolved.DiskFormat = "raw"
) -> None:
    """A disk that lies on the storage is the guest's, but others may write there: it still has to be whole by itself.

    In a raw one may be anything, as its guest wrote it: nobody follows that.
    """
    if base:
        await check_kept(shelf, base, base_format)
    head = await shelf.head(name)
    if form == "qcow2":
        Claim(path=Path(name), format=form, base=base).check(head)
