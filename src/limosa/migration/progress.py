"""From looks at query-migrate to figures a person follows: throughput, dirty rate, expected end.

Rule: what QEMU did not say, or has not measured yet, is None, never 0.
"""

from __future__ import annotations

import time

import msgspec

from limosa.events import MigrationProgressed
from limosa.qemu.monitor import MigrateInfo, Ram
from limosa.units import format_bytes, format_bytes_per_s, format_duration

_WINDOW_S = 0.5
"""Throughput is taken over this long, so that it neither jumps with each look nor lags behind."""

_SETTLING_S = 2.0
"""How fast memory is settled is taken over this long. It forecasts the end of later passes, which go over pages that
were just written; the first one goes over all memory, where the zeros of a whole guest may lie at the end."""

_LEAST_S = 0.1
"""A rate needs looks this far apart: QEMU sends in slices of 50 ms, and keeps to its limit by tenths of a second."""

_RATE_AFTER_S = 1.0
"""QEMU measures the dirty rate from one look at its dirty log to the next one that is this much later
(``migration_bitmap_sync`` in its ram.c). Until then it says 0."""

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
        self._note_measured(look)
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
            pass_end_at_most_s=expected_end_s(ram.remaining, self._wire, 0.0),
            expected_end_s=expected_end_s(ram.remaining, settled, dirty_rate),
        )

    def _note_measured(self, look: _Look) -> None:
        """QEMU looked at its dirty log after the look before this one, and for the first time before the first one."""
        if self._first_s is None:
            self._first_s = look.at_s
        elif look.iteration > self._looks[-1].iteration and self._looks[-1].at_s - self._first_s > _RATE_AFTER_S:
            self._measured = True

    def _throughput(self) -> float | None:
        last = self._looks[-1]
        before = [look for look in self._looks if look.at_s < last.at_s - _WINDOW_S]
        first = before[-1] if before else self._looks[0]
        span_s = last.at_s - first.at_s
        return (last.sent_bytes - first.sent_bytes) / span_s if span_s >= _LEAST_S else None

    def _settling(self) -> float | None:
        """How fast what remains gets less within a pass; at the beginning of one, what was found in the one before."""
        last = self._looks[-1]
        first = next(look for look in self._looks if look.iteration == last.iteration)
        span_s = last.at_s - first.at_s
        if span_s >= _LEAST_S:
            self._settled = (first.remaining_bytes - last.remaining_bytes) / span_s
        return self._settled

    def why_unfinished(self) -> str:
        """A hint for somebody whose time is up, from what was seen last; empty where nothing is known."""
        last = self.last
        if last is None or last.remaining_bytes is None or last.total_bytes is None:
            return "QEMU had not begun to send memory; over a link that works, a longer --timeout leaves it the time"
        settled, dirty = last.settled_bytes_per_s, last.dirty_rate_bytes_per_s
        left = f"{format_bytes(last.remaining_bytes)} of {format_bytes(last.total_bytes)} remained"
        if settled is not None and dirty is not None and dirty >= settled:
            written, went = format_bytes_per_s(dirty), format_bytes_per_s(settled)
            said = f"{left}, and the guest wrote to {written} of memory while {went} went over"
            return f"{said}: let it write less, give it a faster link or a larger --downtime-limit"
        which = " in the first pass over its memory" if last.iteration == 1 else ""
        more = "" if last.pass_end_at_most_s is None else f", at most {format_duration(last.pass_end_at_most_s)} more"
        if last.expected_end_s is not None:
            more = f", some {format_duration(last.expected_end_s)} more"
        return f"{left}{which}{f'{more} at the speed seen' if more else ''}: give it a longer --timeout"


def expected_end_s(
    remaining_bytes: int, settled_bytes_per_s: float | None, dirty_rate_bytes_per_s: float | None
) -> float | None:
    """Seconds until what remains is settled while new pages are dirtied.

    None: it does not converge at these rates, or one of them is not known.
    """
    if settled_bytes_per_s is None or dirty_rate_bytes_per_s is None:
        return None
    net = settled_bytes_per_s - dirty_rate_bytes_per_s
    return remaining_bytes / net if net > 0 else None
