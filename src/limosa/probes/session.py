"""The controller's side of the client that probes a guest: starts it, commands it, ends it with its own end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from limosa import process
from limosa.errors import LimosaError
from limosa.results.format import ClientReport

PROGRAM = Path(__file__).with_name("client.py")
ANSWER_S = 10.0
"""How long the client may take to answer: it may have to write its samples on a busy machine."""


class Reachable(Protocol):
    """The part of a Host that this module needs."""

    def interactive(self, argv: list[str]) -> list[str]:
        """The local command line that runs *argv* there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TickConfig:
    """Where the guest sends its ticks to, in the client's namespace."""

    port: int
    address: str = "0.0.0.0"
    source: str = ""
    """Only ticks from this address count; empty: from any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoConfig:
    """The guest's UDP echo. More than some 50 a second slows a migration on a small machine."""

    address: str
    port: int
    rate_hz: float = 20.0
    """1 to 1000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """The guest's TCP service: it gives back every byte. The next request follows *interval_ms* after the answer."""

    address: str
    port: int
    interval_ms: float = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What the client does; a part that is None is left out."""

    tick: TickConfig | None = None
    echo: EchoConfig | None = None
    service: ServiceConfig | None = None


class ClientProbe:
    """A running client. ``start`` it before the first migration and ``stop`` it after the last.

    The TCP connection is made by ``start`` and has to stay the only one until ``stop``.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._turn = asyncio.Lock()
        self._last: ClientReport | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, host: Reachable, config: ClientConfig, directory: Path, *, python: str = sys.executable
    ) -> AsyncIterator[ClientProbe]:
        """Run the client on *host* (the fabric); its samples go to *directory*, seen there under the same path.

        Raises LimosaError when it cannot start, with what it said.
        """
        wanted = {"directory": str(directory), **msgspec.to_builtins(config)}
        argv = host.interactive([python, "-I", "-S", str(PROGRAM), json.dumps(wanted)])
        child = await process.start(argv)
        probe = cls(child)
        try:
            await probe._answer("ready")
            yield probe
            await probe.stop()
        finally:
            # Closing its input is enough; the rest is for a client that hangs.
            if child.stdin is not None:
                child.stdin.close()
            await process.stop(child)

    async def start(self) -> int:
        """Begin to listen, ask and connect. Return the moment (CLOCK_REALTIME, ns)."""
        return int((await self._ask({"do": "start"}, "start"))["time_ns"])

    async def mark(self, name: str) -> int:
        """Let the figures ``since_mark_ms`` begin anew, before a migration. Return the moment in ns."""
        return int((await self._ask({"do": "mark", "name": name}, "mark"))["time_ns"])

    async def status(self) -> ClientReport:
        """Counts and longest gaps so far, for a live display."""
        return _report(await self._ask({"do": "status"}, "status"))

    async def stop(self) -> ClientReport:
        """Write all samples, end the client and return its last report; a second time returns the same."""
        if self._last is None:
            self._last = _report(await self._ask({"do": "stop"}, "stop"))
            # Its samples are written; one that takes long to end is ended by ``open``.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await self._child.wait()
        return self._last

    async def _ask(self, command: dict[str, Any], answer: str) -> dict[str, Any]:
        assert self._child.stdin is not None
        # Two tasks may ask at once: a live display, and the verb that it shows.
        async with self._turn:
            self._child.stdin.write(json.dumps(command).encode() + b"\n")
            return await self._answer(answer)

    async def _answer(self, wanted: str) -> dict[str, Any]:
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                line = await self._child.stdout.readline()
        except TimeoutError as error:
            raise LimosaError(
                f"the probing client did not answer within {ANSWER_S:g} s",
                hint="the machine may be too busy; `limosa doctor` shows its load",
            ) from error
        if not line:
            raise LimosaError(f"the probing client ended: {await self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("did") != wanted:
            raise LimosaError(f"the probing client refused: {answer.get('error', answer)}")
        return answer

    async def _last_words(self) -> str:
        assert self._child.stderr is not None
        said = (await self._child.stderr.read()).decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else "it said nothing"
        try:
            return str(json.loads(last)["error"])
        except (ValueError, KeyError, TypeError):
            return last


def _report(answer: dict[str, Any]) -> ClientReport:
    return msgspec.convert(answer, ClientReport)
