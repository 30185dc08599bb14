"""The downloader against a real HTTP server on loopback: checksums, broken connections, ranges, a full disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.errors import LimosaError, MachineError, SpecError
from limosa.events import Events, Note
from limosa.guest import download
from tests.file_server import Server, served

CONTENT = os.urandom(700_001)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with served(CONTENT) as running:
        yield running


async def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep/file"
    for _ in range(2):
        assert await download.fetch(server.url, target, Events(), sha256=SHA256.upper()) == SHA256
    assert target.read_bytes() == CONTENT
    assert server.ranges == [""]
    assert sorted(path.name for path in target.parent.iterdir()) == ["file"]


async def test_two_commands_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    events = Events(lambda event: said.append(event.text) if isinstance(event, Note) else None)
    both = (download.fetch(server.url, tmp_path / "file", events, sha256=SHA256) for _ in range(2))
    assert await asyncio.gather(*both) == [SHA256, SHA256]
    assert server.ranges == [""]
    assert any("another command fetches" in text for text in said)


async def test_a_broken_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [100_000, 1]
    await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256, again_s=0)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=100000-", "bytes=100001-"]


async def test_a_later_command_resumes_what_an_earlier_one_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT[:500_000])
    await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.ranges == ["bytes=500000-"]


async def test_a_whole_part_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256) == SHA256


@pytest.mark.parametrize("left", [b"another file", b"x" * 900_000])
async def test_a_part_of_another_file_is_fetched_anew(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.part").write_bytes(left)
    await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256, again_s=0)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.knows_ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:500_000])
    await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_wrong_checksum_leaves_nothing_that_could_be_used(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LimosaError, match="not what its checksum says") as caught:
        await download.fetch(server.url, tmp_path / "file", Events(), sha256="0" * 64)
    assert SHA256 in caught.value.message
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == []


async def test_a_file_that_was_changed_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"changed")
    await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


async def test_a_server_that_always_breaks_off_is_named_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000, *([0] * 20)]
    with pytest.raises(MachineError, match=r"127\.0\.0\.1:\d+ cannot be reached") as caught:
        await download.fetch(server.url, tmp_path / "file", Events(), sha256=SHA256, again_s=0)
    assert "goes on from there" in caught.value.hint
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]
    assert len(server.ranges) == 1 + download.TRIES


async def test_an_unreachable_server(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        with pytest.raises(MachineError, match="cannot be reached") as caught:
            await download.fetch(url, tmp_path / "file", Events(), again_s=0)
        assert caught.value.exit_code == 3
        with pytest.raises(MachineError, match="cannot be reached"):
            await download.text(url)


async def test_what_the_server_does_not_have(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="the server has no"):
        await download.fetch(server.url.replace("file", "nothing"), tmp_path / "file", Events())
    assert await download.published_sha256(server.url) == SHA256


@pytest.mark.parametrize(("url", "sha256"), [("ftp://x/y", ""), ("nonsense", ""), ("http://x/y", "12")])
async def test_nonsense_is_refused(tmp_path: Path, url: str, sha256: str) -> None:
    with pytest.raises(SpecError) as caught:
        await download.fetch(url, tmp_path / "file", Events(), sha256=sha256)
    assert caught.value.hint
    assert not list(tmp_path.iterdir())


_ON_A_SMALL_DISK = """
import asyncio, ctypes, os, pathlib, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"none", sys.argv[1].encode(), b"tmpfs", 0, b"size=256k") == 0, os.strerror(ctypes.get_errno())
from limosa.events import Events
from limosa.guest import download
from limosa.errors import MachineError
target = pathlib.Path(sys.argv[1]) / "file"
try:
    asyncio.run(download.fetch(sys.argv[2], target, Events()))
except MachineError as error:
    print(error.message, "|", error.hint)
    sys.exit(0 if (target.parent / "file.part").exists() and not target.exists() else 9)
sys.exit(8)
"""


def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine permits no user namespace, so no small disk can be mounted")
    argv = [*unshare, sys.executable, "-c", _ON_A_SMALL_DISK, str(tmp_path), server.url]
    source = str(Path(download.__file__).parents[2])
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source}, check=False)
    assert done.returncode == 0, done
    assert "no space left for file in" in done.stdout
    assert "free some disk space" in done.stdout
