"""Which disk a guest boots that holds a system of its own: found in the library or described in the lab file."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec

from limosa.events import Events
from limosa.guest import library
from limosa.guest.library import Access, Entry
from limosa.spec import resolved
from limosa.storage import disk_file
from limosa.storage.disk_file import Claim


def claim(guest: resolved.Guest, entry: Entry) -> Claim:
    """What was said of the disk that *guest* boots."""
    image = guest.disk_image
    key = f"guests.{guest.name}.image" if image else ""
    return Claim(
        path=entry.disk_path, format=entry.format, key=key, sha256=image.sha256 if image and image.path else ""
    )


async def find(guest: resolved.Guest, events: Events) -> Entry:
    """The image of *guest*, fetched when it has to be. Raises SpecError for a name that no image has, LimosaError."""
    if guest.disk_image is None:
        entry = library.find(guest.image)
        if entry is None:
            raise library.unknown(guest.image)
        return entry
    image = guest.disk_image
    described = Entry(
        disk=image.path,
        format=image.format,
        firmware=image.firmware,
        seed=image.seed,
        access=Access(user=image.user, key=image.key),
        kernel=image.kernel,
        initrd=image.initrd,
        append=image.append,
        provenance={"name": Path(image.path or image.url).name, "sha256": image.sha256},
    )
    if image.url:
        kept = await _fetched(image, events)
        provenance = described.provenance | {"url": image.url, "entry": kept.name}
        return msgspec.structs.replace(described, disk=str(kept.disk_path), name=kept.name, provenance=provenance)
    return msgspec.structs.replace(described, provenance=described.provenance | {"path": image.path})


def kept_name(image: resolved.DiskImage) -> str:
    """How the library calls the disk behind a URL."""
    stem = re.sub(r"[^a-z0-9._-]+", "-", image.url.rpartition("/")[2].lower()).lstrip("._-")[:40] or "disk"
    return f"{stem}-{image.sha256[:12]}"


async def _fetched(image: resolved.DiskImage, events: Events) -> Entry:
    """The disk behind a URL, from the library, where it is an entry of its own."""
    from limosa.guest import download

    name = kept_name(image)
    if (entry := library.find(name)) is not None:
        return entry
    # Beside the library, so that a broken download goes on where it stopped.
    part = library.directory() / f".{name}.download"
    try:
        async with library.adding(name, events) as building:
            await download.fetch(image.url, part, events, sha256=image.sha256)
            disk = f"disk.{image.format}"
            disk_file.inspect(Claim(path=part, format=image.format))
            await asyncio.to_thread(part.rename, building.directory / disk)
            provenance = {"how": "fetched", "url": image.url, "sha256": image.sha256}
            building.entry = Entry(
                disk=disk, format=image.format, firmware=image.firmware, seed="nocloud", provenance=provenance
            )
    except library.ImageExists as there:
        return there.entry
    found = library.find(name)
    assert found is not None
    return found
