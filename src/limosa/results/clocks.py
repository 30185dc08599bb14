"""The clocks of one pause, computed from raw samples by pure functions. ``docs/measuring.md`` derives the formulas.

A *window* says when the pause was (QMP's STOP and RESUME), how far to look after it, and where its neighbours are.
All three client clocks read the excess over what is usual, so a pause of 0 reads about 0:

- tick, echo: the longest hole between arrivals, minus the hole that a random moment falls into;
- service: the longest round trip, minus the median round trip;
- guest: the step of (arrival - guest's clock), each side taken at its 10 % quantile, the drift of the clocks removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from limosa.probes.exchange import Exchanges
from limosa.probes.ticks import Ticks
from limosa.probes.whole_numbers import Column
from limosa.results.samples import LOST

MS = 1_000_000
SLACK_NS = 5 * MS
"""QEMU stamps STOP and RESUME some ms off the vCPUs' own last and first instruction."""
SETTLE_NS = 1000 * MS
"""After a migration's RESUME packets may still go to the old host until its switch has learnt the new place."""
USUAL_NS = 2000 * MS
"""How much before the pause tells what is usual."""
SIDE_NS = 1000 * MS
"""How much on either side of the pause gives the guest's clock offset."""
CALM_NS = 100 * MS
"""Left out after the first tick that follows a pause: queues empty, caches fill, TCG translates anew."""
FEWEST = 20
"""Fewer ticks than this on one side are no reading."""
LOW_QUANTILE = 0.1
"""Delays only ever add: the low end of the offsets is the clock, the rest is queueing."""
DRIFT_NS = 10_000 * MS
"""How much before the pause tells the clocks' drift."""
DRIFT_LEAST_NS = 3000 * MS
"""Less than this is too short to tell drift from noise, and then none is removed."""
DRIFT_MOST = 1e-3
"""No clock drifts by more than 1000 ppm (NTP slews by 500); a steeper slope is noise."""
WRONG_RATE = 1e-2
"""Not even noise makes a slope of 1 %: the guest's clock runs wrong, and tells nothing of a pause."""
RATE_TICKS = 250
"""A stretch over which the rate of the guest's clock is told: a quarter second of ticks."""
FAR = 1 << 62


@dataclass(frozen=True, slots=True)
class Window:
    """A pause and where to look for it; ``earliest_ns`` and ``latest_ns`` are the neighbouring pauses' edges."""

    stop_ns: int
    resume_ns: int
    settle_ns: int = SLACK_NS
    earliest_ns: int = 0
    latest_ns: int = FAR

    @classmethod
    def of_pause(cls, stop_ns: int, resume_ns: int) -> Window:
        """A pause on one host: nothing has to settle after it."""
        return cls(stop_ns, resume_ns)

    @classmethod
    def of_migration(cls, stop_ns: int, resume_ns: int) -> Window:
        """A migration: packets may go astray for a while after the guest runs again."""
        return cls(stop_ns, resume_ns, SETTLE_NS)

    @property
    def begin_ns(self) -> int:
        """A hole or wait that ends before this is none of this pause's."""
        return max(self.stop_ns - SLACK_NS, self.earliest_ns)

    @property
    def end_ns(self) -> int:
        """A hole or wait that begins after this is none of this pause's."""
        return min(self.resume_ns + self.settle_ns, self.latest_ns)


def separated(windows: Sequence[Window]) -> list[Window]:
    """Set each window's limits so that it does not look into its neighbours' pauses; the order is kept."""
    by_time = sorted(range(len(windows)), key=lambda index: windows[index].stop_ns)
    limited = list(windows)
    for place, index in enumerate(by_time):
        earliest_ns, latest_ns = 0, FAR
        if place > 0:
            earliest_ns = windows[by_time[place - 1]].resume_ns + SLACK_NS
        if place + 1 < len(by_time):
            latest_ns = windows[by_time[place + 1]].stop_ns - SLACK_NS
        limited[index] = replace(windows[index], earliest_ns=earliest_ns, latest_ns=latest_ns)
    return limited


