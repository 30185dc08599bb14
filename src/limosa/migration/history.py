"""What was seen of a migration, look by look: its passes and its rates. Pure: it knows no clock but that of the looks.

``ram.remaining`` is a saw-tooth: it falls while a pass is sent, and jumps when QEMU looks at its dirty log. Only what
passes began with may be compared from one to the next.
"""

from __future__ import annotations

import msgspec

from limosa.events import MigrationProgressed
from limosa.migration.passes import Pass

_WINDOW_S = 0.5
"""Throughput is taken over this long, so that it neither jumps with each look nor lags behind."""

_KEPT_S = 2.0
"""Looks are kept for so long. How fast memory is settled is taken over this: it forecasts the end of later passes,
which go over pages that were just written; the first one goes over all memory, and all the zeros of a guest may lie at
its end."""

_LEAST_S = 0.1
"""A rate needs looks this far apart: QEMU sends in slices of 50 ms, and keeps to its limit by tenths of a second."""

_RATE_AFTER_S = 1.0
"""QEMU measures the dirty rate from one look at its dirty log to the next one that is this much later
(``migration_bitmap_sync`` in its ram.c). Until then it says 0."""

_MOST_PASSES = 10_000
"""So many passes are remembered: a guest that never gets across makes one after the other for as long as it is let."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at ``query-migrate``, with what policies judge by. None: QEMU did not say, or has no figures yet."""

    at_s: float
    """Since the migration began."""
    status: str = "active"
    iteration: int | None = None
    """``dirty-sync-count``: how often QEMU has looked at its dirty log."""
    total_bytes: int | None = None
    remaining_bytes: int | None = None
    sent_bytes: int | None = None
    dirty_rate_bytes_per_s: float | None = None
    """As QEMU says it; 0 before it was measured."""
    expected_downtime_ms: float | None = None
    throttle_percent: int | None = None
    """What auto-converge takes from each vCPU; None: it is not at work."""


def recorded(event: MigrationProgressed) -> Look:
    """The look that *event* told of."""
    return Look(
        at_s=event.elapsed_ms / 1000,
        status=event.status,
        iteration=event.iteration,
        total_bytes=event.total_bytes,
        remaining_bytes=event.remaining_bytes,
        sent_bytes=event.transferred_bytes,
        dirty_rate_bytes_per_s=event.dirty_rate_bytes_per_s or 0.0,
        expected_downtime_ms=event.expected_downtime_ms,
        throttle_percent=event.throttle_percent,
    )


class _Figures(msgspec.Struct, frozen=True):
    """A look at which QEMU had figures."""

    at_s: float
    sent_bytes: int
    remaining_bytes: int
    iteration: int


