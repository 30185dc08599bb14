"""This machine itself as a host: its own network, its own user, nothing made.

For labs whose hosts are all elsewhere: the probes that measure guests run from here, under the name ``client``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from limosa import bundle, process
from limosa.errors import LimosaError, MachineError
from limosa.events import Events
from limosa.hosts.link.host import LinkedHost
from limosa.hosts.link.wire import StreamWire, Wire


class LocalOpener:
    """The far end is a child of this process."""

    async def open(self, *, as_root: bool) -> Wire:
        """A wire to a child that runs the far end."""
        argv = bundle.command(sys.executable)
        child = await process.start(["sudo", "-n", "--", *argv] if as_root else argv)
        assert child.stdin is not None and child.stdout is not None

        async def hang_up() -> None:
            await process.stop(child)

        return StreamWire(child.stdout, child.stdin, hang_up, child.stderr)

    def refused(self, said: str, *, as_root: bool) -> LimosaError:
        """The error for sudo, or for this Python, that does not serve."""
        last = said.splitlines()[-1] if said else "it said nothing"
        if as_root:
            return MachineError(f"sudo does not let limosa work as root here: {last}", hint="run limosa as root")
        return MachineError(f"{sys.executable} cannot serve this machine itself: {last}")

    def interactive(self, argv: Sequence[str]) -> list[str]:
        """*argv* itself: it runs here."""
        return list(argv)


class LocalHost(LinkedHost):
    """This machine. Its runtime directory belongs to the lab, which makes and removes it."""

    def __init__(self, name: str, runtime_directory: str, events: Events | None = None) -> None:
        super().__init__(name, runtime_directory, LocalOpener(), events)
