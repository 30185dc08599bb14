"""A migration as QEMU's own loop would run it, without a QEMU. Pure: the same inputs give the same move.

Not the textbook's passes. QEMU's thread sends for at most 50 ms at a time, and then asks whether what is left, as it
knows it, fits into the downtime limit at the rate of the last tenth of a second; only then it looks at the dirty log,
wherever in a pass it is, and stops the guest if what it finds fits too (``migration_iteration_run``,
``migration_update_counters`` in migration.c; ``ram_save_iterate`` in ram.c). Where nothing can happen for some time,
that time is gone over at once.

It knows one connection without compression, and no disks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from limosa.prediction.dirty_memory import DirtyMemory, Region
from limosa.prediction.move_inputs import (
    ON_WIRE,
    ZERO_ON_WIRE,
    Costs,
    Link,
    PredictedMove,
    SimulatedLook,
    Status,
)
from limosa.prediction.throttle import Throttle
from limosa.spec.migration_options import OPTIONS, Value

SLICE_S = 0.051
"""``MAX_WAIT`` is 50 ms, and it goes on until more than that is over, in whole ms."""
WINDOW_S = 0.1
"""``BUFFER_DELAY``: rates and the bytes that a limit leaves are those of at least so long."""
RATE_AFTER_S = 1.0
"""The dirty rate is found, and the guest slowed down, at looks that are further apart (``migration_bitmap_sync``)."""
LEAST_SENT_BYTES = 10_000
"""In a window that is to say how long the pause would be (``migration_update_counters``)."""
_SOON_S = 1e-9
_STEADY = 0.02
"""A window's rate that is within so much of what the link gives is that of nothing but sending."""
_NUMBERS = ("downtime-limit", "max-bandwidth", "avail-switchover-bandwidth", "max-postcopy-bandwidth")
_CHUNK_BYTES = float(1 << 30)
"""Of memory, the log of which KVM is told to clear at once."""

_MOST_JITTER = 1.3
"""Far more than fits is left as long as it is so much more."""

LogCleared = Literal["by look", "by visit"]


def _even() -> float:
    return 1.0