class History:
    """Feed it every look; it remembers the passes, and enough of the last seconds to give rates."""

    def __init__(self) -> None:
        self.now = Look(at_s=0.0, status="none")
        """The last look."""
        self.passes: list[Pass] = []
        """All that are known whole, in order. The first goes over all memory."""
        self.boundary = False
        """Whether at the last look a pass was seen for the first time."""
        self.wire_bytes_per_s: float | None = None
        """How fast pages that hold data went over when there last were such."""
        self.changed_s: float | None = None
        """When something had last gone over; None: nothing has yet."""
        self._looks: list[_Figures] = []
        """Of the last seconds."""
        self._first_s: float | None = None
        """When there were figures for the first time."""
        self._measured = False
        """Whether QEMU has had the occasion to measure a dirty rate."""
        self._counting: tuple[_Figures, _Figures] | None = None
        """A pass that was counted and in which nothing is known to have been sent: the look before, and the first."""
        self._pass_s = 0.0
        """When the figures of this pass were whole."""
        self._settled: float | None = None

    def add(self, look: Look) -> None:
        """One look, later than all before."""
        self.now, self.boundary = look, False
        if look.remaining_bytes is None or look.sent_bytes is None or look.iteration is None:
            return
        figures = _Figures(look.at_s, look.sent_bytes, look.remaining_bytes, look.iteration)
        if not self._looks or figures.sent_bytes != self._looks[-1].sent_bytes:
            self.changed_s = look.at_s
        self._note_pass(figures)
        self._looks.append(figures)
        while len(self._looks) > 2 and self._looks[1].at_s < look.at_s - _KEPT_S:
            self._looks.pop(0)
        self._settling()
        throughput = self.throughput_bytes_per_s
        if self._settled is not None and throughput is not None and throughput >= self._settled / 2:
            self.wire_bytes_per_s = throughput

    def _note_pass(self, look: _Figures) -> None:
        """QEMU looks at its dirty log as a pass begins: for the first time before the first look of ours.

        It counts the pass first, and what is dirty and how fast that grew afterwards; it sends when that is done.
        """
        if self._first_s is None:
            self._first_s = self._pass_s = look.at_s
            self.passes = [Pass(look.at_s, look.remaining_bytes)]
            self.boundary = True
        elif look.iteration > (before := self._looks[-1]).iteration:
            if self._counting is not None:
                self._note_short_pass(self._counting[1], look)
            self._counting = (before, look)
        elif self._counting is not None and look.sent_bytes > self._counting[1].sent_bytes:
            before, begun = self._counting
            self._counting, self._pass_s = None, look.at_s
            self._measured = self._measured or before.at_s - self._first_s > _RATE_AFTER_S
            # Sent of the pass already: since it was first seen, and before that, beyond the rest of the last one.
            sent = look.sent_bytes - begun.sent_bytes
            sent += max(0, begun.sent_bytes - before.sent_bytes - before.remaining_bytes)
            self._add_pass(Pass(begun.at_s, look.remaining_bytes + sent))

    def _note_short_pass(self, begun: _Figures, look: _Figures) -> None:
        """A pass that was over before there was a look within it: it began with what was left as it was counted, or, if
        that was not known yet, with what has been sent since."""
        sent = look.sent_bytes - begun.sent_bytes if look.iteration == begun.iteration + 1 else 0
        self._add_pass(Pass(begun.at_s, max(begun.remaining_bytes, sent)))

    def _add_pass(self, begun: Pass) -> None:
        self.passes.append(begun)
        del self.passes[1:-_MOST_PASSES]
        self.boundary = True

    @property
    def counting(self) -> bool:
        """Whether a pass has begun of which it is not known yet what there is to send."""
        return self._counting is not None

    @property
    def dirty_rate_bytes_per_s(self) -> float | None:
        """QEMU's own; None before it was measured."""
        return self.now.dirty_rate_bytes_per_s or (self.now.dirty_rate_bytes_per_s if self._measured else None)

    @property
    def throughput_bytes_per_s(self) -> float | None:
        """What goes over the wire."""
        return self.rate(_WINDOW_S)

    def rate(self, window_s: float) -> float | None:
        """What went over the wire within the last *window_s*, at most two seconds, in bytes/s."""
        if not self._looks:
            return None
        last = self._looks[-1]
        before = [look for look in self._looks if look.at_s < last.at_s - window_s]
        first = before[-1] if before else self._looks[0]
        span_s = last.at_s - first.at_s
        return (last.sent_bytes - first.sent_bytes) / span_s if span_s >= _LEAST_S else None

    @property
    def settled_bytes_per_s(self) -> float | None:
        """How fast what remains gets less within a pass; at the beginning of one, what was found in the one before."""
        return self._settled

    def _settling(self) -> None:
        if self._counting is not None:
            return
        last = self._looks[-1]
        first = next(look for look in self._looks if look.at_s >= self._pass_s)
        span_s = last.at_s - first.at_s
        if span_s >= _LEAST_S:
            self._settled = (first.remaining_bytes - last.remaining_bytes) / span_s

    @property
    def share(self) -> float | None:
        """What there was to send as this pass began, over the same of the pass before. The first one does not count: it
        goes over all memory."""
        if len(self.passes) < 3 or not self.passes[-2].start_bytes:
            return None
        return self.passes[-1].start_bytes / self.passes[-2].start_bytes
