"""The DHCP server answers the guests of its lab, and nobody else."""

from __future__ import annotations

import random
import socket
import struct

import pytest

from limosa.network import dhcp

MAC = "52:54:00:12:34:56"
LEASES = {MAC: {"address": "10.77.1.101", "prefix_length": "24", "hostname": "web", "server": "10.77.1.1"}}
HEAD = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s")


def message(kind: int, mac: str = MAC, **given: bytes) -> bytes:
    """As a client sends it; *given* are options by the letter o and their code."""
    chaddr = bytes.fromhex(mac.replace(":", "")).ljust(16, b"\0")
    head = HEAD.pack(1, 1, 6, 0, 0xABCD1234, 0, 0, bytes(4), bytes(4), bytes(4), bytes(4), chaddr, b"", b"")
    options = {53: bytes((kind,))} | {int(name[1:]): value for name, value in given.items()}
    return head + dhcp.MAGIC + b"".join(bytes((c, len(v))) + v for c, v in options.items()) + b"\xff"


def read(reply: bytes) -> tuple[int, str, dict[int, bytes]]:
    """Kind, offered address, options."""
    fields = HEAD.unpack_from(reply)
    assert (fields[0], fields[4], fields[6]) == (2, 0xABCD1234, 0x8000)
    assert len(reply) >= 300
    options = dhcp.options(reply[HEAD.size + 4 :])
    return options[53][0], socket.inet_ntoa(fields[8]), options


def test_discover_gets_the_address_that_the_lab_has_for_it() -> None:
    kind, address, options = read(dhcp.answer(message(dhcp.DISCOVER), LEASES))
    assert (kind, address) == (dhcp.OFFER, "10.77.1.101")
    assert options[1] == bytes((255, 255, 255, 0)) and options[12] == b"web"
    assert options[54] == bytes((10, 77, 1, 1)) and options[51] == b"\xff" * 4


def test_request_is_granted_for_its_own_address_alone() -> None:
    own, other = bytes((10, 77, 1, 101)), bytes((10, 77, 1, 102))
    assert read(dhcp.answer(message(dhcp.REQUEST, o50=own), LEASES))[:2] == (dhcp.ACK, "10.77.1.101")
    assert read(dhcp.answer(message(dhcp.REQUEST, o50=other), LEASES))[:2] == (dhcp.NAK, "0.0.0.0")


@pytest.mark.parametrize(
    "packet",
    [
        message(dhcp.DISCOVER, "52:54:00:00:00:01"),
        message(dhcp.REQUEST, o50=bytes((10, 77, 1, 101)), o54=bytes((10, 77, 1, 9))),
        message(7),
        message(dhcp.DISCOVER).replace(dhcp.MAGIC, b"abcd"),
        b"\x02" + message(dhcp.DISCOVER)[1:],
        b"",
        b"\1" * 40,
    ],
    ids=["stranger", "another server's", "release", "no magic", "a reply", "empty", "cut off"],
)
def test_what_is_not_ours_is_not_answered(packet: bytes) -> None:
    assert dhcp.answer(packet, LEASES) == b""


def test_no_packet_ends_it() -> None:
    source = random.Random(7)
    whole = message(dhcp.REQUEST, o50=bytes((10, 77, 1, 101)), o55=bytes((1, 3, 6)))
    for _ in range(2000):
        packet = bytearray(whole[: source.randrange(len(whole) + 1)])
        for _ in range(source.randrange(4)):
            if packet:
                packet[source.randrange(len(packet))] = source.randrange(256)
        dhcp.answer(bytes(packet), LEASES)
