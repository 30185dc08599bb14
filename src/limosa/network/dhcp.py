"""A DHCP server for guests whose disk limosa did not make: each gets the address that the lab has for its MAC.

The program runs on the lab's client, alone, with nothing but Python's own library (``python -I -S dhcp.py JSON``), and
ends with the lab. It answers nobody else, so that it disturbs no other server on the same wire. The format is that of
RFC 2131 and RFC 2132.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
import sys
from collections.abc import Mapping

SERVER_PORT, CLIENT_PORT = 67, 68
MAGIC = bytes((99, 130, 83, 99))
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
FOREVER_S = 0xFFFFFFFF
"""A lease without end: a guest that renews would send packets while something is measured."""

_MASK, _HOSTNAME, _REQUESTED, _LEASE, _KIND, _SERVER, _END = 1, 12, 50, 51, 53, 54, 255
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")
_BROADCAST = 0x8000
_LEAST_BYTES = 300
"""A BOOTP message is never shorter (RFC 1542)."""

Lease = Mapping[str, str]
"""``address``, ``prefix_length`` as text, ``hostname`` and ``server`` (our own address) for one MAC."""


def options(data: bytes) -> dict[int, bytes]:
    """The options behind the magic number; what is cut off ends them."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == 0:
            at += 1
            continue
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            break
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found


def answer(packet: bytes, leases: Mapping[str, Lease]) -> bytes:
    """The answer to *packet*; empty for what is not ours to answer."""
    if len(packet) < _FIXED.size + len(MAGIC) or packet[_FIXED.size : _FIXED.size + 4] != MAGIC:
        return b""
    fields = _FIXED.unpack_from(packet)
    operation, kind_of_hardware, length, transaction, current = fields[0], fields[1], fields[2], fields[4], fields[7]
    mac = ":".join(f"{byte:02x}" for byte in fields[11][:6])
    if (operation, kind_of_hardware, length) != (1, 1, 6) or mac not in leases:
        return b""
    lease, asked = leases[mac], options(packet[_FIXED.size + 4 :])
    address = ipaddress.IPv4Address(lease["address"]).packed
    server = ipaddress.IPv4Address(lease["server"]).packed
    if asked.get(_SERVER, server) != server:
        return b""  # it has chosen another server
    match asked.get(_KIND):
        case b"\x01":
            reply = OFFER
        case b"\x03":
            wanted = asked.get(_REQUESTED) or current
            reply = ACK if wanted == address else NAK
        case _:
            return b""
    # Always by broadcast, which a client without an address can receive in every case.
    head = _FIXED.pack(
        2, 1, 6, 0, transaction, 0, _BROADCAST, bytes(4), address if reply != NAK else bytes(4), server, fields[10],
        fields[11], bytes(64), bytes(128),
    )  # fmt: skip
    body = [(_KIND, bytes((reply,))), (_SERVER, server)]
    if reply != NAK:
        mask = ipaddress.IPv4Network(f"0.0.0.0/{lease['prefix_length']}").netmask.packed
        body += [(_LEASE, struct.pack("!I", FOREVER_S)), (_MASK, mask), (_HOSTNAME, lease["hostname"].encode())]
    tail = b"".join(bytes((code, len(data))) + data for code, data in body) + bytes((_END,))
    return (head + MAGIC + tail).ljust(_LEAST_BYTES, b"\0")


def serve(interface: str, leases: Mapping[str, Lease]) -> None:
    """Answer on *interface* for ever. Returns at once when another of us does so already."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            server.bind(("", SERVER_PORT))
        except OSError as error:
            print(f"dhcp on {interface}: {error.strerror}", file=sys.stderr, flush=True)
            return
        while True:
            packet, _ = server.recvfrom(2048)
            if reply := answer(packet, leases):
                server.sendto(reply, ("255.255.255.255", CLIENT_PORT))


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
