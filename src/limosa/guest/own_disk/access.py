"""How one logs in to a system of its own: what tells it the lab's keys, or the keys that are its own."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from limosa import temporary
from limosa.errors import SpecError
from limosa.guest.library import Entry
from limosa.paths import cannot_write
from limosa.qemu.argv import guest_uuid
from limosa.spec import resolved
from limosa.storage.shelf import Shelf

if TYPE_CHECKING:
    from limosa.guest.lab_keys import LabKeys


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
    with temporary.folder("seed") as folder:
        made = folder / "seed.iso"
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
