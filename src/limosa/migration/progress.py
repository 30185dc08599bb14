"""From looks at query-migrate to figures a person follows: throughput, dirty rate, expected end.

Rule: what QEMU did not say, or has not measured yet, is None, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from limosa.events import MigrationProgressed
from limosa.migration.passes import Pass, come_down_to
from limosa.qemu.monitor import MigrateInfo, Ram
from limosa.units import format_bytes, format_bytes_per_s, format_duration

_WINDOW_S = 0.5
"""Throughput is taken over this long, so that it neither jumps with each look nor lags behind."""

_SETTLING_S = 2.0
"""How fast memory is settled is taken over this long. It forecasts the end of later passes, which go over pages that
were just written; the first one goes over all memory, and all the zeros of a guest may lie at its end."""

_LEAST_S = 0.1
"""A rate needs looks this far apart: QEMU sends in slices of 50 ms, and keeps to its limit by tenths of a second."""

_RATE_AFTER_S = 1.0
"""QEMU measures the dirty rate from one look at its dirty log to the next one that is this much later
(``migration_bitmap_sync`` in its ram.c). Until then it says 0."""

_SAME = 0.9
"""A pass that begins with this share of the one before, or more, has brought nothing: at that pace it would take more
than twenty to come down to a tenth."""

_TOLD_FROM = 3
"""The pass from which it is said that there is no end: the first goes over all memory, and how much the second begins
with depends on how long that took."""

_NOT_SENDING = frozenset({"none", "setup"})


class _Look(msgspec.Struct, frozen=True):
    at_s: float
    sent_bytes: int
    remaining_bytes: int
    iteration: int


class Progress(msgspec.Struct):
    """Feed it every look; it remembers enough to give rates."""

    guest: str
    started_s: float = msgspec.field(default_factory=time.monotonic)
    last_change_s: float = msgspec.field(default_factory=time.monotonic)
    last: MigrationProgressed | None = None
    _looks: list[_Look] = msgspec.field(default_factory=list)
    """Of the last seconds; the first one of all is ``_first_s``."""
    _first_s: float | None = None
    _measured: bool = False
    """Whether QEMU has had the occasion to measure a dirty rate."""
    _passes: list[Pass] = msgspec.field(default_factory=list)
    """The last three."""
    _counting: tuple[_Look, _Look] | None = None
    """A pass that was counted and in which nothing is known to have been sent: the look before, and the first one."""
    _pass_s: float = 0.0
    """When the figures of this pass were whole."""
    _settled: float | None = None
    _wire: float | None = None
    """How fast pages that hold data went over when there last were such."""

    def look(self, info: MigrateInfo, now_s: float) -> MigrationProgressed:
        """One look at *now_s* (monotonic seconds). Rates in bytes/s; dirty rate is QEMU's, per iteration."""
        said = MigrationProgressed(guest=self.guest, status=info.status, elapsed_ms=(now_s - self.started_s) * 1000)
        if info.ram is not None and info.status not in _NOT_SENDING:
            said = self._with_figures(said, info.ram, now_s)
        self.last = said
        return said

    def _with_figures(self, said: MigrationProgressed, ram: Ram, now_s: float) -> MigrationProgressed:
        look = _Look(now_s, ram.transferred, ram.remaining, ram.dirty_sync_count)
        if not self._looks or look.sent_bytes != self._looks[-1].sent_bytes:
            self.last_change_s = now_s
        self._note_pass(look)
        self._looks.append(look)
        while len(self._looks) > 2 and self._looks[1].at_s < now_s - _SETTLING_S:
            self._looks.pop(0)
        over = said.status == "completed"
        dirty = float(ram.dirty_pages_rate * ram.page_size)
        dirty_rate = None if over or not (dirty or self._measured) else dirty
        settled, throughput = self._settling(), self._throughput()
        if settled is not None and throughput is not None and throughput >= settled / 2:
            self._wire = throughput
        return msgspec.structs.replace(
            said,
            total_bytes=ram.total,
            remaining_bytes=ram.remaining,
            transferred_bytes=ram.transferred,
            dirty_rate_bytes_per_s=dirty_rate,
            throughput_bytes_per_s=throughput,
            settled_bytes_per_s=settled,
            iteration=ram.dirty_sync_count,
            pass_end_at_most_s=_needed_s(ram.remaining, self._wire),
            converges=self._converges(settled, dirty_rate),
            expected_end_s=self._end_s(ram.remaining, settled),
        )

    def _note_pass(self, look: _Look) -> None:
        """QEMU looks at its dirty log as a pass begins: for the first time before the first look of ours.

        It counts the pass first, and what is dirty and how fast that grew afterwards; it sends when that is done.
        """
        if self._first_s is None:
            self._first_s = self._pass_s = look.at_s
            self._passes = [Pass(look.at_s, look.remaining_bytes)]
        elif look.iteration > (before := self._looks[-1]).iteration:
            self._counting = (before, look)
        elif self._counting is not None and look.sent_bytes > self._counting[1].sent_bytes:
            before, begun = self._counting
            self._counting, self._pass_s = None, look.at_s
            self._measured = self._measured or before.at_s - self._first_s > _RATE_AFTER_S
            # Sent of the pass already: since it was first seen, and before that, beyond the rest of the last one.
            sent = look.sent_bytes - begun.sent_bytes
            sent += max(0, begun.sent_bytes - before.sent_bytes - before.remaining_bytes)
            self._passes = [*self._passes[-2:], Pass(begun.at_s, look.remaining_bytes + sent)]

    def _throughput(self) -> float | None:
        last = self._looks[-1]
        before = [look for look in self._looks if look.at_s < last.at_s - _WINDOW_S]
        first = before[-1] if before else self._looks[0]
        span_s = last.at_s - first.at_s
        return (last.sent_bytes - first.sent_bytes) / span_s if span_s >= _LEAST_S else None

    def _settling(self) -> float | None:
        """How fast what remains gets less within a pass; at the beginning of one, what was found in the one before."""
        last = self._looks[-1]
        if self._counting is not None:
            return self._settled
        first = next(look for look in self._looks if look.at_s >= self._pass_s)
        span_s = last.at_s - first.at_s
        if span_s >= _LEAST_S:
            self._settled = (first.remaining_bytes - last.remaining_bytes) / span_s
        return self._settled

    def _share(self) -> float | None:
        """What there was to send as this pass began, over the same of the pass before. The first one does not count: it
        goes over all memory."""
        if len(self._passes) < 3 or not self._passes[1].start_bytes:
            return None
        return self._passes[2].start_bytes / self._passes[1].start_bytes

    def _converges(self, settled: float | None, dirty_rate: float | None) -> bool | None:
        if (share := self._share()) is not None:
            return share < _SAME
        # A dirty rate counts each page once in a period: over a long one it is the least that a shorter one can have.
        too_fast = settled is not None and dirty_rate is not None and dirty_rate >= settled
        return False if too_fast else None

    def _end_s(self, remaining_bytes: int, settled: float | None) -> float | None:
        """The rest of this pass, and passes that get shorter as this one did: the sum of a geometric series. Not where
        they get longer again."""
        share = self._share()
        if share is None or share >= _SAME or self._counting is not None or come_down_to(self._passes):
            return None
        return _needed_s(remaining_bytes + self._passes[-1].start_bytes * share / (1 - share), settled)

    def why_endless(self, downtime_limit_s: float, hand_over: Callable[[float], float] = float) -> str:
        """Why the guest does not get across within *downtime_limit_s*, and the pause in which it would; empty as long
        as that is not known, or not so. *hand_over*: how fast, in bytes/s, what is left goes over once the guest stands
        still, of how fast it went before."""
        last, left = self.last, self._least_bytes()
        if last is None or not left or self._wire is None:
            return ""
        pause_s = left / hand_over(self._wire)
        if pause_s <= downtime_limit_s:
            return ""
        found = self._same() if last.converges is False else f"passes come down to some {format_bytes(left)}"
        rates = "" if last.dirty_rate_bytes_per_s is None else f"{self._rates()}, and "
        return f"{rates}{found}; a pause of some {format_duration(pause_s)} would be needed"

    def _least_bytes(self) -> int:
        """What each pass will leave, of a guest for which that is not ever less; 0 where it is, or not known yet."""
        if self._share() is None or self.last is None or (self.last.iteration or 0) < _TOLD_FROM:
            return 0
        return round(self._passes[-1].start_bytes if self.last.converges is False else come_down_to(self._passes) or 0)

    def why_unfinished(self) -> str:
        """A hint for somebody whose time is up, from what was seen last; empty where nothing is known."""
        last = self.last
        if last is None or last.remaining_bytes is None or last.total_bytes is None:
            return "QEMU had not begun to send memory; over a link that works, a longer --timeout leaves it the time"
        left = f"{format_bytes(last.remaining_bytes)} of {format_bytes(last.total_bytes)} remained"
        if last.converges is False:
            return (
                f"{left}, and {self._why_not()}: let it write less, give it a faster link or a larger --downtime-limit"
            )
        if last.expected_end_s is not None:
            more = f"some {format_duration(last.expected_end_s)} more at the speed seen"
            return f"{left}, {more}: give it a longer --timeout"
        which = "the first pass over its memory" if last.iteration == 1 else "this pass"
        most_s = last.pass_end_at_most_s
        rest = "" if most_s is None else f", at most {format_duration(most_s)} more for that at the speed seen"
        return f"{left} in {which}{rest}: a longer --timeout shows whether later passes get shorter"

    def _why_not(self) -> str:
        return self._rates() if self._share() is None else f"{self._same()}, as the guest wrote meanwhile"

    def _same(self) -> str:
        before, now = (format_bytes(round(each.start_bytes)) for each in self._passes[-2:])
        return f"a pass found no less to send than the one before ({before}, then {now})"

    def _rates(self) -> str:
        assert self.last is not None
        rates = (self.last.dirty_rate_bytes_per_s or 0.0, self.last.settled_bytes_per_s or 0.0)
        return "the guest wrote to {} of memory while {} went over".format(*map(format_bytes_per_s, rates))


def _needed_s(size_bytes: float, rate_bytes_per_s: float | None) -> float | None:
    return size_bytes / rate_bytes_per_s if rate_bytes_per_s else None
