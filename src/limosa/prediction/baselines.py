"""What others would say of the same pre-copy, beforehand: what the simulation is held against. Pure.

None of them knows of socket buffers, of a limit under the link's rate, or that QEMU stops wherever in a pass it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from limosa.prediction.move_inputs import ON_WIRE, PAGE_BYTES, PredictedMove, SimulatedLook

RATE_WINDOW_S = 1.0
"""The textbook's dirty rate is constant; it is what a guest dirties in so long, as QEMU's calc-dirty-rate has it."""
ZERO_HEADER_ON_WIRE = 8 / PAGE_BYTES
"""As Gudkov's script counts a page of zeros."""
_MOST_PASSES = 1000
_LESS = 1 - 1e-6
"""A pass that is not shorter by so much is as long as the one before."""


class PreCopy:
    """A pre-copy to be. *dirtied* is W(t), seconds to bytes that are dirtied in them, each counted once; *start_s* what
    a pause takes that is not sending."""

    def __init__(
        self,
        memory_bytes: float,
        zero_share: float,
        dirtied: Callable[[float], float],
        bytes_per_s: float,
        limit_s: float,
        start_s: float = 0.0,
    ) -> None:
        self.memory_bytes, self.zero_share, self.dirtied = memory_bytes, zero_share, dirtied
        self.bytes_per_s, self.limit_s, self.start_s = bytes_per_s, limit_s, start_s


NEVER = PredictedMove(completed=False, total_s=None, pause_s=None, sent_bytes=None)


def textbook(move: PreCopy) -> PredictedMove:
    """The geometric series: all memory R seconds long, and then each pass what a constant rate D dirtied in the one
    before, until that fits; λ = D / R (Clark et al., NSDI 2005; Liu et al., HPDC 2011: V_mig = V_mem (1 − λ^(n+1)) /
    (1 − λ), n = ⌈log_λ(V_thd / V_mem)⌉)."""
    memory, fits = move.memory_bytes, move.bytes_per_s * move.limit_s
    ratio = move.dirtied(RATE_WINDOW_S) / RATE_WINDOW_S / move.bytes_per_s
    if memory <= fits:
        passes = 0
    elif ratio >= 1 or (fits <= 0 and ratio > 0):
        return NEVER
    else:
        passes = max(1, math.ceil(math.log(fits / memory, ratio))) if ratio > 0 else 1
    last = memory * ratio**passes
    sent = memory * (1 - ratio ** (passes + 1)) / (1 - ratio) if ratio < 1 else memory
    total_s = sent / move.bytes_per_s
    return PredictedMove(True, total_s + move.start_s, last / move.bytes_per_s + move.start_s, sent)


def gudkov(move: PreCopy) -> PredictedMove:
    """Whole passes over W(t): each sends what was dirtied in the one before, until one is as short as the limit (A.
    Gudkov, predict_migration.py, qemu-devel, February to May 2023; not merged)."""
    normal, zero = move.memory_bytes * (1 - move.zero_share), move.memory_bytes * move.zero_share
    wire, sent, total_s, before_s = normal * ON_WIRE + zero * ZERO_HEADER_ON_WIRE, 0.0, 0.0, math.inf
    for _ in range(_MOST_PASSES):
        took_s = wire / move.bytes_per_s
        sent, total_s = sent + wire, total_s + took_s
        if took_s <= move.limit_s:
            return PredictedMove(True, total_s + move.start_s, took_s + move.start_s, sent)
        if took_s >= before_s * _LESS:
            break
        before_s, wire = took_s, move.dirtied(took_s) * ON_WIRE
    return NEVER


def expected_downtime(move: PreCopy, look: SimulatedLook | None = None) -> PredictedMove:
    """As QEMU itself says: its ``expected-downtime`` is the pause, and what remains, at the rate of now, the rest of
    the time. Before there is a *look* it says the downtime limit, as QEMU does, and all memory is what remains."""
    if look is None:
        total_s = move.memory_bytes / move.bytes_per_s
        return PredictedMove(True, total_s, move.limit_s, move.memory_bytes)
    if look.throughput_bytes_per_s <= 0:
        return NEVER
    total_s = look.at_s + look.remaining_bytes / look.throughput_bytes_per_s
    return PredictedMove(True, total_s, look.expected_downtime_s, look.sent_bytes + look.remaining_bytes)
