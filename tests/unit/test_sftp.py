"""What a socket that breaks leaves of a file's way by SFTP; what it raises, and when, cannot be had on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest

from limosa.hosts.link import local_file
from limosa.hosts.ssh import sftp


class Breaking:
    """A client, and its open file, that break at one of their calls."""

    def __init__(self, at: str) -> None:
        self.at, self.closed = at, False

    def _do(self, name: str) -> None:
        if name == self.at:
            raise BrokenPipeError

    async def open(self, *_: Any, **__: Any) -> Breaking:
        self._do("open")
        return self

    async def write(self, *_: Any) -> None:
        self._do("write")

    async def read(self, size: int, _: int) -> bytes:
        self._do("read")
        return bytes(size)

    async def close(self) -> None:
        self.closed = True
        self._do("close")


@pytest.mark.parametrize("at", ["open", "write", "close"])
async def test_a_broken_socket_is_no_error_of_the_file_that_is_sent(tmp_path: Path, at: str) -> None:
    here, client = tmp_path / "here", Breaking(at)
    here.write_bytes(bytes([1]) * 200_000)
    with here.open("rb", buffering=0) as file, pytest.raises(asyncssh.SFTPConnectionLost, match="BrokenPipeError"):
        await sftp.send(client, file, "there")  # type: ignore[arg-type]
    assert client.closed == (at != "open")


@pytest.mark.parametrize("at", ["open", "read", "close"])
async def test_a_broken_socket_is_no_error_of_the_file_that_comes(tmp_path: Path, at: str) -> None:
    client = Breaking(at)
    with pytest.raises(asyncssh.SFTPConnectionLost), local_file.arriving(tmp_path / "here") as file:
        await sftp.receive(client, "there", [(0, 200_000)], file)  # type: ignore[arg-type]
    assert client.closed == (at != "open") and not list(tmp_path.iterdir())


async def test_an_error_of_the_file_here_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_file.Arriving, "write", full)
    with pytest.raises(OSError, match="No space"), local_file.arriving(tmp_path / "here") as file:
        await sftp.receive(Breaking(""), "there", [(0, 200_000)], file)  # type: ignore[arg-type]
