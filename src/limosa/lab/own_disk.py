"""Guests whose disk holds a system of its own: which disk that is, and what of it goes onto the storage.

Of an image that is qcow2 the storage holds one base, which all its guests share, and an overlay for each guest; of
another each guest has a copy. A disk that is there is kept: it is the guest's, with all that it has written.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from limosa.errors import MachineError, SpecError
from limosa.events import Events
from limosa.guest import library
from limosa.guest.library import Access, Entry
from limosa.paths import cannot_write
from limosa.qemu.argv import guest_uuid
from limosa.qemu.firmware import uefi
from limosa.spec import resolved
from limosa.storage import disk_file
from limosa.storage.disk_file import Claim
from limosa.storage.shelf import Shelf
from limosa.units import format_bytes

if TYPE_CHECKING:
    from limosa.guest.micro.seed import LabKeys


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


async def have(lab: resolved.Lab, events: Events) -> None:
    """Have the images of all guests, fetched where they have to be: before anything is made for them. As ``find``."""
    for guest in lab.guests.values():
        if guest.image_kind.boots_disk:
            await find(guest, events)


def claim(guest: resolved.Guest, entry: Entry) -> Claim:
    """What was said of the disk that *guest* boots."""
    image = guest.disk_image
    key = f"guests.{guest.name}.image" if image else ""
    return Claim(
        path=entry.disk_path, format=entry.format, key=key, sha256=image.sha256 if image and image.path else ""
    )


def source_claim(guest: resolved.Guest) -> Claim:
    """What was said of the file that the disk of *guest* starts from.

    ``format`` is the disk's: a raw file becomes a qcow2 disk, but a qcow2 file is never taken for raw.
    """
    assert guest.disk is not None
    said = Claim(path=Path(guest.disk.source), format=guest.disk.format, key=f"guests.{guest.name}.disk.source")
    if said.format == "qcow2" and disk_file.is_raw(said):
        return dataclasses.replace(said, format="raw")
    return said


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


async def _fetched(image: resolved.DiskImage, events: Events) -> Entry:
    """The disk behind a URL, from the library, where it is an entry of its own."""
    from limosa.guest import download

    stem = re.sub(r"[^a-z0-9._-]+", "-", image.url.rpartition("/")[2].lower()).lstrip("._-")[:40] or "disk"
    name = f"{stem}-{image.sha256[:12]}"
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
    with tempfile.TemporaryDirectory(prefix="limosa-") as folder:
        made = Path(folder) / name
        await disk_file.overlay(base, facts, made)
        await shelf.copy(made, name)
    return Files(name, form, base, entry.format)


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


async def place_seed(shelf: Shelf, lab: resolved.Lab, guest: resolved.Guest, keys: LabKeys, user: str) -> str:
    """Make the NoCloud disk of *guest*; returns its name on the storage."""
    from limosa.guest import nocloud

    if not guest.network:
        raise SpecError(f"guest {guest.name} has no network to be reached by", hint="add a network for guests")
    given = nocloud.Belongings(
        instance="",
        hostname=guest.name,
        user=user,
        authorized_key=keys.authorized_keys,
        host_key=keys.host_key.read_text(),
        host_key_public=keys.host_key.with_suffix(".pub").read_text().strip(),
        mac=guest.mac,
        address_cidr=f"{guest.address}/{lab.networks[guest.network].prefix_length}",
    )
    # cloud-init does its work again when the instance is another: here, when anything of it changed.
    digest = hashlib.sha256(repr(given).encode()).hexdigest()[:12]
    with tempfile.TemporaryDirectory(prefix="limosa-") as folder:
        made = Path(folder) / "seed.iso"
        instance = f"{guest_uuid(lab.name, guest.name)}-{digest}"
        await asyncio.to_thread(nocloud.write, dataclasses.replace(given, instance=instance), made)
        await shelf.copy(made, name := f"{guest.name}.seed.iso")
    return name


def place_login(keys: Path, guest: resolved.Guest, entry: Entry) -> None:
    """Keep the key that lets its user in, and what is known of its host keys, beside the lab's own."""
    if entry.seed == "nocloud":
        return
    try:
        if entry.access.key:
            file = key_file(keys, guest.name)
            file.unlink(missing_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(entry.path(entry.access.key).read_bytes())
        known = known_hosts_file(keys, guest.name)
        if entry.access.host_keys:
            known.write_text("".join(f"{guest.address} {key}\n" for key in entry.access.host_keys))
        else:
            known.touch(mode=0o600)
    except OSError as error:
        raise cannot_write(error, keys) from error


def key_file(keys: Path, guest: str) -> Path:
    """Where the private key of a guest's user is, for a guest that has keys of its own."""
    return keys / f"{guest}.key"


def known_hosts_file(keys: Path, guest: str) -> Path:
    """Where the host keys of such a guest are."""
    return keys / f"{guest}.known_hosts"
