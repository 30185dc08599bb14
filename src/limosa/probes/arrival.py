"""When packets arrived, as the kernel stamped them, and how long none did.

Runs in the prober: standard library alone.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

TIMESPEC = struct.Struct("@qq")
# Linux' numbers (asm-generic/socket.h); Python's socket module does not name them.
SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_RXQ_OVFL = 33, 35, 40
WANTED_BUFFER_BYTES = 8 << 20
ANCILLARY_BYTES = 128


def stamp_of(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """The kernel's receive timestamp in ns (now, when it gave none), and its count of dropped packets."""
    received_ns = drops = 0
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = TIMESPEC.unpack(data)
            received_ns = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
            drops = int.from_bytes(data[:4], sys.byteorder)
    return received_ns or time.time_ns(), drops


def udp_socket() -> socket.socket:
    """A non-blocking UDP socket with kernel timestamps, a count of drops, and a big buffer."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setblocking(False)
    udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    udp.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
    try:
        udp.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WANTED_BUFFER_BYTES)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WANTED_BUFFER_BYTES)
    return udp


class Gap:
    """The longest stretch since the beginning and since the last mark, in ns, for the live display."""

    def __init__(self) -> None:
        self.longest_ns = self.since_mark_ns = self.last_ns = 0

    def arrived(self, at_ns: int) -> None:
        """Something arrived: the stretch since the one before has ended."""
        if self.last_ns:
            self.saw(at_ns - self.last_ns)
        self.last_ns = at_ns

    def saw(self, length_ns: int) -> None:
        """A stretch of this length has been."""
        if length_ns > self.since_mark_ns:
            self.since_mark_ns, self.longest_ns = length_ns, max(self.longest_ns, length_ns)

    def report(self) -> dict[str, float | None]:
        """In ms; ``silent_ms`` is the stretch that is still open."""
        silent_ms = (time.time_ns() - self.last_ns) / 1e6 if self.last_ns else None
        # None before a stretch has ended: nothing was seen, which is no gap of 0.
        longest_ms = self.longest_ns / 1e6 if self.longest_ns else None
        since_mark_ms = self.since_mark_ns / 1e6 if self.since_mark_ns else None
        return {"longest_ms": longest_ms, "since_mark_ms": since_mark_ms, "silent_ms": silent_ms}
