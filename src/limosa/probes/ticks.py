"""Ticks: datagrams that the guest sends by itself, some thousand a second. They carry its clocks.

Part of the prober too (see ``limosa.probes.probe``): standard library alone.
"""

from __future__ import annotations

import socket
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from limosa.probes.arrival import ANCILLARY_BYTES, Gap, stamp_of, udp_socket
from limosa.probes.pane import Pane, Silence
from limosa.probes.probe import Place, Probe, Sampler
from limosa.probes.sample_file import SampleFile

if TYPE_CHECKING:
    from pathlib import Path

    from limosa.guest.agent.client import AgentClient
    from limosa.probes.pace import Probing
    from limosa.probes.whole_numbers import Column

TICK = struct.Struct("!4sHHQQQ")
"""A guest's tick: magic, version, flags, sequence, guest CLOCK_MONOTONIC ns, guest CLOCK_REALTIME ns."""
TICK_MAGIC, TICK_VERSION = b"LMTK", 1
TICK_PORT = 7008

COLUMNS = {"sequence": int, "guest_monotonic_ns": int, "guest_realtime_ns": int, "received_ns": int}


@dataclass(frozen=True, slots=True)
class Ticks:
    """The guest's ticks in the order of arrival; four columns of equal length."""

    sequence: Column
    guest_monotonic_ns: Column
    guest_realtime_ns: Column
    received_ns: Column

    def __len__(self) -> int:
        return len(self.sequence)


class TickConfig(NamedTuple):
    """Where the guest sends its ticks to, in the client's namespace."""

    port: int
    address: str = "0.0.0.0"
    source: str = ""
    """Only ticks from this address count; empty: from any."""


class TickSampler(Sampler):
    """Takes the guest's ticks out of the socket in batches."""

    def __init__(self, config: TickConfig, path: str) -> None:
        super().__init__()
        self._udp = udp_socket()
        if config.source:  # guests that are measured at once tick to one port
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._udp.bind((config.address, config.port))
        if config.source:  # from now on it hears that guest alone; 0: whatever port it sends from
            self._udp.connect((config.source, 0))
        self._source = config.source
        self._buffer_bytes = self._udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._rows, self._buffer = array("Q"), bytearray(256)
        self._file = SampleFile(path, COLUMNS)
        self.count = self.foreign = self.drops = self._drops_before = 0

    def forget(self) -> None:
        """What came before the start does not count."""
        self.drain()
        del self._rows[:]
        self.gap, self.count, self.foreign, self._drops_before = Gap(), 0, 0, self.drops

    def drain(self) -> None:
        """Read all that has arrived."""
        receive, buffer, rows, gap = self._udp.recvmsg_into, self._buffer, self._rows, self.gap
        while True:
            try:
                length, ancillary, _flags, address = receive([buffer], ANCILLARY_BYTES)
            except BlockingIOError:
                return
            received_ns, drops = stamp_of(ancillary)
            self.drops = drops or self.drops
            magic, version, _bits, sequence, monotonic_ns, realtime_ns = TICK.unpack_from(buffer)
            ours = length >= TICK.size and magic == TICK_MAGIC and version == TICK_VERSION
            if not ours or (self._source and address[0] != self._source):
                self.foreign += 1
                continue
            rows.extend((sequence, monotonic_ns, realtime_ns, received_ns))
            self.count += 1
            gap.arrived(received_ns)

    def flush(self, everything: bool = False) -> None:
        """Append what is in memory to the file."""
        cells = iter(self._rows)
        text = "".join([f"{a},{b},{c},{d}\n" for a, b, c, d in zip(cells, cells, cells, cells, strict=True)])
        del self._rows[:]
        self._file.append(text)

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        drops = (self.drops - self._drops_before) & 0xFFFFFFFF
        counts = {"count": self.count, "foreign": self.foreign, "kernel_drops": drops}
        return {**counts, "buffer_bytes": self._buffer_bytes, "problem": self._file.problem, **self.gap.report()}


class TickProbe(Probe[Ticks]):
    """The guest's ticks."""

    name = "ticks"
    columns = COLUMNS
    rows = Ticks
    config = TickConfig
    sampler = TickSampler
    moment = "received_ns"
    guest_clock = ("guest_monotonic_ns", "received_ns")
    series = (
        Silence(
            Pane("ticks", "Silence of the guest, between its ticks", "ms", height=96, logarithmic=True),
            "purple",
            reading="silence",
            arrived="received_ns",
        ),
    )
    subject = "Silence of the guest"
    absent = "no tick was received in this run"

    def wanted(self, probing: Probing, place: Place) -> TickConfig:
        """At any pace."""
        return TickConfig(TICK_PORT, source=place.guest)

    def described(self, probing: Probing) -> dict[str, object]:
        """As a rate."""
        return {"ticks per s": round(1e6 / probing.tick_interval_us)}

    async def clear(self, agent: AgentClient) -> None:
        """Silence."""
        await agent.ticks_stop()

    async def begin(self, agent: AgentClient, probing: Probing, place: Place) -> None:
        """The guest sends to the client."""
        await agent.ticks_start(place.client, TICK_PORT, interval_us=probing.tick_interval_us)

    async def finish(self, agent: AgentClient, path: Path) -> None:
        """Silence."""
        await agent.ticks_stop()


PROBE = TickProbe()
