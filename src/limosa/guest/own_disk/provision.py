"""How a guest is had whose disk holds a system of its own: that disk, its keys, and an address if it asks for one."""

from __future__ import annotations

import dataclasses

from limosa.events import Events
from limosa.guest import built_images, library
from limosa.guest.agent import executable
from limosa.guest.micro.provision import subject
from limosa.guest.own_disk import access, leases, origin, storage_files
from limosa.guest.provision import Order, Placed, Stock, Trial
from limosa.spec import resolved
from limosa.spec.image_kinds import MICRO


def stock(guest: resolved.Guest) -> Stock:
    """The disk: a file that is there, or what the library keeps."""
    image = guest.disk_image
    if image is not None and not image.url:
        return Stock(there=True)
    name = guest.image if image is None else origin.kept_name(image)
    if library.find(name) is not None:
        return Stock(there=True)
    if image is not None:
        return Stock(there=False, comes=f"fetched from {image.url} when it is first needed")
    return Stock(there=False, hint=library.unknown(name).hint)


async def have(guest: resolved.Guest, events: Events) -> None:
    """Fetch the disk where it has to be. Raises SpecError for a name that no image has."""
    await origin.find(guest, events)


async def place(order: Order) -> Placed:
    """Put the disk on the storage, with what comes with it, and be ready for the system to ask for its address."""
    guest, shelf = order.guest, order.shelf
    entry = await origin.find(guest, order.events)
    keys = await order.lab_keys()
    files = await storage_files.place(shelf, guest, entry)
    user, seeded = entry.access.user, entry.seed == "nocloud"
    iso = await access.place_seed(shelf, order.lab, guest, keys, user) if seeded else ""
    access.place_login(order.keys, guest, entry)
    if guest.network:
        await leases.serve(order.client(), order.lab, guest.network)
    return Placed(
        provenance=entry.provenance,
        kernel=files.kernel,
        initrd=files.initrd,
        append=entry.append,
        disk=files.disk,
        own=dataclasses.replace(files, seed=iso, user=user, own_keys=not seeded),
    )


async def trial(order: Order, placed: Placed) -> Trial:
    """The small image's kernel in place of the system's own, of which nobody outside can tell how far it has come."""
    image = await built_images.ensure(MICRO.name, order.events, agent=await executable.ensure(order.events))
    kernel, initrd = "proof.kernel", "proof.initrd"
    await order.shelf.link(image.kernel, kernel)
    await order.shelf.link(image.initrd, initrd)
    return Trial(subject(order.seen(kernel), order.seen(initrd)), image.kernel)


async def kernel_arguments(order: Order, placed: Placed, accel: str) -> str:
    """Only what whoever described the disk wants, and only where its kernel is started directly."""
    return placed.append


def current() -> set[str]:
    """None: entries of the library are kept by name."""
    return set()
