"""A measuring program under way: its lines are stamped as they come, parsed, and kept, untouched as well as parsed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from limosa import paths, process, tasks
from limosa.errors import LimosaError

FIRST_S = 60.0
"""How long a program may take until its first figure: an SSH login alone takes seconds in an emulated guest."""

Parse = Callable[[str], tuple[object, ...] | None]


class Load:
    """A child whose figures go to a CSV file, a row each, headed by the moment of arrival."""

    def __init__(self, child: asyncio.subprocess.Process, name: str) -> None:
        self._child, self._name = child, name
        self._said: list[str] = []
        self._first = asyncio.Event()
        self.count = 0
        self.trouble: LimosaError | None = None
        """Why figures are missing, if any are: the disk took no more of them."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, name: str, argv: Sequence[str], parse: Parse, table: Path, columns: Sequence[str], said: Path
    ) -> AsyncIterator[Load]:
        """Start the program *name* by *argv*; it is ended with the context.

        *table* takes the figures, *said* every line as it was.
        """
        load = cls(await process.start(argv), name)
        async with tasks.beside(load._read(parse, table, columns, said)) as (reader,):
            try:
                yield load
            finally:
                await tasks.uninterrupted(load._end(reader))

    async def _end(self, reader: asyncio.Future[None]) -> None:
        """SIGINT first: iperf3 then tells its server that the test is over. The child may be an ``nsenter`` that
        ends before what it started, so it is the group that is ended, and the output's end that is waited for."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            done, _ = await asyncio.wait({reader}, timeout=process.GRACE_S)
            if done:
                break
        await self._child.wait()
        await reader

    async def wait_first(self) -> None:
        """Until the first figure has come. Raises LimosaError, with what the program said, when none does."""
        try:
            async with asyncio.timeout(FIRST_S):
                await self._first.wait()
        except TimeoutError as error:
            raise LimosaError(f"{self._name} gave no figure within {FIRST_S:g} s{self._complaint()}") from error
        self.require_whole()
        if not self.count:
            raise LimosaError(f"{self._name} ended without a figure{self._complaint()}")

    def require_whole(self) -> None:
        """Raise the error by which figures are missing, if there is one."""
        if self.trouble is not None:
            raise self.trouble

    @property
    def alive(self) -> bool:
        """Whether the program still runs."""
        return self._child.returncode is None

    def _complaint(self) -> str:
        last = next((line for line in reversed(self._said) if line.strip()), "")
        return f": {last.strip()}" if last else "; it said nothing"

    async def _read(self, parse: Parse, table: Path, columns: Sequence[str], said: Path) -> None:
        """To the end of the output, also when its files cannot be written any more: a child that nobody reads stays."""
        assert self._child.stdout is not None and self._child.stderr is not None
        async with tasks.beside(self._child.stderr.read()) as (errors,):
            try:
                await self._tabulate(self._child.stdout, errors, parse, table, columns, said)
            except OSError as error:
                self.trouble = paths.cannot_write(error, table.parent)
                self._first.set()
                async for _ in self._child.stdout:
                    pass
        self._first.set()

    async def _tabulate(
        self,
        output: asyncio.StreamReader,
        errors: Awaitable[bytes],
        parse: Parse,
        table: Path,
        columns: Sequence[str],
        said: Path,
    ) -> None:
        with table.open("w", buffering=1) as rows, said.open("a", buffering=1) as all_of_it:
            rows.write(",".join(columns) + "\n")
            async for line in output:
                arrived_ns = time.time_ns()
                text = line.decode(errors="replace").rstrip("\n")
                all_of_it.write(text + "\n")
                self._said.append(text)
                figures = parse(text)
                if figures is not None:
                    rows.write(",".join(map(str, (arrived_ns, *figures))) + "\n")
                    self.count += 1
                    self._first.set()
            complaints = (await errors).decode(errors="replace")
            all_of_it.write(complaints)
        self._said += complaints.splitlines()
