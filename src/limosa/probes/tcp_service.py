"""The TCP service: one connection on which the client asks, waits for the answer, pauses, and asks again.

Part of the prober too (see ``limosa.probes.probe``): standard library alone.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from limosa.probes.arrival import ANCILLARY_BYTES, SO_TIMESTAMPNS, stamp_of
from limosa.probes.exchange import COLUMNS, ECHO_PORT, REQUEST, REQUEST_MAGIC, REQUEST_VERSION, ROUND_TRIPS, Exchanges
from limosa.probes.pane import Trip
from limosa.probes.probe import Place, Probe, Sampler
from limosa.probes.sample_file import SampleFile

if TYPE_CHECKING:
    from limosa.probes.pace import Probing

SERVICE_TIMEOUT_NS = 60_000_000_000
"""A connection that has been silent for so long with a request open counts as broken."""
CONNECT_TIMEOUT_NS = 3_000_000_000
RECONNECT_NS = 200_000_000


class ServiceConfig(NamedTuple):
    """The guest's TCP service: it gives back every byte. The next request follows *interval_ms* after the answer."""

    address: str
    port: int
    interval_ms: float = 50.0


class ServiceSampler(Sampler):
    """Asks on one TCP connection, waits for the answer, pauses, asks again. A break is a result."""

    def __init__(self, config: ServiceConfig, path: str) -> None:
        super().__init__()
        self._address = (config.address, config.port)
        self._interval_ns = int(config.interval_ms * 1e6)
        self._tcp: socket.socket | None = None
        self.state, self._answer = "closed", b""
        self._sequence = self._sent_ns = self._open_ns = 0
        self._rows: list[str] = []
        self._file = SampleFile(path, COLUMNS)
        self.last_error = ""
        self.due_ns = 0
        self.answered = self.connections = self.broken = 0

    @property
    def reading(self) -> list[socket.socket]:
        """The socket, while something is awaited from it."""
        return [self._tcp] if self._tcp and self.state in ("connecting", "waiting") else []

    @property
    def writing(self) -> list[socket.socket]:
        """The socket, while it connects."""
        return [self._tcp] if self._tcp and self.state == "connecting" else []

    def act(self, now_ns: int) -> None:
        """What is due: connect, ask, or give up on a connection that has been silent for too long."""
        self._try({"closed": self._connect, "ready": self._ask}.get(self.state, self._give_up), now_ns)

    def ready(self, now_ns: int) -> None:
        """The socket has something to say."""
        self._try(self._connected if self.state == "connecting" else self._receive, now_ns)

    def _try(self, step: Callable[[int], None], now_ns: int) -> None:
        try:
            step(now_ns)
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self._break(error.strerror or str(error), now_ns)

    def _connect(self, now_ns: int) -> None:
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.state, self.due_ns = "connecting", now_ns + CONNECT_TIMEOUT_NS
        self._tcp.setblocking(False)
        self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tcp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        number = self._tcp.connect_ex(self._address)
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))

    def _connected(self, now_ns: int) -> None:
        assert self._tcp is not None
        number = self._tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        self.connections += 1
        self.state, self.due_ns = "ready", now_ns

    def _ask(self, now_ns: int) -> None:
        assert self._tcp is not None
        self._sent_ns, self._answer = time.time_ns(), b""
        # A request that was lost with its connection keeps its clock running until the next answer.
        self._open_ns = self._open_ns or self._sent_ns
        self.state, self.due_ns = "waiting", now_ns + SERVICE_TIMEOUT_NS
        # These bytes always fit: all earlier ones have been answered.
        self._tcp.send(REQUEST.pack(REQUEST_MAGIC, REQUEST_VERSION, 0, self._sequence, self._sent_ns))

    def _receive(self, now_ns: int) -> None:
        assert self._tcp is not None
        data, ancillary, _flags, _address = self._tcp.recvmsg(REQUEST.size, ANCILLARY_BYTES)
        if not data:
            raise OSError(errno.ECONNRESET, "closed by the guest")
        self._answer += data
        if len(self._answer) >= REQUEST.size:
            self._answered(stamp_of(ancillary)[0], now_ns)

    def _give_up(self, now_ns: int) -> None:
        raise OSError(errno.ETIMEDOUT, "no answer in time")

    def _break(self, reason: str, now_ns: int) -> None:
        if self.state != "connecting":
            self.broken += 1
        if self.state == "waiting":
            self._rows.append(f"{self._sequence},{self._sent_ns},\n")
            self._sequence += 1
        if self._tcp is not None:
            self._tcp.close()
        self._tcp, self.state, self.last_error = None, "closed", reason
        self.due_ns = now_ns + RECONNECT_NS

    def _answered(self, received_ns: int, now_ns: int) -> None:
        self._rows.append(f"{self._sequence},{self._sent_ns},{received_ns}\n")
        self.gap.saw(received_ns - self._open_ns)
        self.gap.last_ns = received_ns
        self._sequence, self._open_ns, self.answered = self._sequence + 1, 0, self.answered + 1
        self.state, self.due_ns = "ready", now_ns + self._interval_ns

    def flush(self, everything: bool = False) -> None:
        """Append what is in memory; at the end the open request too, as unanswered."""
        if everything and self.state == "waiting":
            self._rows.append(f"{self._sequence},{self._sent_ns},\n")
            self.state, self._sequence = "ready", self._sequence + 1
        self._file.append("".join(self._rows))
        self._rows.clear()

    def report(self) -> dict[str, Any]:
        """Counts so far."""
        waiting, connected = self.state == "waiting", self.state in ("ready", "waiting")
        counts = {"sent": self._sequence + waiting, "answered": self.answered, "connected": connected}
        errors = {"broken": self.broken, "last_error": self.last_error, "problem": self._file.problem}
        return {**counts, "connections": self.connections, **errors, **self.gap.report()}


class ServiceProbe(Probe[Exchanges]):
    """Requests on a TCP connection. The guest's part is the echo's."""

    name = "service"
    columns = COLUMNS
    rows = Exchanges
    config = ServiceConfig
    sampler = ServiceSampler
    moment = "sent_ns"
    series = (Trip(ROUND_TRIPS, "orange", "TCP service", sent="sent_ns", received="received_ns", label="TCP service"),)
    subject = "Round trips of the TCP service"
    absent = "no answer was received in this run"

    def wanted(self, probing: Probing, place: Place) -> ServiceConfig | None:
        """With the pause that is asked for."""
        pause_ms = probing.service_interval_ms
        return ServiceConfig(place.guest, ECHO_PORT, pause_ms) if pause_ms else None

    def described(self, probing: Probing) -> dict[str, object]:
        """As a pause."""
        return {"service interval ms": probing.service_interval_ms}


PROBE = ServiceProbe()
