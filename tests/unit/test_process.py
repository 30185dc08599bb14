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
