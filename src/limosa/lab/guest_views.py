"""A person's way to a guest wherever it runs: its serial console and its screen, found again after each move.

Nothing here takes a monitor that a migration needs: where the guest is, is told by which hosts have a QEMU of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from limosa.errors import StateError
from limosa.hosts.host import Host
from limosa.lab import copies
from limosa.lab.guest import LabGuest
from limosa.lab.lab_hosts import LabHosts
from limosa.qemu.launches import runtime_directory
from limosa.spec import resolved

if TYPE_CHECKING:
    from limosa.guest.screen.camera import Camera

AGAIN_S = 0.05
"""Between two looks for a guest whose QEMU has just ended; a connection may also be refused while it ends."""

TRIES = 4


async def serial_sockets(hosts: LabHosts, guest: resolved.Guest) -> AsyncIterator[socket.socket]:
    """Connections to the guest's serial console: one where it runs, and another each time that it has moved.

    Raises StateError when it does not run at first; later its end ends the connections.
    """
    hosts.the_client()
    first = True
    while (host := await _place(hosts, guest, first)) is not None:
        try:
            connection = await host.connect(f"{runtime_directory(host, guest.name)}/serial.sock")
        except StateError:
            continue  # it ended between the two
        first = False
        yield connection


async def cameras(hosts: LabHosts, guest: resolved.Guest) -> AsyncIterator[Camera]:
    """Connections to the guest's screen, likewise. Raises StateError for a guest without one, BusyError when
    somebody else looks at it."""
    from limosa.guest.screen.camera import Camera

    hosts.the_client()
    if guest.display == "none":
        raise StateError(
            f"guest {guest.name} has no screen",
            hint=f"limosa console {guest.name} shows its console; `display: vga` in the lab file gives it a screen",
        )
    first = True
    while (host := await _place(hosts, guest, first)) is not None:
        try:
            camera = await Camera.open(host, guest.name)
        except StateError:
            continue
        first = False
        yield camera


async def _place(hosts: LabHosts, guest: resolved.Guest, first: bool) -> Host | None:
    """The host where *guest* is; None when it has ended. While it moves, the source until that has sent everything."""
    for _ in range(1 if first else TRIES):
        if names := await copies.hosts_of(LabGuest(hosts, guest)):  # read again: it moves
            return hosts.host(names[0])
        await asyncio.sleep(AGAIN_S)
    if first:
        raise await copies.stopped(LabGuest(hosts, guest))
    return None
