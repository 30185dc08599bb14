"""Whether packets of a size reach a neighbour and come back whole: ICMP echoes that may not be divided.

The program runs on a host of the lab, as root, alone, with nothing but Python's own library from 3.8 on
(``python3 -I -S - ADDRESS BYTES``, its source on standard input), and prints what ``largest`` found; with ``whole``
instead of BYTES what ``carries`` did.
"""

from __future__ import annotations

import _socket  # without what `socket` brings, which takes as long to load as Python itself, and moves wait for this
import os
import select
import struct
import sys
import time

TRIES = 3
PATIENCE_S = 0.4
"""How long an answer may take: hosts between which guests move are near each other."""
LEAST_BYTES = 576
"""What every IPv4 link carries in practice; RFC 791 has it as the size that every host takes."""
STEP_BYTES = 4

_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE, _IP_MTU = 10, 3, 14
"""linux/in.h: never divide, and send whatever the kernel has learnt of the path before; the size of the way."""
_HEADERS_BYTES = 28


def checksum(data: bytes) -> int:
    """RFC 1071."""
    words = struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])
    total: int = sum(words) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(number: int, size: int) -> bytes:
    """An echo request whose IP packet has *size* bytes."""
    body = b"\0" * (size - _HEADERS_BYTES)
    head = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, number)
    return struct.pack("!BBHHH", 8, 0, checksum(head + body), os.getpid() & 0xFFFF, number) + body


class Neighbour:
    """Who is asked."""

    def __init__(self, wire: _socket.socket, address: str) -> None:
        self._wire, self._address, self._number = wire, address, 0

    def answers(self, size: int, tries: int = TRIES) -> bool:
        """Whether a packet of *size* bytes comes back."""
        return any(self._once(size) for _ in range(tries))

    def _once(self, size: int) -> bool:
        self._number += 1
        try:
            self._wire.sendto(echo(self._number, size), (self._address, 0))
        except OSError:
            return False
        end_s = time.monotonic() + PATIENCE_S
        while select.select([self._wire], [], [], max(0.0, end_s - time.monotonic()))[0]:
            packet, _ = self._wire.recvfrom(1 << 16)
            answer = packet[(packet[0] & 15) * 4 :]
            if answer[:1] == b"\0" and answer[4:8] == struct.pack("!HH", os.getpid() & 0xFFFF, self._number):
                return True
        return False


def _opened() -> _socket.socket:
    """Sends packets that are never divided. Raises OSError."""
    wire = _socket.socket(_socket.AF_INET, _socket.SOCK_RAW, _socket.IPPROTO_ICMP)
    wire.setsockopt(_socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
    return wire


def largest(address: str, size: int) -> int:
    """The largest packet up to *size* bytes that comes back from *address*, within ``STEP_BYTES``; 0 where none does.

    Raises OSError.
    """
    wire = _opened()
    try:
        neighbour = Neighbour(wire, address)
        if neighbour.answers(size):
            return size
        if not neighbour.answers(LEAST_BYTES):
            return 0
        passes, fails = LEAST_BYTES, size
        while fails - passes > STEP_BYTES:
            middle = (passes + fails) // 2
            if neighbour.answers(middle, tries=1):
                passes = middle
            else:
                fails = middle
        return passes
    finally:
        wire.close()


def carries(address: str) -> bool:
    """Whether the largest packet that the interface on the way to *address* takes comes back. Raises OSError."""
    wire = _opened()
    try:
        wire.connect((address, 0))
        size = wire.getsockopt(_socket.IPPROTO_IP, _IP_MTU)
        return Neighbour(wire, address).answers(size, tries=1)
    finally:
        wire.close()


if __name__ == "__main__":
    whole = sys.argv[2] == "whole"
    print(str(carries(sys.argv[1])).lower() if whole else largest(sys.argv[1], int(sys.argv[2])))
