"""From looks at query-migrate to figures a person follows: throughput, dirty rate, expected end.

Rule: what QEMU did not say, or has not measured yet, is None, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from limosa.events import MigrationProgressed
from limosa.migration.history import History, Look
from limosa.migration.passes import come_down_to
from limosa.qemu.monitor import MigrateInfo, Ram
from limosa.units import format_bytes, format_bytes_per_s, format_duration

_SAME = 0.9
"""A pass that begins with this share of the one before, or more, has brought nothing: at that pace it would take more
than twenty to come down to a tenth."""

_TOLD_FROM = 3
"""The pass from which it is said that there is no end: the first goes over all memory, and how much the second begins
with depends on how long that took."""

_NOT_SENDING = frozenset({"none", "setup"})


class Progress:
    """Feed it every look; it remembers enough to give rates."""

    def __init__(self, guest: str, started_s: float | None = None) -> None:
        """*started_s*: when the migration began, by ``time.monotonic``; None: now."""
        self.guest = guest
        self.started_s = time.monotonic() if started_s is None else started_s
        self.last_change_s = time.monotonic()
        """When something had last gone over, as far as that is known."""
        self.last: MigrationProgressed | None = None
        self.seen = History()

    def look(self, info: MigrateInfo, now_s: float) -> MigrationProgressed:
        """One look at *now_s* (monotonic seconds). Rates in bytes/s; dirty rate is QEMU's, per iteration."""
        at_s = now_s - self.started_s
        said = MigrationProgressed(guest=self.guest, status=info.status, elapsed_ms=at_s * 1000)
        ram = None if info.status in _NOT_SENDING else info.ram
        self.seen.add(_look(info, ram, at_s))
        if ram is not None:
            if self.seen.changed_s == at_s:
                self.last_change_s = now_s
            said = self._with_figures(said, ram)
        self.last = said
        return said

    def _with_figures(self, said: MigrationProgressed, ram: Ram) -> MigrationProgressed:
        seen = self.seen
        dirty_rate = None if said.status == "completed" else seen.dirty_rate_bytes_per_s
        return msgspec.structs.replace(
            said,
            total_bytes=ram.total,
            remaining_bytes=ram.remaining,
            transferred_bytes=ram.transferred,
            dirty_rate_bytes_per_s=dirty_rate,
            throughput_bytes_per_s=seen.throughput_bytes_per_s,
            settled_bytes_per_s=seen.settled_bytes_per_s,
            iteration=ram.dirty_sync_count,
            expected_downtime_ms=seen.now.expected_downtime_ms,
            throttle_percent=seen.now.throttle_percent,
            pass_end_at_most_s=_needed_s(ram.remaining, seen.wire_bytes_per_s),
            converges=self._converges(seen.settled_bytes_per_s, dirty_rate),
            expected_end_s=self._end_s(ram.remaining, seen.settled_bytes_per_s),
        )

    def _converges(self, settled: float | None, dirty_rate: float | None) -> bool | None:
        if (share := self.seen.share) is not None:
            return share < _SAME
        # A dirty rate counts each page once in a period: over a long one it is the least that a shorter one can have.
        too_fast = settled is not None and dirty_rate is not None and dirty_rate >= settled
        return False if too_fast else None

    def _end_s(self, remaining_bytes: int, settled: float | None) -> float | None:
        """The rest of this pass, and passes that get shorter as this one did: the sum of a geometric series. Not where
        they get longer again."""
        share = self.seen.share
        if share is None or share >= _SAME or self.seen.counting or come_down_to(self.seen.passes):
            return None
        return _needed_s(remaining_bytes + self.seen.passes[-1].start_bytes * share / (1 - share), settled)

    def why_endless(self, downtime_limit_s: float, hand_over: Callable[[float], float] = float) -> str:
        """Why the guest does not get across within *downtime_limit_s*, and the pause in which it would; empty as long
        as that is not known, or not so. *hand_over*: how fast, in bytes/s, what is left goes over once the guest stands
        still, of how fast it went before."""
        last, left = self.last, self._least_bytes()
        if last is None or not left or self.seen.wire_bytes_per_s is None:
            return ""
        pause_s = left / hand_over(self.seen.wire_bytes_per_s)
        if pause_s <= downtime_limit_s:
            return ""
        found = self._same() if last.converges is False else f"passes come down to some {format_bytes(left)}"
        rates = "" if last.dirty_rate_bytes_per_s is None else f"{self._rates()}, and "
        return f"{rates}{found}; a pause of some {format_duration(pause_s)} would be needed"

    def _least_bytes(self) -> int:
        """What each pass will leave, of a guest for which that is not ever less; 0 where it is, or not known yet."""
        if self.seen.share is None or self.last is None or (self.last.iteration or 0) < _TOLD_FROM:
            return 0
        passes = self.seen.passes
        return round(passes[-1].start_bytes if self.last.converges is False else come_down_to(passes) or 0)

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
        return self._rates() if self.seen.share is None else f"{self._same()}, as the guest wrote meanwhile"

    def _same(self) -> str:
        before, now = (format_bytes(round(each.start_bytes)) for each in self.seen.passes[-2:])
        return f"a pass found no less to send than the one before ({before}, then {now})"

    def _rates(self) -> str:
        assert self.last is not None
        rates = (self.last.dirty_rate_bytes_per_s or 0.0, self.last.settled_bytes_per_s or 0.0)
        return "the guest wrote to {} of memory while {} went over".format(*map(format_bytes_per_s, rates))


def _look(info: MigrateInfo, ram: Ram | None, at_s: float) -> Look:
    said = Look(at_s=at_s, status=info.status, throttle_percent=info.cpu_throttle_percentage)
    if ram is None:
        return said
    return msgspec.structs.replace(
        said,
        iteration=ram.dirty_sync_count,
        total_bytes=ram.total,
        remaining_bytes=ram.remaining,
        sent_bytes=ram.transferred,
        dirty_rate_bytes_per_s=float(ram.dirty_pages_rate * ram.page_size),
        expected_downtime_ms=info.expected_downtime,
    )


def _needed_s(size_bytes: float, rate_bytes_per_s: float | None) -> float | None:
    return size_bytes / rate_bytes_per_s if rate_bytes_per_s else None
