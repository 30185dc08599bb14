"""Files to and from a machine over SSH: by SFTP where there is one, by the link where not; whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from limosa.errors import LimosaError, StateError
from limosa.hosts.host import Host
from limosa.hosts.link import local_file
from limosa.hosts.ssh import sftp
from limosa.hosts.ssh.kind import SshKind
from limosa.spec import resolved
from tests import sshd
from tests.ssh_machine import SFTP, SshMachine, let_go, ssh_machine

pytestmark = pytest.mark.system
WAYS = {"sftp": SFTP, "link": "", "broken": "Subsystem sftp /bin/false"}
"""``broken``: a subsystem that ends at once, so that the link has to step in."""


@pytest.fixture(scope="module", params=list(WAYS))
def way(
    request: pytest.FixtureRequest, runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, SshMachine]]:
    sshd.required()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("s")))
        made = ssh_machine("sshfiles", sshd.USER, extra=WAYS[request.param])
        entered = runner.run(made.__aenter__())
        try:
            yield request.param, entered
        finally:
            runner.run(made.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def on() -> AsyncIterator[Host]:
    host = resolved.Host("host1", kind="ssh", machine="machine1")
    async with let_go(SshKind(resolved.Lab("files", {}, {}, {"host1": host}, {}), "this test")) as kind:
        yield await kind.make("host1")
        await kind.remove()


def sparse(path: Path) -> bytes:
    """A file of 24 MiB with data in the middle and a hole at its end."""
    data = secrets.token_bytes(3_000_001)
    with path.open("wb") as file:
        file.seek(7 * 2**20 + 5)
        file.write(data)
        file.truncate(24 * 2**20)
    return data


async def folder(machine: SshMachine, path: str) -> list[str]:
    return (await machine.host.run(["ls", "-A", path])).text.split()


async def test_files_go_the_way_that_is_there(
    way: tuple[str, SshMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = way
    by_sftp: list[str] = []
    for function in (sftp.send, sftp.receive):

        async def counted(*words: object, done: object = function, name: str = function.__name__) -> object:
            by_sftp.append(name)
            return await done(*words)  # type: ignore[operator]

        monkeypatch.setattr(sftp, function.__name__, counted)
    here, back = tmp_path / "here", tmp_path / "back"
    sparse(here)
    here.chmod(0o755)
    async with on() as host:
        there = f"{host.runtime_directory}/new\nline"
        for _ in range(2):  # the second time it replaces the first
            await host.put(here, there)
        told = (await host.run(["stat", "-c", "%s %b %a", there])).text.split()
        assert (told[0], told[2]) == (str(24 * 2**20), "700"), "executable as it was, and nobody else's"
        assert int(told[1]) * 512 < 5 * 2**20, "holes stay holes"
        await host.get(there, back)
        assert back.read_bytes() == here.read_bytes()
        assert back.stat().st_blocks * 512 < 5 * 2**20
        assert stat.S_IMODE(back.stat().st_mode) == 0o700
        await host.get("/proc/version", back)  # of no size, as the system says
        assert back.read_bytes() == Path("/proc/version").read_bytes()
        assert by_sftp == (["send", "send", "receive"] if name == "sftp" else [])


def after_the_first_piece(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the first piece of a file that is sent is on its way, or of one that comes was written."""

    def pieces(descriptor: int, most_bytes: int = 2**16) -> Iterator[tuple[int, bytes]]:
        for number, piece in enumerate(original(descriptor, min(most_bytes, 2**18))):
            if number == 1:
                act()
            yield piece

    def write(self: local_file.Arriving, data: bytes, place: int) -> None:
        wrote(self, data, place)
        act()

    original, wrote = local_file.pieces, local_file.Arriving.write
    monkeypatch.setattr(local_file, "pieces", pieces)
    monkeypatch.setattr(sftp, "pieces", pieces)
    monkeypatch.setattr(local_file.Arriving, "write", write)


