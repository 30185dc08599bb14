"""This machine itself behind the Host port, for tests of what needs a host and no namespaces."""

from __future__ import annotations

import asyncio
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from limosa import process
from limosa.errors import StateError
from limosa.hosts.host import HostFacts


def start(argv: Sequence[str], log: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process whose output is appended to *log*; the caller ends it."""
    with Path(log).open("ab") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)


class LocalHost:
    """Processes run on this machine; those that were spawned are ended by ``close``."""

    def __init__(self, name: str = "here", runtime_directory: str = "/nonexistent/limosa") -> None:
        """*runtime_directory*: nothing of a test belongs into the machine's own."""
        self.name = name
        self.python = sys.executable
        self.ran: list[tuple[str, ...]] = []
        self._spawned: list[subprocess.Popen[bytes]] = []
        self.runtime_directory = runtime_directory

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout_s: float | None = None,
        as_root: bool = False,
    ) -> process.Completed:
        self.ran.append(tuple(argv))
        return await process.run(argv, stdin=stdin, env=env, check=check, timeout_s=timeout_s)

    async def spawn(self, argv: Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> int:
        child = start(argv, log, env)
        self._spawned.append(child)
        return child.pid

    async def connect(self, path: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, path)
        except OSError as error:
            connection.close()
            raise StateError(f"nobody listens at {path}") from error
        return connection

    async def put(self, local: Path, path: str) -> None:
        shutil.copyfile(local, path)

    async def get(self, path: str, local: Path) -> None:
        shutil.copyfile(path, local)

    async def facts(self) -> HostFacts:
        return HostFacts(platform.release(), "a CPU", 1, 2**30, 2**30, kvm=False, tun=False)

    async def alive(self) -> bool:
        return True

    def interactive(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def close(self) -> None:
        for child in self._spawned:
            child.kill()
            child.wait()
