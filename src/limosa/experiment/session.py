"""A login session that was opened before the first migration and has to be the same one after the last."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limosa import process
from limosa.deadline import Deadline
from limosa.errors import LimosaError
from limosa.lab import Lab
from limosa.results.format import Check

OPEN_S = 60.0
"""A login may take this long: the key exchange alone takes some seconds in an emulated guest."""

ANSWER_S = 20.0


class SshSession:
    """One ``ssh`` that runs ``cat`` in the guest: what is written comes back."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.exchanges = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, lab: Lab, guest: str) -> AsyncIterator[SshSession]:
        """Log in. Raises LimosaError, with what ssh said, when that does not succeed."""
        session = await cls._first(lab, guest)
        try:
            yield session
        finally:
            await session.close()

    @classmethod
    async def _first(cls, lab: Lab, guest: str) -> SshSession:
        """The agent may answer before the guest's sshd listens; so a refused login is tried again until OPEN_S."""
        deadline = Deadline.after(OPEN_S)
        async for _ in deadline.ticks(0.5):
            session = cls(await process.start(lab.guests.ssh(guest, ["cat"])))
            try:
                await session.exchange(OPEN_S)
                return session
            except LimosaError as error:
                await session.close()
                if deadline.passed or "refused" not in error.message:
                    raise
            except BaseException:
                await session.close()
                raise
        raise LimosaError(f"{guest} refused every SSH login for {OPEN_S:g} s", hint=f"limosa logs {guest}")

    async def close(self) -> None:
        """Log out."""
        if self._child.stdin is not None:
            self._child.stdin.close()
        await process.stop(self._child)

    async def exchange(self, limit_s: float = ANSWER_S) -> None:
        """Write a line that nobody could guess and read it back. Raises LimosaError."""
        assert self._child.stdin is not None and self._child.stdout is not None and self._child.stderr is not None
        line = f"{secrets.token_hex(8)}\n".encode()
        answer = b""
        try:
            async with asyncio.timeout(limit_s):
                with contextlib.suppress(ConnectionError):  # a login that was refused: what ssh said follows
                    self._child.stdin.write(line)
                    await self._child.stdin.drain()
                answer = await self._child.stdout.readline()
        except ValueError as error:  # a line without end
            raise LimosaError("the SSH session answered something else than it was asked") from error
        except TimeoutError as error:
            raise LimosaError(f"the SSH session did not answer within {limit_s:g} s") from error
        if not answer:
            said = (await self._child.stderr.read()).decode(errors="replace").strip()
            raise LimosaError(f"the SSH session ended: {said or 'ssh said nothing'}")
        if answer != line:
            raise LimosaError("the SSH session answered something else than it was asked")
        self.exchanges += 1

    async def check(self) -> Check:
        """Whether the session is still the one that was opened."""
        try:
            await self.exchange()
        except LimosaError as error:
            return Check(name="ssh-session", passed=False, detail=error.message)
        detail = f"the session opened before the first migration answered {self.exchanges} times, and still does"
        return Check(name="ssh-session", passed=True, detail=detail)
