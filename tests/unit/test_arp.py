"""Whose an address is, by what is said on the wire: pure packets here, real ones in tests/system/test_addresses.py."""

from __future__ import annotations

import struct

import pytest

from limosa.network import arp

OWN, OTHER, ADDRESS = bytes.fromhex("02aabbccddee"), bytes.fromhex("020102030405"), bytes((10, 90, 0, 101))


def said(operation: int, sender: bytes, has: bytes, target: bytes = bytes(4)) -> bytes:
    """An ARP packet on Ethernet (RFC 826), as cards send it: padded to 60 bytes."""
    head = struct.pack("!6s6sHHHBBH", OWN, sender, 0x0806, 1, 0x0800, 6, 4, operation)
    return (head + sender + has + bytes(6) + target).ljust(60, b"\0")


def test_a_probe_says_nothing_of_the_sender_but_its_card() -> None:
    packet = arp.probe(OWN, ADDRESS)
    assert len(packet) == 42 and packet[:6] == b"\xff" * 6 and packet[12:14] == b"\x08\x06"
    assert packet[22:32] == OWN + bytes(4), "with an address there, neighbours would learn a wrong one"
    assert packet[38:] == ADDRESS


@pytest.mark.parametrize(
    ("packet", "wanted"),
    [
        (said(2, OTHER, ADDRESS), (ADDRESS, OTHER)),
        (said(1, OTHER, ADDRESS), (ADDRESS, OTHER)),
        (said(1, OTHER, bytes(4), ADDRESS), (ADDRESS, OTHER)),
        (said(2, OTHER, bytes(4), ADDRESS), (b"", b"")),
        (said(1, OWN, bytes(4), ADDRESS), (b"", b"")),
        (said(2, OTHER, ADDRESS)[:40], (b"", b"")),
        (b"", (b"", b"")),
        (said(2, OTHER, ADDRESS).replace(b"\x08\x06", b"\x08\x00", 1), (b"", b"")),
    ],
    ids=["answer", "question", "another-probe", "empty-answer", "our-own", "cut", "empty", "no-arp"],
)
def test_who_has_an_address_or_wants_it(packet: bytes, wanted: tuple[bytes, bytes]) -> None:
    assert arp.claimed(packet, OWN) == wanted