class Simulated:
    """A move under way. Between two looks at it, it can be told what QEMU can be told.

    *dirtied* is W(t): bytes that the guest dirties within t seconds, each counted once. *busy_share* is how much of its
    processors' time the guest wants: what throttling leaves beyond that it does not miss. *forced_look_s*: a QEMU that
    slows guests down looks at the dirty log at least so often after the first pass (10.0: 5 s); None: it does not.
    *jitter* is asked at the end of each window by how much the rate that QEMU finds is another one than it is: a socket
    takes what is sent in pieces.
    """

    def __init__(
        self,
        regions: Sequence[Region],
        dirtied: Callable[[float], float],
        link: Link,
        options: Mapping[str, Value] | None = None,
        costs: Costs | None = None,
        *,
        busy_share: float = 1.0,
        forced_look_s: float | None = None,
        log_cleared: LogCleared = "by look",
        jitter: Callable[[], float] = _even,
    ) -> None:
        self.link, self.costs = link, costs or Costs()
        """Both may be replaced under way: links get slower and faster."""
        self._jitter, self._margin = jitter, 1.0 if jitter is _even else _MOST_JITTER
        self._by_visit = log_cleared == "by visit"
        self._memory = DirtyMemory(regions, dirtied, by_visit=self._by_visit)
        self._options = {name: row.unasked for name, row in OPTIONS.items()} | dict(options or {})
        self.throttle = Throttle(self._options, busy_share)
        self._heed()
        self._forced_look_s = forced_look_s
        self.status: Status = "active"
        self.iteration = 1
        self.now_s = self.costs.setup_s
        """Since the command."""
        self._guest_s = 0.0
        """For how long the guest has run since, at its full speed."""
        self._sent_bytes, self._held_bytes = 0.0, 0.0
        """On the wire; and what of that the kernel holds still."""
        self._open_bytes = link.buffered_bytes if link.opening_s <= 0 else 0.0
        """What the kernel takes by now."""
        self._window_s, self._window_bytes = self.now_s, 0.0
        """When the window began, and how much has been sent in it."""
        self._slice_end_s = self.now_s
        self._bytes_per_s = self._true_bytes_per_s = self._threshold_bytes = 0.0
        """The rate of the last window, as QEMU finds it and as it was; and what fits at that."""
        self._expected_s = self._limit_s
        self._period_s, self._period_dirtied, self._period_sent = self.now_s, 0.0, 0.0
        self._looked_s, self._dirty_rate, self._last_look_bytes = self.now_s, 0.0, self._memory.total_bytes
        self._boundary, self._post_copy_wished = False, False
        self._stopped_s: float | None = None
        self._resumed_s: float | None = None
        self._downtime_s: float | None = None
        self._exposed_s: float | None = None
        self._safe_s: float | None = None

    def take_up(self, seen: SimulatedLook) -> None:
        """Go on from what was really seen of a move, at a look in a pass after the first: before anything else is done
        with this. Raises ValueError for a look in the first pass, of which all is told by going through it, and for one
        at a move that is not ``active``."""
        if seen.iteration < 2 or seen.status != "active":
            raise ValueError(f"a move is not taken up in pass {seen.iteration} while it is {seen.status}")
        self._memory.take_up(max(1.0, seen.remaining_bytes))
        self.throttle.take(seen.throttle_percent or 0)
        self.iteration, self.now_s, self._sent_bytes = seen.iteration, seen.at_s, seen.sent_bytes
        self._held_bytes = self._open_bytes = self.link.buffered_bytes
        self._dirty_rate, self._expected_s = seen.dirty_rate_bytes_per_s, seen.expected_downtime_s
        self._bytes_per_s = self._true_bytes_per_s = seen.throughput_bytes_per_s
        self._threshold_bytes = self._expected_bytes_per_s * self._limit_s
        self._window_s = self._slice_end_s = self._looked_s = self._period_s = seen.at_s
        self._period_sent, self._last_look_bytes = seen.sent_bytes, seen.remaining_bytes

    # What can be told it

    def set(self, name: str, value: Value) -> None:
        """migrate-set-parameters, by an option's name in docs/options.md and in its unit (ms, bytes/s, percent); before
        anything was sent also migrate-set-capabilities. Raises KeyError for what is no option that can be set now."""
        if not OPTIONS[name].while_moving and self._sent_bytes:
            raise KeyError(name)
        self._options[name] = value
        self._heed()

    def start_post_copy(self) -> None:
        """migrate-start-postcopy: obeyed at the next slice."""
        self._post_copy_wished = True

    def pause_guest(self) -> None:
        """stop: the guest writes no more, and it is counted as its pause from here."""
        if self._running and self.status == "active":
            self._stopped_s = self.now_s

    def cancel(self) -> None:
        """migrate_cancel. Nothing happens once the target may run."""
        if self.status == "active":
            self.status = "cancelled"

    # What can be seen of it

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.status in ("completed", "cancelled")

    def next_look(self, until_s: float) -> SimulatedLook:
        """Go on until QEMU has looked at the dirty log, or until *until_s*, or to the end, whatever is first."""
        while not self.over and not self._boundary and self.now_s < until_s - _SOON_S:
            self._turn(until_s)
        look = self._look()
        self._boundary = False
        return look

    def advance(self, until_s: float) -> list[SimulatedLook]:
        """Go on until *until_s*, or to the end: a look at each boundary, and one at the end."""
        looks = [self.next_look(until_s)]
        while looks[-1].boundary and not self.over:
            looks.append(self.next_look(until_s))
        return looks

    def outcome(self) -> PredictedMove:
        """What has come of it by now."""
        completed = self.status == "completed"
        exposed_s = 0.0 if self._exposed_s is None else (self._safe_s or self.now_s) - self._exposed_s
        pause_s = self._resumed_s - self._stopped_s if self._stopped_s is not None and self._resumed_s else None
        return PredictedMove(
            completed=completed,
            total_s=self.now_s,
            pause_s=pause_s,
            downtime_s=self._downtime_s if completed else None,
            sent_bytes=self._sent_bytes,
            exposure_s=exposed_s,
        )

    def _look(self) -> SimulatedLook:
        return SimulatedLook(
            at_s=self.now_s,
            status=self.status,
            iteration=self.iteration,
            total_bytes=self._memory.total_bytes,
            remaining_bytes=self._memory.remaining_bytes,
            sent_bytes=self._sent_bytes,
            dirty_rate_bytes_per_s=self._dirty_rate,
            throughput_bytes_per_s=self._bytes_per_s,
            expected_downtime_s=self._expected_s,
            throttle_percent=self.throttle.percent or None,
            boundary=self._boundary,
        )

    # QEMU's thread

    def _heed(self) -> None:
        """What options say, as numbers: they are asked for at each turn."""
        told = {name: float(self._options[name]) for name in _NUMBERS}
        self._limit_s = told["downtime-limit"] / 1000
        self._available = told["avail-switchover-bandwidth"]
        limits = {"active": told["max-bandwidth"], "postcopy-active": told["max-postcopy-bandwidth"]}
        self._most = {status: (limit or math.inf) * WINDOW_S for status, limit in limits.items()}

    @property
    def _running(self) -> bool:
        return self._stopped_s is None

    def _turn(self, until_s: float) -> None:
        """From one look at what is left to the next, or as much of that as there is until *until_s*."""
        most = self._most[self.status]
        if self._window_bytes >= most - 1:
            self._pass(min(until_s, max(self.now_s, self._window_s + WINDOW_S)) - self.now_s)
            self._count()
            return
        if self.now_s >= self._slice_end_s - _SOON_S:
            if self._decide():
                return
            self._cruise(until_s, most)
            self._slice_end_s = self.now_s + SLICE_S
        self._send(min(until_s, self._slice_end_s), most)
        if self._memory.remaining_bytes <= 0 or self._window_bytes >= most - 1:
            self._slice_end_s = self.now_s
        if self.now_s >= self._slice_end_s - _SOON_S:
            self._count()

    def _decide(self) -> bool:
        """What QEMU does before a slice of sending; whether that was something else than to send one."""
        if self.status == "postcopy-active":
            if self._memory.remaining_bytes <= 0:
                self._complete_post_copy()
            return self.over
        if self._post_copy_wished:
            self._begin_post_copy()
            return True
        forced = self._forced_look_s is not None and self.throttle.on and self.iteration > 1
        if forced and self.now_s - self._looked_s >= (self._forced_look_s or 0.0):
            self._look_at_log()
            return True
        if self._fits():
            self._look_at_log()
            if self._fits():
                self._switch_over()
            return True
        return False

    def _fits(self) -> bool:
        left = self._memory.remaining_bytes
        return left <= 0 or left < self._threshold_bytes

    def _count(self) -> None:
        """At the end of a window: its rate, and what follows from it."""
        took_s = self.now_s - self._window_s
        if took_s >= WINDOW_S - _SOON_S:
            self._found(self._window_bytes / took_s, self._window_bytes > LEAST_SENT_BYTES)

    def _found(self, bytes_per_s: float, enough: bool) -> None:
        """A window is over, and QEMU finds its rate; *enough* was sent to tell of the pause by it."""
        self._true_bytes_per_s, self._bytes_per_s = bytes_per_s, bytes_per_s * self._jitter()
        expected = self._expected_bytes_per_s
        self._threshold_bytes = expected * self._limit_s
        if self._dirty_rate and enough:
            self._expected_s = self._last_look_bytes / expected
        self._window_s, self._window_bytes = self.now_s, 0.0

    @property
    def _expected_bytes_per_s(self) -> float:
        """How fast QEMU believes that the rest will go."""
        return self._available or self._bytes_per_s

    def _look_at_log(self) -> None:
        """The dirty log is looked at: another pass, as QEMU counts."""
        self._pass(self.costs.look_s)
        self.iteration += 1
        self._period_dirtied += self._memory.look(self._guest_s)
        self._last_look_bytes, self._looked_s, self._boundary = self._memory.remaining_bytes, self.now_s, True
        period_s = self.now_s - self._period_s
        if period_s > RATE_AFTER_S:
            self.throttle.judge(self._period_dirtied, self._sent_bytes - self._period_sent)
            self._dirty_rate = self._period_dirtied / period_s
            self._period_s, self._period_dirtied, self._period_sent = self.now_s, 0.0, self._sent_bytes

    def _stop(self) -> None:
        if self._stopped_s is None:
            self._stopped_s = self.now_s

    def _switch_over(self) -> None:
        """The guest is stopped and the rest goes over, with no limit."""
        began_s = self.now_s
        self._stop()
        self._pass(self.costs.stop_s)
        self._look_at_log()
        self._send(math.inf, math.inf)
        self._downtime_s = self.now_s - began_s
        self._resumed_s = self.now_s + self._held_bytes / self.link.bytes_per_s + self.costs.start_s
        self.status = "completed"

    def _begin_post_copy(self) -> None:
        """The target goes on as soon as what it begins with has come to it, behind all that the kernel holds; then page
        after page of what it waits for."""
        self._stop()
        began_s = self.now_s
        self._pass(self.costs.stop_s)
        self._look_at_log()
        self._downtime_s = self.now_s - began_s
        behind_s = self._held_bytes / self.link.bytes_per_s
        waits_s = self.costs.post_copy_start_s + self.costs.post_copy_waits * behind_s
        self._resumed_s = self.now_s + behind_s + waits_s
        self.status, self._slice_end_s = "postcopy-active", self.now_s
        self._exposed_s = self.now_s

    def _complete_post_copy(self) -> None:
        assert self._resumed_s is not None, "post-copy had begun"
        over_s = self.now_s + self._held_bytes / self.link.bytes_per_s
        self._resumed_s = min(self._resumed_s, over_s + self.costs.post_copy_start_s)
        self.status, self.now_s, self._safe_s = "completed", over_s, over_s

    # Time

    def _pass(self, seconds: float) -> None:
        """Time goes by in which nothing is sent."""
        self.now_s += seconds
        if self._stopped_s is None:
            self._guest_s += seconds * self.throttle.speed
        self._held_bytes = max(0.0, self._held_bytes - self.link.bytes_per_s * seconds)

    def _rates(self) -> tuple[float, float, bool]:
        """Of what is sent next: dirty bytes/s, bytes on the wire for each, and whether it waits for the link."""
        zero_share, wire, thread = self._memory.next().zero_share, ON_WIRE, self.costs.page_bytes_per_s
        if zero_share:
            wire = (1 - zero_share) * ON_WIRE + zero_share * ZERO_ON_WIRE
            thread = 1 / ((1 - zero_share) / thread + zero_share / self.costs.zero_bytes_per_s)
        taken = (self.link.bytes_per_s + self._opening_bytes_per_s) / wire
        if taken < thread and self._held_bytes >= self._open_bytes - 1:
            return taken, wire, True
        return thread, wire, False

    @property
    def _opening_bytes_per_s(self) -> float:
        """How fast the kernel takes more and more, of a sender that waits for it."""
        if self._open_bytes >= self.link.buffered_bytes - 1:
            return 0.0
        return self.link.buffered_bytes / self.link.opening_s

    def _send(self, until_s: float, most: float) -> None:
        """Send until then, until *most* bytes were sent in this window, or until nothing is dirty."""
        memory = self._memory
        while memory.remaining_bytes > 0 and self.now_s < until_s - _SOON_S and self._window_bytes < most - 1:
            rate, wire, linked = self._rates()
            size = min(self._most_at_once(), rate * (until_s - self.now_s), (most - self._window_bytes) / wire)
            filling = rate * wire - self.link.bytes_per_s
            room = (self.link.buffered_bytes if linked else self._open_bytes) - self._held_bytes
            if filling > 0 and room > 0:
                size = min(size, rate * room / filling)
            self._sent(size, size / rate, wire)
            if linked:
                self._opened()

    def _opened(self) -> None:
        """The kernel was full all the time: what it holds is what it takes."""
        self._open_bytes = min(self.link.buffered_bytes, max(self._open_bytes, self._held_bytes))
        self._held_bytes = self._open_bytes

    def _most_at_once(self) -> float:
        """Dirty bytes of the next stretch that are visited at one moment, as the log has it."""
        stretch = self._memory.next()
        if self._by_visit and stretch.size_bytes > _CHUNK_BYTES:
            return stretch.dirty_bytes * _CHUNK_BYTES / stretch.size_bytes
        return stretch.dirty_bytes

    def _sent(self, size_bytes: float, seconds: float, wire: float) -> None:
        self._memory.send(size_bytes, self._guest_s)
        self._pass(seconds)
        self._sent_bytes += size_bytes * wire
        self._window_bytes += size_bytes * wire
        self._held_bytes += size_bytes * wire

    def _cruise(self, until_s: float, most: float) -> None:
        """Go over all windows at once in which nothing can happen: the rate stays, and far more than fits is left."""
        if self._memory.remaining_bytes <= self._threshold_bytes:
            return
        rate, wire, linked = self._rates()
        limited = rate * wire * WINDOW_S > most
        window_s = WINDOW_S if limited else 2 * SLICE_S
        if limited:
            rate = most / WINDOW_S / wire
        elif rate * wire > self.link.bytes_per_s + _SOON_S and not linked:
            return  # the kernel has room
        begun_s = self.now_s - self._window_s
        of_window = self._window_bytes / begun_s if begun_s > _SOON_S else self._true_bytes_per_s
        if max(abs(self._true_bytes_per_s - rate * wire), abs(of_window - rate * wire)) > _STEADY * rate * wire:
            return
        fits = max(self._threshold_bytes, (self._available or rate * wire) * self._limit_s)
        far = 0.0 if self.status == "postcopy-active" else fits * self._margin
        size = min(self._most_at_once(), self._memory.remaining_bytes - far)
        most_s = min(size / rate, until_s - self.now_s)
        if not limited and (opening := self._opening_bytes_per_s):
            most_s = min(most_s, (self.link.buffered_bytes - self._open_bytes) / opening)
        if self._forced_look_s is not None and self.throttle.on:
            most_s = min(most_s, self._looked_s + self._forced_look_s - self.now_s)
        windows = int(most_s / window_s)
        if windows < 1:
            return
        held, took_s = self._held_bytes, windows * window_s
        self._sent(took_s * rate, took_s, wire)
        self._held_bytes = held
        if linked and not limited:
            self._held_bytes = self._open_bytes = min(
                self.link.buffered_bytes, held + took_s * self._opening_bytes_per_s
            )
        self._found(rate * wire, enough=True)
