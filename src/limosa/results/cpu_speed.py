"""How fast the guest's CPU loop ran, and when: its own clock placed on the client's."""

from __future__ import annotations

import numpy as np

from limosa.probes.cpu_loop import CpuSamples
from limosa.probes.ticks import Ticks


def cpu_speed(cpu: CpuSamples, ticks: Ticks, begin_ns: int, end_ns: int) -> float | None:
    """Events per second of the loop inside the guest, of turns that ended between two moments of the client's clock.

    Durations are the guest's own, so a pause within a turn does not slow it. None without turns.
    """
    if not len(cpu) or not len(ticks):
        return None
    ended_ns = client_time_ns(ticks, cpu.guest_monotonic_ns + cpu.duration_ns)
    chosen = (ended_ns >= begin_ns) & (ended_ns < end_ns)
    duration_ns = int(cpu.duration_ns[chosen].sum())
    return float(cpu.events[chosen].sum()) * 1e9 / duration_ns if duration_ns > 0 else None


def client_time_ns(ticks: Ticks, guest_monotonic_ns: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
    """When, on the client's clock, the guest's clock read this: by the offset of the nearest earlier tick.

    Before the first tick, by that tick's offset. Exact to a tick's delay on the way, a fraction of a millisecond.
    """
    order = np.argsort(ticks.guest_monotonic_ns, kind="stable")
    guest_ns, arrived_ns = ticks.guest_monotonic_ns[order], ticks.received_ns[order]
    nearest = np.clip(np.searchsorted(guest_ns, guest_monotonic_ns, side="right") - 1, 0, len(guest_ns) - 1)
    return arrived_ns[nearest] + (guest_monotonic_ns - guest_ns[nearest])
