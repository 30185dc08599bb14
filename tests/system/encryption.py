"""What the tests of TLS share: somebody who stands on the way of a stream, and what a QEMU holds of its keys."""

from __future__ import annotations

import asyncio

from move_bench import GUEST, Bench

from limosa.events import Events
from limosa.qemu import guest_process, launches

SENT = (b"LOST page=", b"memory_mib=")
"""Texts of the guest's program, and what it was told at its start: they lie in its memory, and nowhere in QEMU's own
part of the stream."""

WATCH = """
import json, signal, socket, sys
all_protocols, ends, patterns = 3, [], [word.encode() for word in sys.argv[2:]]
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
there = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(all_protocols))
there.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
there.settimeout(0.05)
print("watching", flush=True)
seen, found = 0, 0
while not ends:
    try:
        packet = there.recv(1 << 17)
    except TimeoutError:
        continue
    seen += len(packet)
    found += any(pattern in packet for pattern in patterns)
with open(sys.argv[1], "w") as file:
    json.dump({"bytes": seen, "found": found}, file)
"""
"""Counts the packets, on whatever interface, that hold one of the patterns; it writes them down when it is ended."""


def keys(lab: Bench, host: str) -> list[str]:
    """What the QEMU on *host* holds of them."""

    async def asked() -> list[str]:
        (running,) = await launches.look(lab.host(host), GUEST)
        qemu = await guest_process.attach(lab.host(host), GUEST, running, Events())
        try:
            return await qemu.control.objects("tls-creds-x509")
        finally:
            await qemu.close()

    return asyncio.run(asked())
