"""What the kernel tells of a stream, and its end, on connections of this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from limosa.qemu.stream import Stream
from tests.local_host import LocalHost


class Connection:
    """A sender and a receiver, in one process; the sender waits in ``send`` like QEMU when nobody reads."""

    def __init__(self, family: int, address: str) -> None:
        with socket.create_server((address, 0), family=family) as server:
            self.port = server.getsockname()[1]
            self.sender = socket.create_connection((address, self.port))
            self.receiver, _ = server.accept()
        self.stream = Stream(LocalHost(), f"tcp:{address}:{self.port}")


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"])
def made(request: pytest.FixtureRequest) -> Iterator[Connection]:
    try:
        connection = Connection(*request.param)
    except OSError as error:
        pytest.skip(f"this machine has no {request.param[1]}: {error}")
    yield connection
    connection.sender.close()
    connection.receiver.close()


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


async def test_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = Stream(LocalHost(), f"tcp:127.0.0.1:{server.getsockname()[1]}")
        assert await stream.moved() is True  # nothing is known of before
        assert await stream.moved() is False
        assert await stream.cut() is True


async def test_host_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    stream = Stream(LocalHost(), "tcp:127.0.0.1:9")
    assert await stream.moved() is None and await stream.cut() is False
