"""The controller's side of the prober: starts it, commands it, ends it with its own end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from limosa import bundle, process
from limosa.errors import LimosaError
from limosa.results.format import ClientReport

SHARED = ("arrival", "sample_file", "pane", "probe", "exchange")
"""What the probes' files import of this package, in the order in which these import each other."""
ANSWER_S = 10.0
"""How long the client may take to answer: it may have to write its samples on a busy machine."""


class Config(Protocol):
    """What a probe's sampler is told: a NamedTuple that stands in the probe's file."""

    def _asdict(self) -> dict[str, Any]: ...


class Reachable(Protocol):
    """The part of a Host that this module needs."""

    def interactive(self, argv: list[str]) -> list[str]:
        """The local command line that runs *argv* there."""
        ...


def program(modules: Sequence[str]) -> bytes:
    """The prober with these probes' modules."""
    shared = [f"{__package__}.{name}" for name in SHARED]
    sources = [(name, Path(str(importlib.import_module(name).__file__))) for name in [*shared, *modules]]
    return bundle.program([*sources, (f"{__package__}.loop", Path(__file__).with_name("loop.py"))])


def asked(configs: Sequence[Config], directory: Path) -> str:
    """What the prober is told: each config is that of the probe in whose file it stands."""
    return json.dumps({"directory": str(directory), "probes": {type(c).__module__: c._asdict() for c in configs}})


class ClientProbe:
    """A running prober. ``start`` it before the first migration and ``stop`` it after the last.

    The TCP connection is made by ``start`` and has to stay the only one until ``stop``.
    """

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._turn = asyncio.Lock()
        self._last: ClientReport | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, host: Reachable, configs: Sequence[Config], directory: Path, *, python: str = sys.executable
    ) -> AsyncIterator[ClientProbe]:
        """Run the probes that *configs* are for on *host* (the fabric).

        Their samples go to *directory*, seen there under the same path.

        Raises LimosaError when it cannot start, with what it said.
        """
        child = await process.start(host.interactive(bundle.command(python, asked(configs, directory))))
        assert child.stdin is not None
        child.stdin.write(program([type(config).__module__ for config in configs]))
        probe = cls(child)
        try:
            await probe._answer("ready")
            yield probe
            await probe.stop()
        finally:
            # Closing its input is enough; the rest is for a client that hangs.
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
