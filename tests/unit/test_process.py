"""The process door: a cancellation that comes while a process is being made ends its whole group, and ends itself."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import MachineError

# The second process of the group holds all three pipes and waits for its input, as a compiler's second stage does.
ARGV = ["sh", "-c", 'sh -c "echo \\$\\$ > new && mv new pid; cat"; true']


async def run(folder: Path) -> None:
    await process.run(ARGV, stdin=b"x", cwd=folder)


async def start(folder: Path) -> None:
    child = await process.start(ARGV, cwd=folder)
    await process.stop(child)


@pytest.mark.parametrize("work", [run, start])
async def test_a_cancellation_while_a_process_is_made_ends_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Path], Awaitable[None]]
) -> None:
    task = asyncio.ensure_future(work(tmp_path))
    pid = tmp_path / "pid"
    made = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        child = made(*arguments, **options)
        limit = time.monotonic() + 20
        while not pid.exists() and time.monotonic() < limit:
            time.sleep(0.002)
        task.cancel()  # as the handler of Ctrl-C does, wherever the program is
        return child

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    done, _ = await asyncio.wait({task}, timeout=20)
    assert done, "the cancelled command hangs"
    assert task.cancelled()
    second = Path("/proc", pid.read_text().strip())
    async for _ in Deadline.after(20).ticks(0.01):  # init may take a moment to reap it
        if not second.exists():
            return
    pytest.fail("a process of the group was left behind")


async def detach(argv: list[str], log: Path) -> None:
    process.detach(argv, log=log)


@pytest.mark.parametrize(
    "begin",
    [lambda argv, log: process.run(argv), lambda argv, log: process.start(argv), detach],
    ids=["run", "start", "detach"],
)
async def test_a_program_that_may_not_be_run_is_said(
    begin: Callable[[list[str], Path], Awaitable[Any]], tmp_path: Path
) -> None:
    """As one that was built in a cache on a file system mounted noexec: its mode is right, and it is refused."""
    program = tmp_path / "host_primes"
    program.touch(mode=0o644)
    with pytest.raises(MachineError, match="host_primes cannot be run: Permission denied") as caught:
        await begin([str(program)], tmp_path / "log")
    assert "noexec" in caught.value.hint
    with pytest.raises(MachineError, match="no-such-program is not installed"):
        await begin(["no-such-program"], tmp_path / "log")
