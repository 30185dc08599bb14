"""What the kernel tells of a stream, and its end, on connections of this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator

import pytest

from limosa.deadline import Deadline
from limosa.qemu.launches import Running
from limosa.qemu.sockets import connecting, started
from limosa.qemu.stream import Stream
from tests.local_host import LocalHost


@pytest.fixture(scope="module", autouse=True)
def let_be_taken() -> None:
    """Where only a parent may take a process's descriptors (Yama), a child of this one may too."""
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, PR_SET_PTRACER_ANY


def of(pid: int, uri: str) -> Stream:
    """The connections to *uri* of a process of this machine."""
    return Stream(LocalHost(), Running("", pid, started(pid)), uri)


class Connection:
    """A sender and a receiver, in one process; the sender waits in ``send`` like QEMU when nobody reads."""

    def __init__(self, family: int, address: str) -> None:
        with socket.create_server((address, 0), family=family) as server:
            self.port = server.getsockname()[1]
            self.sender = socket.create_connection((address, self.port))
            self.receiver, _ = server.accept()
        self.stream = of(os.getpid(), f"tcp:{address}:{self.port}")


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"])
def made(request: pytest.FixtureRequest) -> Iterator[Connection]:
    try:
        connection = Connection(*request.param)
    except OSError as error:
        pytest.skip(f"this machine has no {request.param[1]}: {error}")
    yield connection
    connection.sender.close()
    connection.receiver.close()


@pytest.fixture
def another() -> Iterator[int]:
    """A process of this user's that has none of the connections; the parent of this one may be somebody else's."""
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child.pid
        child.kill()


async def test_moves(made: Connection) -> None:
    made.sender.sendall(b"x" * 1000)
    assert await made.stream.moved() is True
    assert await made.stream.moved() is False
    made.sender.sendall(b"y")
    made.receiver.recv(2000)
    assert await made.stream.moved() is True


async def test_cut(made: Connection) -> None:
    """Whoever waits in it goes on, and what was not read is not sent later."""

    def fill() -> None:
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            while True:
                made.sender.sendall(bytes(1 << 20))

    waiting = asyncio.ensure_future(asyncio.to_thread(fill))
    while await made.stream.moved():
        pass
    assert not waiting.done()
    assert await made.stream.cut() is True
    await waiting
    made.sender.close()
    with pytest.raises(ConnectionResetError):
        while made.receiver.recv(1 << 20):
            pass
    assert await made.stream.moved() is False


async def test_hold(made: Connection, another: int) -> None:
    """The kernel keeps it for a day; what another process has stays as it was."""
    assert await of(another, made.stream.uri).hold() is False
    assert made.sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    assert await made.stream.hold() is True
    assert made.sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 24 * 3600 * 1000
    assert made.receiver.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


async def test_stop_connecting(made: Connection, another: int) -> None:
    """Who waits for an answer goes on without, whichever the port; a connection that is made stays."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address, sender = server.getsockname(), socket.socket()
        with socket.create_connection(address), sender:  # a queue that is full: whoever comes next gets no answer
            waiting = asyncio.ensure_future(asyncio.to_thread(sender.connect, address))
            async for _ in Deadline.after(30).ticks(0.01):
                if connecting(sender):
                    break
            await of(another, "tcp:127.0.0.1:9").stop_connecting()
            assert connecting(sender)
            await of(os.getpid(), "tcp:127.0.0.1:9").stop_connecting()
            with pytest.raises(ConnectionError):
                await waiting
    made.sender.sendall(b"y" * 1000)
    assert await made.stream.moved() is True


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = of(os.getpid(), f"tcp:127.0.0.1:{server.getsockname()[1]}")
        assert await stream.moved() is True  # nothing is known of before
        assert await stream.moved() is False
        assert await stream.cut() is True


async def test_connections_of_others_are_left_alone(made: Connection, another: int) -> None:
    """The port may be another move's by now, and the number of the process another process's."""
    made.sender.sendall(b"x" * 1000)
    other = of(another, made.stream.uri)
    assert await other.cut() is True and await other.moved() is True and await other.moved() is False
    later = Stream(LocalHost(), Running("", os.getpid(), started(os.getpid()) + 1), made.stream.uri)
    assert await later.cut() is False and await later.moved() is None
    made.sender.sendall(b"y" * 1000)
    assert await made.stream.moved() is True


async def test_host_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    stream = of(os.getpid(), "tcp:127.0.0.1:9")
    assert await stream.moved() is None and await stream.cut() is False and await stream.hold() is None
