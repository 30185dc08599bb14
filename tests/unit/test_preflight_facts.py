"""How facts of a move are gathered: clocks, files, locks, userfaultfd, what QEMU tells of itself."""

from __future__ import annotations

import contextlib
import fcntl
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from limosa import userfaultfd
from limosa.errors import LimosaError
from limosa.events import Events
from limosa.hosts.host import Host
from limosa.lab import preflight, sight_program
from limosa.migration.preflight.facts import File
from limosa.process import Completed
from limosa.qemu.monitor import Monitor
from limosa.storage import seen_file
from tests.fake_qmp import Error, FakeQmp, Script
from tests.local_host import LocalHost


class WrongClock(LocalHost):
    """This machine, with a clock that is ahead, and that now and then takes its time to answer."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self._ahead_ns = int(ahead_s * 1e9)

    async def facts(self) -> Any:
        return msgspec.structs.replace(await super().facts(), time_ns=time.time_ns() + self._ahead_ns)


@pytest.mark.parametrize("ahead_s", [0.0, 0.25, -7200.0])
async def test_a_clock_is_read_within_what_is_said_of_it(ahead_s: float) -> None:
    ahead_ns, uncertainty_ns = await preflight._clock(WrongClock(ahead_s))
    assert abs(ahead_ns - ahead_s * 1e9) <= uncertainty_ns + 1000, "half the time of an answer is not known"


async def test_a_host_tells_its_own_time() -> None:
    from limosa.hosts import own_facts

    before, told, after = time.time_ns(), own_facts.facts().time_ns, time.time_ns()
    assert before <= told <= after


@contextlib.contextmanager
def held(path: Path, *, start: int = 100, kind: int = fcntl.F_RDLCK) -> Any:
    """Hold a lock on *path* as QEMU does."""
    with path.open("r+b") as file:
        fcntl.fcntl(file, 37, struct.pack("hhqqi", kind, 0, start, 1, 0))
        yield


def test_a_lock_is_seen_that_another_holds_as_qemu_does(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    look = {"head": False, "lock": True}
    assert seen_file.look(str(path), **look)["locked"] is False
    with held(path):
        assert seen_file.look(str(path), **look)["locked"] is True
    with held(path, start=500):
        assert seen_file.look(str(path), **look)["locked"] is False, "another program's"
    with held(path):
        assert seen_file.look(str(path), **look)["locked"] is True, "it is not taken by looking"


def test_a_file_is_told_by_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "base"
    path.write_bytes(b"a" * seen_file.HEAD_BYTES + b"b")
    first = msgspec.convert(seen_file.look(str(path), head=True, lock=False), File)
    assert (first.there, first.readable, first.size_bytes) == (True, True, seen_file.HEAD_BYTES + 1)
    assert (first.device, first.inode) == (path.stat().st_dev, path.stat().st_ino) and first.locked is None
    path.write_bytes(b"A" + b"a" * seen_file.HEAD_BYTES)
    assert msgspec.convert(seen_file.look(str(path), head=True, lock=False), File).head != first.head
    assert seen_file.look(str(tmp_path / "none"), head=True, lock=True) == {"there": False}


async def test_one_program_sees_all_that_is_asked_for(tmp_path: Path) -> None:
    here, gone = tmp_path / "disk", tmp_path / "gone"
    here.write_bytes(b"disk")
    looks = {str(path): {"head": True, "lock": True} for path in (here, gone)}
    sight = await preflight._sight(cast(Host, LocalHost()), looks, faults=True)
    assert sight.files[str(here)].inode == here.stat().st_ino and sight.files[str(here)].locked is False
    assert not sight.files[str(gone)].there
    assert (sight.faults_by_call, sight.faults_by_device) == (userfaultfd.by_call(), userfaultfd.by_device())
    assert (await preflight._sight(cast(Host, LocalHost()), {})).faults_by_call is None, "it was not asked for"


async def test_hosts_of_one_kernel_tell_which_files_they_see(tmp_path: Path) -> None:
    """Missing ones are in no line of the answer, and the others must not be taken for them."""
    paths = [tmp_path / name for name in ("a", "gone", "b b", "ab")]
    for path in paths:
        if path.name != "gone":
            path.write_text(path.name)
    sight = await preflight._same_kernel_sight(cast(Host, LocalHost()), [str(path) for path in paths])
    assert [sight.files[str(path)].there for path in paths] == [True, False, True, True]
    for path in (paths[0], paths[2], paths[3]):
        assert sight.files[str(path)].inode == path.stat().st_ino
    assert (await preflight._same_kernel_sight(cast(Host, LocalHost()), [])).files == {}


class Liar(LocalHost):
    """A host whose Python says what it likes."""

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, b'{"files": 7}', b"", 0.0)


async def test_what_is_no_answer_is_an_error_of_ours() -> None:
    with pytest.raises(LimosaError, match="did not tell what it sees"):
        await preflight._sight(cast(Host, Liar()), {})


def test_the_program_prints_what_it_saw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["-", json.dumps({"files": {}, "faults": False})])
    sight_program.main()
    assert json.loads(capsys.readouterr().out) == {"files": {}}


@contextlib.asynccontextmanager
async def monitor(folder: Path, script: Script) -> AsyncIterator[Monitor]:
    async with FakeQmp(folder / "qmp", script).serving() as fake:
        opened = await Monitor.open(cast(Host, LocalHost()), str(fake.path), "web", Events(), "observe")
        try:
            yield opened
        finally:
            await opened.close()


async def test_qemu_tells_what_blocks_a_guest_and_what_its_memory_is_in(tmp_path: Path) -> None:
    objects = [
        {"name": "pc.ram", "type": "child<memory-backend-file>"},
        {"name": "entropy", "type": "child<rng-builtin>"},
    ]
    script: Script = {
        "query-migrate": {"blocked-reasons": ["non-migratable device: nvme"]},
        "qom-list": lambda _: objects,
        "qom-get": "/var/ram",
    }
    async with monitor(tmp_path, script) as asked:
        assert (await asked.migrate_info()).blocked_reasons == ("non-migratable device: nvme",)
        assert await asked.objects("memory-backend-file") == ["pc.ram"]
        assert await asked.object_text("pc.ram", "mem-path") == "/var/ram"
    async with monitor(tmp_path, {"query-migrate": {}}) as asked:
        assert (await asked.migrate_info()).blocked_reasons == ()


async def test_qemu_tells_how_large_a_queue_is(tmp_path: Path) -> None:
    command = "x-query-virtio-queue-status"
    async with monitor(tmp_path, {command: {"vring-num": 8, "vring-desc": 0}}) as asked:
        assert await asked.queue_entries("rng0") == 8
    for refusal in (Error("no such device"), Error("no such command", "CommandNotFound")):
        async with monitor(tmp_path, {command: refusal}) as asked:
            assert await asked.queue_entries("rng0") is None
