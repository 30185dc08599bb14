"""TCP connections of one process to one port elsewhere: how many bytes have arrived there, an end to them, or patience.

Standard library only, from Python 3.8 on: it runs on the host, by that host's Python, and nothing of it stays there.
Run as ``python3 - look|cut|hold|stop-connecting PID STARTED ADDRESS PORT`` with this text as its input; STARTED is when
the process began, in clock ticks as in /proc/PID/stat; PORT 0 is any. It prints JSON: ``found`` connections, and the
bytes that ``arrived`` there.

A connection is taken from the process that has it (pidfd_getfd(2), Linux 5.6), which is asked for nothing and may
stand still. It takes the rights of a debugger, and ends with an error without. What the other side acknowledged is
counted, not what was sent: the kernel goes on sending into a link that is dark.
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


_USER_TIMEOUT = 18
"""TCP_USER_TIMEOUT (tcp(7)), for Pythons without the name."""
_HELD_MS = 24 * 3600 * 1000


_SYN_SENT = 2
"""The state of a connection that is not made yet (net/tcp_states.h), the first byte of struct tcp_info."""


def inodes(pid: int, address: str, port: int) -> set[str]:
    """The sockets, in the network of *pid*, whose other side is *port* of *address*."""
    wanted, found = ipaddress.ip_address(address), set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/net/{table}") as file:  # noqa: PTH123
            for line in list(file)[1:]:
                words = line.split()
                far, _, number = words[2].partition(":")
                if port in {0, int(number, 16)} and _address(far) == wanted:
                    found.add(words[9])
    return found


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel writes words of 32 bits as this machine has them in its memory."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    found = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return getattr(found, "ipv4_mapped", None) or found


def descriptors(pid: int, wanted: set[str]) -> Iterator[int]:
    """The descriptors by which *pid* holds the sockets *wanted*, one each. Raises OSError."""
    left = {f"socket:[{inode}]" for inode in wanted}
    for number in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(f"/proc/{pid}/fd/{number}")  # noqa: PTH115
            if name in left:
                left.discard(name)
                yield int(number)


def _call(number: int, *arguments: int) -> int:
    """A system call that returns a descriptor. Raises OSError."""
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def taken(process: int, number: int) -> socket.socket:
    """The same socket as the process of the pidfd *process* has it. Raises OSError."""
    return socket.socket(fileno=_call(_PIDFD_GETFD, process, number, 0))


def started(pid: int) -> int:
    """When *pid* began. Raises OSError."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rpartition(")")[2].split()[19])


def connecting(connection: socket.socket) -> bool:
    """Whether the other side has not answered yet."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _SYN_SENT


def arrived(connection: socket.socket) -> int:
    """The bytes that the other side has acknowledged."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    return int(struct.unpack_from("=Q", told.ljust(_BYTES_ACKED + 8, b"\0"), _BYTES_ACKED)[0])


def cut(connection: socket.socket) -> None:
    """Whoever waits in it goes on with an error. What has not been sent is dropped when it closes, not sent later."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def stop_connecting(connection: socket.socket) -> None:
    """As ``cut``, where the connection is not made yet."""
    if connecting(connection):
        cut(connection)


def hold(connection: socket.socket) -> None:
    """Have the kernel keep it for a day through a link that is dark, not only for as long as ``tcp_retries2`` says."""
    connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, _HELD_MS)


def main(verb: str, pid: int, began: int, address: str, port: int) -> None:
    """Do to the connections what *verb* says. Raises OSError."""
    found = count = 0
    process = _call(_PIDFD_OPEN, pid, 0)
    if started(pid) != began:
        raise ProcessLookupError(f"{pid} is another process by now")
    for number in descriptors(pid, inodes(pid, address, port)):
        with taken(process, number) as connection:
            count += arrived(connection)
            if verb != "look":
                {"cut": cut, "hold": hold, "stop-connecting": stop_connecting}[verb](connection)
            found += 1
    print(json.dumps({"found": found, "arrived": count}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