def tick_gap_ms(ticks: Ticks, window: Window) -> float | None:
    """The longest hole in the guest's ticks that touches the window, less the usual one, in ms."""
    return _gap_ms(np.sort(_first_copies(ticks).received_ns), window)


def echo_gap_ms(echo: Exchanges, window: Window) -> float | None:
    """The longest time without an answer that touches the window, less the usual one, in ms.

    Its resolution is the interval between requests: 50 ms at 20 requests a second.
    """
    return _gap_ms(np.sort(echo.received_ns[echo.received_ns != LOST]), window)


def service_stall_ms(service: Exchanges, window: Window) -> float | None:
    """The longest wait for an answer that touches the window, less the median wait, in ms.

    A request that was lost with its connection waits until the next answer, whichever request that is for.
    """
    answered = service.received_ns != LOST
    if not answered.any():
        return None
    order = np.where(answered, np.arange(len(service)), len(service))
    next_answer = np.minimum.accumulate(order[::-1])[::-1]
    known = next_answer < len(service)
    sent_ns, end_ns = service.sent_ns[known], service.received_ns[next_answer[known]]
    usual = answered[known] & (end_ns < window.begin_ns) & (end_ns > window.begin_ns - USUAL_NS)
    touching = (sent_ns <= window.end_ns) & (end_ns >= window.begin_ns)
    never_answered = ~known & (service.sent_ns <= window.end_ns)
    if not usual.any() or never_answered.any() or service.sent_ns[-1] < window.resume_ns:
        return None
    if not touching.any():
        # The pause fell between two requests: the client noticed nothing.
        return 0.0
    longest_ns = (end_ns[touching] - sent_ns[touching]).max()
    return max(0.0, float(longest_ns - np.median(end_ns[usual] - sent_ns[usual])) / MS)


def guest_lost_ms(ticks: Ticks, window: Window) -> float | None:
    """How much time the guest's CLOCK_MONOTONIC left out over the pause, in ms; None with too few ticks.

    The step of received_ns - guest_monotonic_ns. A guest that was not paused reads 0, within the jitter.
    """
    return _step_ms(ticks, ticks.guest_monotonic_ns, window)


def clock_behind_ms(ticks: Ticks, window: Window) -> float | None:
    """By how much more the guest's CLOCK_REALTIME is behind after the pause than before, in ms, as ``guest_lost_ms``.

    Less than was lost where something in the guest has set its time.
    """
    return _step_ms(ticks, ticks.guest_realtime_ns, window)


def clock_offsets_ms(ticks: Ticks) -> tuple[float, float] | None:
    """How far the guest's CLOCK_REALTIME was behind the client's in the first and the last second of ticks, in ms."""
    if len(ticks) < FEWEST:
        return None
    order = np.argsort(ticks.received_ns, kind="stable")
    arrived_ns, behind_ns = ticks.received_ns[order], (ticks.received_ns - ticks.guest_realtime_ns)[order]
    first, last = arrived_ns <= arrived_ns[0] + SIDE_NS, arrived_ns >= arrived_ns[-1] - SIDE_NS
    return _low(behind_ns[first]) / MS, _low(behind_ns[last]) / MS


def _step_ms(ticks: Ticks, guest_ns: Column, window: Window) -> float | None:
    arrived_ns = ticks.received_ns
    begin_ns = max(window.earliest_ns + CALM_NS if window.earliest_ns else 0, window.stop_ns - SIDE_NS)
    before = (arrived_ns >= begin_ns) & (arrived_ns < window.stop_ns - SLACK_NS)
    first = arrived_ns[arrived_ns >= window.resume_ns]
    if not len(first):
        return None
    after_ns = int(first.min()) + CALM_NS
    after = (arrived_ns >= after_ns) & (arrived_ns < min(after_ns + SIDE_NS, window.latest_ns))
    if before.sum() < FEWEST or after.sum() < FEWEST:
        return None
    offset_ns = arrived_ns - guest_ns
    # Integers until here: an epoch in ns does not fit a float. The offset itself is an epoch too.
    base_ns = int(offset_ns[before].min())
    low_before, low_after = (_low(offset_ns[side] - base_ns) for side in (before, after))
    apart_ns = float(np.median(guest_ns[after]) - np.median(guest_ns[before]))
    drift = _drift(ticks, window)
    if abs(drift) > WRONG_RATE:
        return None
    return (low_after - low_before - (drift if abs(drift) <= DRIFT_MOST else 0.0) * apart_ns) / MS


