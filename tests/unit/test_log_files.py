"""Logs are cut in place, while their writers go on, and keep their ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from limosa.lab import log_files
from limosa.process import run
from tests.local_host import LocalHost, start

LIMIT = 64 * 1024
WRITER = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while True:
    os.write(log, b"".join(b"line %09d\\n" % n for n in range(number, number + 100)))
    number += 100
"""


def numbers(log: Path) -> list[int]:
    """Of the whole lines; the first may be the rest of one."""
    return [int(line.split()[1]) for line in log.read_bytes().split(b"\n")[1:-1]]


def write(log: Path, lines: int) -> None:
    log.write_bytes(b"".join(b"line %09d\n" % number for number in range(lines)))


@pytest.fixture(params=["blocks", "a small system"])
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With a ``fallocate`` that takes whole blocks away, and without one."""
    if request.param == "a small system":
        (tmp_path / "bin").mkdir()
        for name in ("sh", "stat", "tail", "cat", "rm"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name) or "")
        monkeypatch.setattr("limosa.process.base_environment", lambda extra=None: {"PATH": f"{tmp_path}/bin"})
    yield request.param


async def test_the_end_is_kept(tmp_path: Path, system: str) -> None:
    long, short, other = tmp_path / "g@h.console.log", tmp_path / "short.log", tmp_path / "spec.json"
    write(long, 20_000)
    write(short, 10)
    write(other, 20_000)
    before = other.read_bytes(), short.read_bytes(), long.stat().st_ino
    await log_files.cut(tmp_path, [], LIMIT)
    assert LIMIT - 4096 <= long.stat().st_size <= LIMIT
    found = numbers(long)
    assert found == list(range(found[0], 20_000))
    assert (other.read_bytes(), short.read_bytes(), long.stat().st_ino) == before


async def test_whoever_appends_goes_on(tmp_path: Path, system: str) -> None:
    log = tmp_path / "g@h.console.log"
    writer = start([sys.executable, "-I", "-S", "-c", WRITER, str(log)], os.devnull)
    try:
        for _ in range(3):
            async for _ in Deadline.after(10).ticks(0.005):
                if log.exists() and log.stat().st_size > 4 * LIMIT:
                    break
            await log_files.cut(tmp_path, [], LIMIT)
    finally:
        writer.kill()
        writer.wait()
    assert log.stat().st_blocks * 512 <= log.stat().st_size + (1 << 16), "no hole is left where the beginning was"
    await log_files.cut(tmp_path, [], LIMIT)
    assert b"\0" not in log.read_bytes() and log.stat().st_size <= LIMIT
    if system == "blocks":  # a small system may put what comes meanwhile before what it keeps
        found = numbers(log)
        assert found == list(range(found[0], found[-1] + 1))


async def test_a_host_of_its_own(tmp_path: Path) -> None:
    host = LocalHost("far")
    host.runtime_directory = str(tmp_path)
    (tmp_path / "log").mkdir()
    write(tmp_path / "log/g@far.console.log", 20_000)
    await log_files.cut(tmp_path / "none", [host], LIMIT)
    assert (tmp_path / "log/g@far.console.log").stat().st_size <= LIMIT


async def test_the_ends_of_what_a_host_keeps_itself(tmp_path: Path) -> None:
    """Whatever a guest prints: a zero begins no other log."""
    host = LocalHost("far")
    host.runtime_directory = str(tmp_path)
    assert await log_files.ends(host, 3) == {}
    (tmp_path / "log").mkdir()
    write(tmp_path / "log/g@far.qemu.log", 10)
    (tmp_path / "log/g@far.console.log").write_bytes(b"old\nfirst\0\nsec\0ond\nlast")
    (tmp_path / "log/other.txt").write_text("no log")
    assert await log_files.ends(host, 3) == {
        "g@far.console.log": "first\nsecond\nlast",
        "g@far.qemu.log": "line 000000007\nline 000000008\nline 000000009\n",
    }


async def test_what_is_no_log_of_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    write(tmp_path / "elsewhere", 20_000)
    (tmp_path / "log/g.log").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "log/-n.log").mkdir()
    await log_files.cut(tmp_path / "log", [], LIMIT)
    assert (tmp_path / "elsewhere").stat().st_size > LIMIT
    await log_files.cut(tmp_path / "nothing", [], LIMIT)


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="QEMU is not installed")
async def test_qemu_appends_to_what_it_logs(tmp_path: Path) -> None:
    """Else a log that was cut would have a hole as long as all that was printed before."""
    log = tmp_path / "console.log"
    chardev = f"null,id=console,logfile={log},logappend=on"
    argv = ["qemu-system-x86_64", "-M", "none", "-nodefaults", "-display", "none", "-chardev", chardev]
    machine = asyncio.create_task(run([*argv, "-pidfile", str(tmp_path / "pid")]))
    try:
        opened: list[str] = []
        async for _ in Deadline.after(20).ticks(0.01):
            if log.exists() and (tmp_path / "pid").exists() and (pid := (tmp_path / "pid").read_text().strip()):
                process = Path("/proc", pid)
                opened = [f.name for f in (process / "fd").iterdir() if os.path.realpath(f) == str(log)]
            if opened:
                break
        number = opened[0]
        flags = next(s for s in (process / "fdinfo" / number).read_text().splitlines() if s.startswith("flags:"))
        assert int(flags.split()[1], 8) & os.O_APPEND
    finally:
        machine.cancel()
        await asyncio.gather(machine, return_exceptions=True)
