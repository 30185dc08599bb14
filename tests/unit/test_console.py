"""What is typed on a console reaches the guest whole and in order, also across the end of a connection."""

from __future__ import annotations

import asyncio
import hashlib
import socket

from limosa.guest.console import Typed, join


async def _read(connection: socket.socket, *, least: int, pause_s: float = 0.0) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < least and (part := await loop.sock_recv(connection, 1000)):
        data += part
        await asyncio.sleep(pause_s)
    return data


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return ours, theirs


async def test_a_long_paste_arrives_whole_at_a_slow_reader() -> None:
    paste = bytes(hashlib.sha256(b"paste").digest() * 2000).replace(b"\x1d", b"")
    ours, theirs = _pair()
    with ours, theirs:
        typed = Typed()
        for at in range(0, len(paste), 4096):
            typed.put(paste[at : at + 4096])
        typed.put(b"\x1d")
        joined = asyncio.ensure_future(join(ours, typed))
        assert await _read(theirs, least=len(paste), pause_s=0.0005) == paste
        assert await joined


async def test_what_one_connection_did_not_take_goes_to_the_next() -> None:
    """What the kernel holds when the other end goes is lost, as in a wire; everything after that is sent again."""
    typed, all_of_it = Typed(), b"".join(b"%06d\n" % number for number in range(20_000))
    typed.put(all_of_it)
    ours, theirs = _pair()
    with ours, theirs:
        joined = asyncio.ensure_future(join(ours, typed))
        taken = await _read(theirs, least=5000)
        theirs.close()
        assert not await joined
    ours, theirs = _pair()
    with ours, theirs:
        typed.put(b"\x1d")
        joined = asyncio.ensure_future(join(ours, typed))
        joined.add_done_callback(lambda _: ours.shutdown(socket.SHUT_WR))
        rest = await _read(theirs, least=len(all_of_it))
        assert await joined
    assert all_of_it.startswith(taken)
    assert all_of_it.endswith(rest)
    assert len(all_of_it) - 32768 < len(taken) + len(rest) <= len(all_of_it)


async def test_leaving_ends_it_after_what_was_typed_before() -> None:
    ours, theirs = _pair()
    with ours, theirs:
        typed = Typed()
        typed.put(b"last words\x1dnot these")
        typed.put(b"nor these")
        assert await join(ours, typed)
        assert await _read(theirs, least=10) == b"last words"
