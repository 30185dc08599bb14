"""Who has an address already: ARP probes as in RFC 5227, sent before it is given to anybody.

The program runs on a host of the lab, as root, alone, with nothing but Python's own library from 3.8 on
(``python3 -I -S - INTERFACE ADDRESSES``, its source on standard input), and prints who answered.
A probe names no sender's address, so that it changes nobody's memory of whose an address is.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Mapping

PROBES = 3
INTERVAL_S = 0.2
"""Between probes, and from the last one to the end. RFC 5227 asks for 1 to 2 s, for any network that there may be;
these are labs' networks, where an answer takes milliseconds, and a person waits for the guest."""

UP_S = 2.0

_ETHERNET_ARP = 0x0806
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6
_NOBODY = bytes(4)
_PACKET = struct.Struct("!6s6sHHHBBH6s4s6s4s")


def probe(own: bytes, address: bytes) -> bytes:
    """The question of the card *own* who has *address*."""
    head = (_BROADCAST, own, _ETHERNET_ARP, 1, 0x0800, 6, 4, _REQUEST)
    return _PACKET.pack(*head, own, _NOBODY, bytes(6), address)


def claimed(packet: bytes, own: bytes) -> tuple[bytes, bytes]:
    """The address that the sender of *packet* has, or probes for itself, and its card; two empty texts for neither."""
    if len(packet) < _PACKET.size:
        return b"", b""
    _, _, kind, hardware, protocol, _, _, operation, sender, has, _, target = _PACKET.unpack_from(packet)
    if (kind, hardware, protocol) != (_ETHERNET_ARP, 1, 0x0800) or sender == own:
        return b"", b""
    if has != _NOBODY:
        return has, sender
    return (target, sender) if operation == _REQUEST else (b"", b"")


def look(interface: str, addresses: Mapping[str, str]) -> dict[str, str]:
    """Which of *addresses* somebody has, and with which MAC; it is no matter that the one named for it has it.

    Raises OSError.
    """
    wanted = {socket.inet_aton(address): mac for address, mac in addresses.items()}
    found = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERNET_ARP)) as wire:
        wire.bind((interface, _ETHERNET_ARP))
        _wait_up(interface)
        own = wire.getsockname()[4]
        for _ in range(PROBES):
            for address in wanted:
                wire.send(probe(own, address))
            end_s = time.monotonic() + INTERVAL_S
            while select.select([wire], [], [], max(0.0, end_s - time.monotonic()))[0]:
                address, sender = claimed(wire.recv(2048), own)
                mac = ":".join(f"{octet:02x}" for octet in sender)
                if address in wanted and mac != wanted[address]:
                    found[socket.inet_ntoa(address)] = mac
            if len(found) == len(wanted):
                break
    return found


def _wait_up(interface: str) -> None:
    """What is sent on a new bridge before the kernel has noticed its links is dropped; that takes up to a second."""
    end_s = time.monotonic() + UP_S
    while time.monotonic() < end_s:
        with open(f"/sys/class/net/{interface}/operstate", encoding="ascii") as file:  # noqa: PTH123
            if file.read().strip() in ("up", "unknown"):
                return
        time.sleep(0.02)


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1], json.loads(sys.argv[2]))))
