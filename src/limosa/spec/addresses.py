"""IPv4 and MAC addresses of a lab: those that the file gives are checked and kept, the others are filled in.

Rule: IPv4 addresses depend on the file alone, so the same file always gives the same ones. MACs depend on whose lab
it is as well: two people may use one file on one wire.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import chain

import msgspec

from limosa.spec import resolved
from limosa.spec.problems import Location, key_text

FIRST_HOST_OFFSET = 11
FIRST_GUEST_OFFSET = 101


class Pool(msgspec.Struct):
    """The addresses of one network, and who has them."""

    name: str
    subnet: ipaddress.IPv4Network
    owners: dict[ipaddress.IPv4Address, str] = {}
    """Whose an address is, in words that complete "is already ..."."""
    client: str = ""
    """The client's address where the file gives it."""
    rest: dict[int, Iterator[int]] = {}
    """By the first offset that was asked for, the offsets that nobody has looked at yet."""

    def __post_init__(self) -> None:
        why = "by the file" if self.client else f"the client has the first of {self.subnet}"
        self.owners[self.client_address] = f"the client's ({why})"

    @property
    def client_address(self) -> ipaddress.IPv4Address:
        """Without another one the first of the subnet: the client is to hosts and guests what a gateway would be."""
        return ipaddress.IPv4Address(self.client) if self.client else self.subnet.network_address + 1

    def misfit(self, text: str) -> str:
        """Why *text* can be nobody's address in this network; empty when it can."""
        address = ipaddress.IPv4Address(text)
        if address not in self.subnet:
            return f"{text} is outside the network {self.name!r} ({self.subnet})"
        if address == self.subnet.network_address:
            return f"{text} is the address of the network {self.name!r} itself"
        if address == self.subnet.broadcast_address:
            return f"{text} is the broadcast address of the network {self.name!r}"
        return ""

    def reserve(self, text: str, location: Location, line: int) -> str:
        """Keep *text* for the key *location*; return what is wrong with that, else an empty string."""
        address = ipaddress.IPv4Address(text)
        if fault := self.misfit(text):
            return fault
        if address in self.owners:
            return f"{text} is already {self.owners[address]}"
        self.owners[address] = f"taken by {key_text(location)} in line {line}"
        return ""

    def take(self, first_offset: int, owner: str) -> str | None:
        """The first free address from *first_offset* on, then from the beginning; None when all are taken."""
        if first_offset not in self.rest:
            last_offset = self.subnet.num_addresses - 2
            before = range(2, min(first_offset, last_offset + 1))
            self.rest[first_offset] = chain(range(first_offset, last_offset + 1), before)
        for offset in self.rest[first_offset]:  # what was taken once stays taken
            address = self.subnet.network_address + offset
            if address not in self.owners:
                self.owners[address] = f"taken by {owner}"
                return str(address)
        return None

    def free(self) -> str:
        """An address that could be written instead, for a hint; empty when all are taken."""
        address = Pool(self.name, self.subnet, dict(self.owners), self.client).take(FIRST_GUEST_OFFSET, "")
        return f"{address} is free" if address else "every address of the network is taken"


def free_subnet(taken: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network | None:
    """The first ``10.77.N.0/24``, N from 1, that overlaps none of *taken*."""
    spans = [(int(other.network_address), int(other.broadcast_address)) for other in taken]
    for third in range(1, 255):
        first = int(ipaddress.IPv4Address(f"10.77.{third}.0"))
        if not any(begin <= first + 255 and first <= end for begin, end in spans):
            return ipaddress.IPv4Network((first, 24))
    return None


def identified(lab: resolved.Lab, identity: str) -> resolved.Lab:
    """*lab* as the one of *identity*, with the MACs that follow. Nothing else of it changes."""
    lab = msgspec.structs.replace(lab, identity=identity)
    guests: dict[str, resolved.Guest] = {}
    macs: set[str] = set()
    for name, guest in lab.guests.items():
        mac = mac_address(lab.mark or lab.name, name, macs) if guest.network else ""
        macs.add(mac)
        guests[name] = msgspec.structs.replace(guest, mac=mac)
    return msgspec.structs.replace(lab, guests=guests)


def mac_address(lab: str, guest: str, taken: set[str]) -> str:
    """A locally administered unicast address, the same for the same names, and none of *taken*.

    Forty bits come from SHA-256. The first octet is 02: bit 1 set, bit 0 clear.
    """
    import hashlib

    for attempt in range(1000):
        digest = hashlib.sha256(f"limosa/{lab}/{guest}/{attempt}".encode()).digest()
        mac = ":".join(f"{octet:02x}" for octet in (0x02, *digest[:5]))
        if mac not in taken:
            return mac
    raise AssertionError("a thousand collisions in forty bits")
