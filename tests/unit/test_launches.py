"""Which QEMUs of a guest exist on a host: told by its processes, and never by an answer that did not come."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import UnreachableError
from limosa.hosts.local import LocalHost
from limosa.process import Completed
from limosa.qemu import launches
from limosa.qemu.launches import Running

ID = "5eed0000000000000000000000000002"


class Here(LocalHost):
    """This machine, without a far end; each program is looked for in *shims* first."""

    shims = ""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
        as_root: bool = False,
    ) -> Completed:
        path = {"PATH": f"{self.shims}:/usr/bin:/bin"}
        return await process.run(argv, stdin=stdin, env=path, check=check, timeout_s=timeout_s)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Running]:
    """A process that looks as the guest's QEMU does."""
    pidfile = f"{tmp_path}/guests/web/{launches.PIDFILE}"
    words = ["-pidfile", pidfile, "-chardev", f"{launches.LAUNCH}{ID}"]
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as started:
        stat = Path(f"/proc/{started.pid}/stat").read_text()
        yield Running(ID, started.pid, int(stat.rpartition(")")[2].split()[19]))
        started.kill()


@pytest.fixture
def host(tmp_path: Path) -> Here:
    made = Here("host1", str(tmp_path))
    made.shims = str(tmp_path)
    return made


def shim(host: Here, program: str, text: str) -> None:
    path = Path(host.shims) / program
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_a_process_is_seen_and_nothing_else(host: Here, guest: Running) -> None:
    assert await launches.look(host, "web") == [guest]
    assert await launches.look(host, "other") == []
    assert await launches.exists(host, guest)
    assert not await launches.exists(host, Running(ID, guest.pid, guest.started + 1))


@pytest.mark.parametrize(("program", "text"), [
    ("grep", "exit 127"), ("grep", "kill -9 $$"),
    ("grep", 'PATH=/usr/bin:/bin; grep "$@"; kill -9 $$'),
    ("grep", "exit 1"), ("tr", "exit 127"), ("tr", "kill -9 $$"),
])  # fmt: skip
async def test_a_look_that_was_broken_off_does_not_say_that_there_is_none(
    host: Here, guest: Running, program: str, text: str
) -> None:
    """As on a host without room for another process, or without memory."""
    shim(host, program, text)
    with pytest.raises(UnreachableError, match="what runs on host1 cannot be told"):
        await launches.look(host, "web")


@pytest.mark.parametrize("text", ["exit 126", "kill -9 $$"])
async def test_a_question_that_was_broken_off_is_not_answered_by_no(host: Here, guest: Running, text: str) -> None:
    shim(host, "sh", text)
    with pytest.raises(UnreachableError, match="cannot be told"):
        await launches.exists(host, guest)


@pytest.fixture
def late(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that only becomes what looks like the guest's QEMU."""
    words = ["-pidfile", f"{tmp_path}/guests/web/{launches.PIDFILE}", "-chardev", f"{launches.LAUNCH}{ID}"]
    script = f"sleep 0.05; exec {shlex.join([sys.executable, '-c', 'input()', *words])}"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE) as started:
        yield started


async def test_what_was_spawned_is_waited_for_until_it_executes_qemu(host: Here, late: subprocess.Popen[bytes]) -> None:
    seen = await launches.appeared(host, "web", ID, late.pid, Deadline.after(20))
    assert seen is not None and (seen.launch, seen.pid) == (ID, late.pid)
    late.kill()
    late.wait()
    assert await launches.appeared(host, "web", ID, late.pid, Deadline.after(20)) is None
