"""A real agent as a process on this machine, for the tests of the agent and its client."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from limosa.deadline import Deadline
from limosa.errors import MachineError
from limosa.events import Events
from limosa.guest.agent import AgentClient, build


@functools.cache
def compiled() -> Path | str:
    """The program, compiled once a session, or the reason why it cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="limosa-agent-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        asyncio.run(build(folder / "limosa-agent", Events()))
    except MachineError as error:
        return f"{error} ({error.hint})"
    return folder / "limosa-agent"


def program() -> Path:
    """The program; skips the test where there is no compiler."""
    made = compiled()
    if isinstance(made, str):
        pytest.skip(made)
    return made


@dataclass
class RunningAgent:
    """A process that listens at ``path``; ``folder`` is the test's own."""

    folder: Path
    process: asyncio.subprocess.Process
    clients: list[AgentClient] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "agent"

    def connect(self) -> socket.socket:
        """A blocking connection without a client."""
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(2)
        try:
            connected.connect(str(self.path))
        except OSError:
            connected.close()
            raise
        return connected

    async def client(self) -> AgentClient:
        """One more client; closed with the agent."""
        self.clients.append(await AgentClient.open(self.connect()))
        return self.clients[-1]


@contextlib.asynccontextmanager
async def running(binary: Path) -> AsyncIterator[RunningAgent]:
    """Start an agent, wait until it listens, end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="limosa-agent-") as name:
        folder = Path(name)
        process = await asyncio.create_subprocess_exec(binary, "--socket", str(folder / "agent"))
        agent = RunningAgent(folder, process)
        try:
            async for _ in Deadline.after(5).ticks(0.002):
                with contextlib.suppress(OSError), agent.connect():
                    break
            yield agent
        finally:
            for client in agent.clients:
                await client.close()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
