"""The connection over which a source sends, seen from its host: whether it moves, an end to it, or patience with it.

QEMU itself cannot always be asked: while it sends the rest of a stopped guest its main loop may stand still.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from limosa import untrusted
from limosa.errors import LimosaError
from limosa.hosts.host import Host
from limosa.qemu.launches import Running

_PROGRAM = Path(__file__).with_name("sockets.py")

PATIENCE_S = 10.0


class _Told(msgspec.Struct, frozen=True):
    found: int
    arrived: int


class Stream:
    """The stream of a migration from the QEMU *running* on *host* to *uri* (``tcp:ADDRESS:PORT``).

    It has one connection or several. No other process's is ever touched.
    """

    def __init__(self, host: Host, running: Running, uri: str) -> None:
        self.host, self.running, self.uri = host, running, uri
        self._arrived = -1

    async def moved(self) -> bool | None:
        """Whether more has arrived at the other side since this was asked last; None when it cannot be told."""
        told = await self._ask("look")
        if told is None:
            return None
        before, self._arrived = self._arrived, told.arrived
        return told.arrived > before

    async def cut(self) -> bool:
        """End it: whoever waits in it goes on, with an error. False when that could not be done."""
        return await self._ask("cut") is not None

    async def hold(self) -> bool | None:
        """Have it outlast a link that is dark for longer than TCP waits; whether there is one by now. None when that
        cannot be done."""
        told = await self._ask("hold")
        return None if told is None else told.found > 0

    async def stop_connecting(self) -> None:
        """End what the source has not connected yet, to whichever port: TCP tries for two minutes, and a connection
        that comes late, when another was made meanwhile, ends QEMU 7.2. One that is made is not touched."""
        await self._ask("stop-connecting", port="0")

    async def _ask(self, verb: str, port: str = "") -> _Told | None:
        """As the login, or as root where it has not the rights. *port*: instead of the stream's own; ``0`` is any."""
        return await self._asked(verb, port, as_root=False) or await self._asked(verb, port, as_root=True)

    async def _asked(self, verb: str, port: str, *, as_root: bool) -> _Told | None:
        address, _, own = self.uri.removeprefix("tcp:").rpartition(":")
        it = [str(self.running.pid), str(self.running.started)]
        argv = ["python3", "-I", "-S", "-", verb, *it, address.strip("[]"), port or own]
        try:
            done = await self.host.run(
                argv, stdin=_PROGRAM.read_bytes(), check=False, timeout_s=PATIENCE_S, as_root=as_root
            )
            return untrusted.decode(done.stdout, type=_Told)
        except (LimosaError, msgspec.DecodeError):
            return None
