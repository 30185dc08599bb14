"""iperf3's command lines and what it prints (the receiver's figures count, for only they arrived), and echoes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from limosa import untrusted
from limosa.bench.repetitions import Repetition, with_rest
from limosa.errors import LimosaError
from limosa.probes.exchange import Exchanges
from limosa.results.samples import LOST

PORT = 5201
UDP_PAYLOAD_BYTES = 1400
"""Below the MTU of 1500, so that one datagram is one packet."""

WHOLE_S = 0.9
"""An interval that is shorter is the rest after the last whole second."""


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived in one test. ``seconds_bits`` ends with the rest of ``total_bits`` after the last whole second."""

    total_bits: float
    duration_s: float
    seconds_bits: tuple[float, ...]
    retransmits: int | None = None


@dataclass(frozen=True, slots=True)
class Datagrams:
    """What became of the datagrams of one test; the lists have a value for each whole second."""

    sent: int
    lost: int
    jitter_s: float
    seconds_loss: tuple[float, ...]
    seconds_jitter_s: tuple[float, ...]
    duration_s: float

    @property
    def loss(self) -> float:
        """The share that was lost, 0 to 1."""
        return self.lost / self.sent if self.sent else 0.0


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What became of the echoes of one repetition; ``seconds_s`` has the median of each second with an answer."""

    median_s: float
    p95_s: float
    answered: int
    seconds_s: tuple[float, ...]


def server() -> tuple[str, ...]:
    """Serve one test on the way in, then print it and end."""
    return ("-s", "-1", "-J", "-p", str(PORT))


def tcp(address: str, time_s: int, *, reverse: bool) -> tuple[str, ...]:
    """A TCP test; *reverse*: the server sends."""
    return ("-c", address, "-p", str(PORT), "-t", str(time_s), "-i", "1", "-J", *(("-R",) if reverse else ()))


def udp(address: str, time_s: int, rate_bits_per_s: int) -> tuple[str, ...]:
    """Datagrams to the server at a fixed rate: loss depends on the rate, so it is part of the result."""
    rate = ("-u", "-b", str(rate_bits_per_s), "-l", str(UDP_PAYLOAD_BYTES))
    return ("-c", address, "-p", str(PORT), "-t", str(time_s), "-i", "1", "-J", *rate)


def received(receiver: str, sender: str = "") -> Received:
    """A TCP test from the *receiver*'s JSON; the *sender*'s brings the retransmissions. Raises LimosaError."""
    found = _document(receiver)
    try:
        end = found["end"]["sum_received"]
        total, duration_s = float(end["bytes"]) * 8, float(end["seconds"])
        # Bytes that came after the last interval was printed are in the total alone.
        whole = [float(i["sum"]["bytes"]) * 8 for i in found["intervals"] if i["sum"]["seconds"] >= WHOLE_S]
        total = max(total, sum(float(i["sum"]["bytes"]) * 8 for i in found["intervals"]))
        retransmits = _document(sender)["end"]["sum_sent"].get("retransmits") if sender else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LimosaError(f"iperf3's answer is not understood: {error!r}") from error
    if duration_s <= 0 or total <= 0:
        raise LimosaError("iperf3 received nothing")
    return Received(total, duration_s, with_rest(whole, total), retransmits)


def datagrams(receiver: str) -> Datagrams:
    """A UDP test from the *receiver*'s JSON. Raises LimosaError."""
    found = _document(receiver)
    try:
        end = found["end"]["sum"]
        whole = [i["sum"] for i in found["intervals"] if i["sum"]["seconds"] >= WHOLE_S]
        return Datagrams(
            sent=int(end["packets"]),
            lost=int(end["lost_packets"]),
            jitter_s=float(end["jitter_ms"]) / 1000,
            seconds_loss=tuple(float(s["lost_percent"]) / 100 for s in whole),
            seconds_jitter_s=tuple(float(s["jitter_ms"]) / 1000 for s in whole),
            duration_s=float(end["seconds"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LimosaError(f"iperf3's answer is not understood: {error!r}") from error


def round_trips(echo: Exchanges) -> RoundTrips | None:
    """How long answers took; None when there was no answer."""
    answered = echo.received_ns != LOST
    trips_s = (echo.received_ns[answered] - echo.sent_ns[answered]) / 1e9
    if not len(trips_s):
        return None
    second = (echo.sent_ns[answered] - echo.sent_ns[0]) // 1_000_000_000
    medians = tuple(float(np.median(trips_s[second == number])) for number in np.unique(second))
    return RoundTrips(float(np.median(trips_s)), float(np.quantile(trips_s, 0.95)), len(trips_s), medians)


def sent_bits_per_s(repetition: Repetition) -> float | None:
    """The rate at which the datagrams of a UDP test went out; None: it was not counted."""
    sent = repetition.facts.get("sent")
    if not isinstance(sent, int) or repetition.duration_s <= 0:
        return None
    return sent * UDP_PAYLOAD_BYTES * 8 / repetition.duration_s


def _document(text: str) -> dict[str, Any]:
    try:
        found = untrusted.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise LimosaError(f"iperf3 did not answer with JSON: {text.strip()[:80] or 'nothing'}") from error
    if "error" in found:
        raise LimosaError(f"iperf3: {found['error']}")
    return found