def clock_rate(ticks: Ticks) -> float | None:
    """How fast the guest's clock ran against the client's: 1 for one that runs right; None with too few ticks.

    The median over stretches of a quarter second, so that pauses and busy moments do not count.
    """
    stretches = [
        (ticks.guest_monotonic_ns[slot[-1]] - ticks.guest_monotonic_ns[slot[0]])
        / (ticks.received_ns[slot[-1]] - ticks.received_ns[slot[0]])
        for slot in np.split(np.arange(len(ticks)), range(RATE_TICKS, len(ticks), RATE_TICKS))
        if len(slot) == RATE_TICKS
    ]
    return float(np.median(stretches)) if len(stretches) >= 4 else None


def _first_copies(ticks: Ticks) -> Ticks:
    """Without the later copies of datagrams that the network doubled."""
    _, first = np.unique(ticks.sequence, return_index=True)
    keep = np.sort(first)
    return Ticks(
        ticks.sequence[keep],
        ticks.guest_monotonic_ns[keep],
        ticks.guest_realtime_ns[keep],
        ticks.received_ns[keep],
    )


def _gap_ms(arrived_ns: Column, window: Window) -> float | None:
    """*arrived_ns* is sorted."""
    if len(arrived_ns) < 2 or arrived_ns[0] > window.stop_ns or arrived_ns[-1] < window.resume_ns:
        return None
    left_ns, right_ns = arrived_ns[:-1], arrived_ns[1:]
    touching = (right_ns >= window.begin_ns) & (left_ns <= window.end_ns)
    before = (right_ns < window.begin_ns) & (left_ns > max(window.begin_ns - USUAL_NS, window.earliest_ns))
    if not touching.any() or not before.any():
        return None
    longest_ns = float((right_ns - left_ns)[touching].max())
    return max(0.0, (longest_ns - usual_hole_ns((right_ns - left_ns)[before])) / MS)


def usual_hole_ns(holes_ns: Column) -> float:
    """The hole into which a random moment falls, in the middle case: the median weighted by the holes' lengths.

    Of a regular train it is the interval. Of ticks that come in bursts it is the pause between bursts, into which
    a stop falls far more often than into a burst.
    """
    ordered = np.sort(holes_ns)
    share = np.cumsum(ordered)
    return float(ordered[np.searchsorted(share, share[-1] / 2)])


def _low(offsets_ns: Column) -> float:
    return float(np.quantile(offsets_ns, LOW_QUANTILE))


def _drift(ticks: Ticks, window: Window) -> float:
    """How much faster the client's clock runs than the guest's, per guest second: the median slope of low offsets."""
    earliest_ns = window.earliest_ns + CALM_NS if window.earliest_ns else 0
    chosen = (ticks.received_ns > max(earliest_ns, window.stop_ns - DRIFT_NS)) & (
        ticks.received_ns < window.stop_ns - SLACK_NS
    )
    guest_ns = ticks.guest_monotonic_ns[chosen]
    if len(guest_ns) < FEWEST or guest_ns.max() - guest_ns.min() < DRIFT_LEAST_NS:
        return 0.0
    offset_ns = ticks.received_ns[chosen] - guest_ns
    offset_ns = offset_ns - offset_ns.min()
    slot = (guest_ns - guest_ns.min()) // (250 * MS)
    points = [
        (float(np.median(guest_ns[slot == s] - guest_ns.min())), _low(offset_ns[slot == s]))
        for s in np.unique(slot)
        if (slot == s).sum() >= 10
    ]
    return _median_slope(np.array(points)) if len(points) >= 4 else 0.0


def _median_slope(points: npt.NDArray[np.float64]) -> float:
    """Theil-Sen: the median of the slopes of all pairs, which single disturbed slots cannot move."""
    x, y = points[:, 0], points[:, 1]
    one, other = np.triu_indices(len(points), k=1)
    return float(np.median((y[other] - y[one]) / (x[other] - x[one])))
