"""A probe that limosa does not have: how long a new TCP connection to the guest takes. All of it is in this file."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from limosa.probes.exchange import ECHO_PORT
from limosa.probes.pane import Pane, Trip
from limosa.probes.probe import Place, Probe, Sampler
from limosa.probes.sample_file import SampleFile

if TYPE_CHECKING:
    from limosa.probes.pace import Probing
    from limosa.probes.whole_numbers import Column

COLUMNS = {"dialled_ns": int, "connected_ns": int}


@dataclass(frozen=True, slots=True)
class Dials:
    """Connections in the order of dialling; ``connected_ns`` is -1 where none came about."""

    dialled_ns: Column
    connected_ns: Column


class DialConfig(NamedTuple):
    """Whom to dial, and how often."""

    address: str
    port: int
    interval_ms: float = 20.0


class DialSampler(Sampler):
    """Dials and hangs up."""

    def __init__(self, config: DialConfig, path: str) -> None:
        super().__init__()
        self._config, self.due_ns, self._rows = config, 0, list[str]()
        self._file = SampleFile(path, COLUMNS)
        self.sent = self.answered = 0

    def act(self, now_ns: int) -> None:
        self.due_ns = now_ns + int(self._config.interval_ms * 1e6)
        dialled_ns, connected_ns = time.time_ns(), 0
        try:
            with socket.create_connection((self._config.address, self._config.port), 1.0):
                connected_ns = time.time_ns()
        except OSError:
            pass
        self.sent, self.answered = self.sent + 1, self.answered + bool(connected_ns)
        self._rows.append(f"{dialled_ns},{connected_ns or ''}\n")

    def flush(self, everything: bool = False) -> None:
        self._file.append("".join(self._rows))
        self._rows.clear()

    def report(self) -> dict[str, Any]:
        return {"sent": self.sent, "answered": self.answered, "problem": self._file.problem, **super().report()}


class DialProbe(Probe[Dials]):
    """New connections."""

    name = "dial"
    columns = COLUMNS
    rows = Dials
    config = DialConfig
    sampler = DialSampler
    moment = "dialled_ns"
    series = (
        Trip(
            Pane("dials", "New connections", "ms", logarithmic=True),
            "orange",
            reading="new connection",
            sent="dialled_ns",
            received="connected_ns",
        ),
    )
    subject = "New connections"
    absent = "none was made in this run"

    def wanted(self, probing: Probing, place: Place) -> DialConfig:
        return DialConfig(place.guest, ECHO_PORT)

    def described(self, probing: Probing) -> dict[str, object]:
        return {"dials per s": 50.0}


PROBE = DialProbe()