async def until_there_is(machine: SshMachine, path: str, wanted: list[str]) -> None:
    async for _ in Deadline.after(20).ticks(0.05):
        if await folder(machine, path) == wanted:
            return
    assert await folder(machine, path) == wanted


@pytest.mark.parametrize("way", ["sftp", "link"], indirect=True)
@pytest.mark.parametrize("direction", ["put", "get"])
async def test_a_copy_that_is_cancelled_leaves_nothing_half(
    way: tuple[str, SshMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    _, machine = way
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(secrets.token_bytes(5_000_000))
    back.write_text("as it was")
    async with on() as host:
        there, large = f"{host.runtime_directory}/file", f"{host.runtime_directory}/large"
        await host.run(["tee", there], stdin=b"as it was")
        await host.put(here, large)
        copy = host.put(here, there) if direction == "put" else host.get(large, back)
        task = asyncio.create_task(copy)
        after_the_first_piece(monkeypatch, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert back.read_text() == "as it was" and {p.name for p in tmp_path.iterdir()} == {"here", "back"}
        assert (await host.run(["cat", there])).text == "as it was"
        await until_there_is(machine, host.runtime_directory, ["file", "large", "limosa.json"])


@pytest.mark.parametrize("way", ["sftp", "link"], indirect=True)
async def test_a_connection_that_breaks_leaves_nothing_half(
    way: tuple[str, SshMachine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, machine = way
    here = tmp_path / "here"
    here.write_bytes(secrets.token_bytes(5_000_000))
    # Whoever serves a connection ends, not who listens.
    end = machine.host.interactive(["pkill", "-KILL", "-f", sshd.SESSIONS])
    async with on() as host:
        with monkeypatch.context() as patch:
            after_the_first_piece(patch, lambda: subprocess.run(end, check=False))
            with pytest.raises(StateError, match="the connection to host1 was lost"):
                await host.put(here, f"{host.runtime_directory}/file")
        await until_there_is(machine, host.runtime_directory, ["limosa.json"])


@pytest.mark.parametrize("way", ["sftp", "link"], indirect=True)
async def test_a_disk_that_is_full_is_said_and_keeps_nothing(way: tuple[str, SshMachine], tmp_path: Path) -> None:
    _, machine = way
    (tmp_path / "here").write_bytes(bytes(range(256)) * 20_000)
    async with on() as host:
        small = f"{host.runtime_directory}/small"
        await host.run(["mkdir", small])
        await machine.host.run(["mount", "-t", "tmpfs", "-o", f"size=1m,uid={sshd.USER_ID}", "tmpfs", small])
        try:
            with pytest.raises(LimosaError, match=os.strerror(errno.ENOSPC)):
                await host.put(tmp_path / "here", f"{small}/file")
            await until_there_is(machine, small, [])
            with pytest.raises(LimosaError, match=os.strerror(errno.EACCES)):
                await host.put(tmp_path / "here", "/etc/of-root")
            with pytest.raises(LimosaError, match=os.strerror(errno.EACCES)):
                await host.get("/etc/shadow", tmp_path / "back")
            assert not (tmp_path / "back").exists()
        finally:
            await machine.host.run(["umount", small])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("way", ["sftp"], indirect=True)
async def test_a_server_that_shows_other_files_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the subsystem is confined to a folder of its own: what the link names is not there."""
    (tmp_path / "here").write_text("text")
    send, asked = sftp.send, []

    async def confined(client: object, file: object, there: str) -> None:
        asked.append(there)
        await send(client, file, f"/confined{there}")  # type: ignore[arg-type]

    monkeypatch.setattr(sftp, "send", confined)
    async with on() as host:
        for name in ("a", "b"):
            await host.put(tmp_path / "here", f"{host.runtime_directory}/{name}")
            assert (await host.run(["cat", f"{host.runtime_directory}/{name}"])).text == "text"
    assert len(asked) == 1
