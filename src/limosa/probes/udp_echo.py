"""UDP echoes: datagrams that the client sends at a steady rate and the guest gives back.

Part of the prober too (see ``limosa.probes.probe``): standard library alone.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from limosa.probes.arrival import ANCILLARY_BYTES, stamp_of, udp_socket
from limosa.probes.exchange import COLUMNS, ECHO_PORT, REQUEST, REQUEST_MAGIC, REQUEST_VERSION, ROUND_TRIPS, Exchanges
from limosa.probes.pane import Trip
from limosa.probes.probe import Place, Probe, Sampler
from limosa.probes.sample_file import SampleFile

if TYPE_CHECKING:
    from limosa.guest.agent.client import AgentClient
    from limosa.probes.pace import Probing

ECHO_LOST_NS = 10_000_000_000
"""An echo that has not come back after this long is written down as lost."""


class EchoConfig(NamedTuple):
    """The guest's UDP echo. More than some 50 a second slows a migration on a small machine."""

    address: str
    port: int
    rate_hz: float = 20.0
    """1 to 1000."""


class EchoSampler(Sampler):
    """Sends a datagram at a steady rate and notes when the kernel received its echo."""

    def __init__(self, config: EchoConfig, path: str) -> None:
        super().__init__()
        self._udp = udp_socket()
        self._udp.connect((config.address, config.port))
        self.interval_ns = int(1e9 / config.rate_hz)
        self._sent, self._received, self._base = array("Q"), array("Q"), 0
        self._buffer = bytearray(256)
        self._file = SampleFile(path, COLUMNS)
        self.due_ns = 0
        self.answered = self.refused = self.late = self.drops = 0

    def act(self, now_ns: int) -> None:
        """Send one; when sends were missed the schedule moves on, for a burst would disturb."""
        missed = now_ns - self.due_ns > self.interval_ns
        self.due_ns = (now_ns if missed else self.due_ns) + self.interval_ns
        sequence, sent_ns = self._base + len(self._sent), time.time_ns()
        self._sent.append(sent_ns)
        self._received.append(0)
        payload = REQUEST.pack(REQUEST_MAGIC, REQUEST_VERSION, 0, sequence, sent_ns)
        # An earlier datagram's error (port unreachable) is told on the next call, which then sends nothing: so one
        # retry. What cannot be sent is a lost echo, and that is a result.
        for _attempt in range(2):
            try:
                self._udp.send(payload)
                return
            except OSError:
                self.refused += 1

    def drain(self) -> None:
        """Read all that has come back."""
        while True:
            try:
                length, ancillary, _flags, _address = self._udp.recvmsg_into([self._buffer], ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.refused += 1
                continue
            received_ns, drops = stamp_of(ancillary)
            self.drops = drops or self.drops
            magic, _version, _zero, sequence, _sent_ns = REQUEST.unpack_from(self._buffer)
            index = sequence - self._base
            if length != REQUEST.size or magic != REQUEST_MAGIC or index >= len(self._sent):
                continue
            if index < 0:
                self.late += 1
            elif not self._received[index]:
                self._received[index] = received_ns
                self.answered += 1
                self.gap.arrived(received_ns)

    def flush(self, everything: bool = False) -> None:
        """Append the exchanges that are over: answered, or too old to be answered."""
        old_ns = time.time_ns() - ECHO_LOST_NS
        rows, settled = [], 0
        for sent_ns, received_ns in zip(self._sent, self._received, strict=True):
            if not (received_ns or everything or sent_ns < old_ns):
                break
            rows.append(f"{self._base + settled},{sent_ns},{received_ns or ''}\n")
            settled += 1
        del self._sent[:settled], self._received[:settled]
        self._base += settled
        self._file.append("".join(rows))

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        counts = {"sent": self._base + len(self._sent), "answered": self.answered, "late": self.late}
        errors = {"refused": self.refused, "kernel_drops": self.drops, "problem": self._file.problem}
        return {**counts, **errors, **self.gap.report()}


class EchoProbe(Probe[Exchanges]):
    """Echoes that the client asks for."""

    name = "echo"
    columns = COLUMNS
    rows = Exchanges
    config = EchoConfig
    sampler = EchoSampler
    moment = "sent_ns"
    series = (Trip(ROUND_TRIPS, "green", "UDP echo", sent="sent_ns", received="received_ns", label="UDP echo"),)
    subject = "Round trips of the UDP echo"
    absent = "no answer was received in this run"

    def wanted(self, probing: Probing, place: Place) -> EchoConfig | None:
        """At the rate that is asked for."""
        return EchoConfig(place.guest, ECHO_PORT, probing.echo_rate_hz) if probing.echo_rate_hz else None

    def described(self, probing: Probing) -> dict[str, object]:
        """As a rate."""
        return {"echoes per s": probing.echo_rate_hz}

    async def clear(self, agent: AgentClient) -> None:
        """No echo, by UDP or TCP."""
        await agent.echo_stop()

    async def begin(self, agent: AgentClient, probing: Probing, place: Place) -> None:
        """By UDP and by TCP: other programs than the prober may ask, too."""
        await agent.echo_start(ECHO_PORT)


PROBE = EchoProbe()
