"""TCP connections of this host to one port elsewhere: how many bytes have arrived there, and an end to them.

Run as ``python3 - look|cut ADDRESS PORT`` with this text as its input. It prints JSON: ``found`` connections, ``taken``
of them that could be had, and the bytes that ``arrived`` through these.

A connection is taken from the process that has it (pidfd_getfd(2), Linux 5.6), which is asked for nothing and may
stand still. It takes the rights of a debugger. What the other side acknowledged is counted, not what was sent: the
kernel goes on sending into a link that is dark.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import os
import socket
import struct
import sys
from collections.abc import Iterator

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_BYTES_ACKED = 120
"""Where tcpi_bytes_acked is in struct tcp_info (linux/tcp.h)."""


def inodes(address: str, port: int) -> set[str]:
    """The sockets whose other side is *port* of *address*."""
    wanted, found = ipaddress.ip_address(address), set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/self/net/{table}") as file:  # noqa: PTH123
            for line in list(file)[1:]:
                words = line.split()
                far, _, number = words[2].partition(":")
                if int(number, 16) == port and _address(far) == wanted:
                    found.add(words[9])
    return found - {"0"}


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel writes words of 32 bits as this machine has them in its memory."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return getattr(found, "ipv4_mapped", None) or found


def holders(wanted: set[str]) -> Iterator[tuple[int, int]]:
    """A process and its descriptor for each of the sockets *wanted*."""
    left = {f"socket:[{inode}]" for inode in wanted}
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
                with contextlib.suppress(OSError):
                    name = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
                    if name in left:
                        left.discard(name)
                        yield int(pid), int(number)


def taken(pid: int, number: int) -> socket.socket:
    """The same socket as that process has it. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(_PIDFD_OPEN, pid, 0)
    descriptor = libc.syscall(_PIDFD_GETFD, process, number, 0) if process >= 0 else -1
    error = ctypes.get_errno()
    if process >= 0:
        os.close(process)
    if descriptor < 0:
        raise OSError(error, os.strerror(error))
    return socket.socket(fileno=descriptor)


def arrived(connection: socket.socket) -> int:
    """The bytes that the other side has acknowledged."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    return int(struct.unpack_from("=Q", told.ljust(_BYTES_ACKED + 8, b"\0"), _BYTES_ACKED)[0])


def cut(connection: socket.socket) -> None:
    """Whoever waits in it goes on with an error. What has not been sent is dropped when it closes, not sent later."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def main(verb: str, address: str, port: str) -> None:
    """Look at the connections, or cut them."""
    wanted, had, count = inodes(address, int(port)), 0, 0
    for pid, number in holders(wanted):
        with contextlib.suppress(OSError), taken(pid, number) as connection:
            count += arrived(connection)
            if verb == "cut":
                cut(connection)
            had += 1
    print(json.dumps({"found": len(wanted), "taken": had, "arrived": count}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
