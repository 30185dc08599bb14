"""A question that the guest gives back unchanged: what asks by UDP and what asks by TCP have it in common.

Part of the prober too (see ``limosa.probes.probe``): standard library alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limosa.probes.pane import Pane

if TYPE_CHECKING:
    from limosa.probes.whole_numbers import Column

REQUEST = struct.Struct("!4sHHQQ")
"""An echo's or a request's payload: magic, version, zero, sequence, sent_ns. It comes back unchanged."""
REQUEST_MAGIC, REQUEST_VERSION = b"LMRQ", 1
ECHO_PORT = 7007
"""Where the guest's agent echoes, by UDP and by TCP."""

COLUMNS = {"sequence": int, "sent_ns": int, "received_ns": int}
ROUND_TRIPS = Pane("trips", "Round trips", "ms", height=96, logarithmic=True)


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Requests in the order of sending; ``received_ns`` is LOST (-1) where no answer came."""

    sequence: Column
    sent_ns: Column
    received_ns: Column

    def __len__(self) -> int:
        return len(self.sequence)
