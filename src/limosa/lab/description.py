"""What a lab file describes, for whoever only wants to know: file and image cache are read, nothing is touched."""

from __future__ import annotations

import msgspec

from limosa.errors import LimosaError
from limosa.guest import provision
from limosa.guest.provision import Stock
from limosa.spec import resolved


class NetworkDescription(msgspec.Struct, frozen=True):
    """A network of the lab."""

    name: str
    subnet: str
    purpose: str


class HostDescription(msgspec.Struct, frozen=True):
    """A host of the lab; ``made``: by limosa, while another one is the user's."""

    name: str
    kind: str
    made: bool
    addresses: dict[str, str]


class GuestDescription(msgspec.Struct, frozen=True):
    """A guest of the lab."""

    name: str
    host: str
    image: str
    memory_bytes: int
    cpus: int
    address: str


class ImageDescription(msgspec.Struct, frozen=True):
    """An image that guests need."""

    name: str
    there: bool
    comes: str
    """How `up` has it where it is not there; empty: not at all."""
    hint: str
    """What brings it then."""
    guests: list[str]


class LabDescription(msgspec.Struct, frozen=True):
    """What ``up`` makes of a lab file."""

    name: str
    file: str
    networks: list[NetworkDescription]
    hosts: list[HostDescription]
    guests: list[GuestDescription]
    images: list[ImageDescription]


def describe(lab: resolved.Lab) -> LabDescription:
    """All of *lab* in a person's words, with the images that it needs."""
    return LabDescription(
        lab.name,
        lab.file,
        [NetworkDescription(each.name, each.subnet, each.purpose) for each in lab.networks.values()],
        [HostDescription(each.name, each.kind, each.made, each.addresses) for each in lab.hosts.values()],
        [
            GuestDescription(each.name, each.host, _image(each), each.memory_bytes, each.cpus, each.address)
            for each in lab.guests.values()
        ],
        _images(lab),
    )


def _image(guest: resolved.Guest) -> str:
    described = guest.disk_image
    return guest.image if described is None else described.path or described.url


def _images(lab: resolved.Lab) -> list[ImageDescription]:
    found: dict[str, ImageDescription] = {}
    for guest in lab.guests.values():
        name = _image(guest)
        if name not in found:
            stock = _stock(guest)
            found[name] = ImageDescription(name, stock.there, "" if stock.there else stock.comes, stock.hint, [])
        found[name].guests.append(guest.name)
    return list(found.values())


def _stock(guest: resolved.Guest) -> Stock:
    try:
        return provision.of(guest.image_kind).stock(guest)
    except LimosaError as error:  # it is there, and not whole
        return Stock(there=False, hint=f"{error.message}; {error.hint}")
