"""From looks at query-migrate to figures a person follows: throughput, dirty rate, expected end."""

from __future__ import annotations

import time

import msgspec

from limosa.events import MigrationProgressed
from limosa.qemu.monitor import MigrateInfo

_WINDOW_S = 0.5
"""Throughput is taken over this long, so that it neither jumps with each look nor lags behind."""


class Progress(msgspec.Struct):
    """Feed it every look; it remembers enough to give rates."""

    guest: str
    started_s: float = msgspec.field(default_factory=time.monotonic)
    _seen: list[tuple[float, int]] = msgspec.field(default_factory=list)
    last_change_s: float = msgspec.field(default_factory=time.monotonic)

    def look(self, info: MigrateInfo, now_s: float) -> MigrationProgressed:
        """One look at *now_s* (monotonic seconds). Rates in bytes/s; dirty rate is QEMU's, per iteration."""
        sent = info.ram.transferred
        if not self._seen or sent != self._seen[-1][1]:
            self.last_change_s = now_s
        self._seen.append((now_s, sent))
        while len(self._seen) > 2 and self._seen[1][0] < now_s - _WINDOW_S:
            self._seen.pop(0)
        first_s, first_bytes = self._seen[0]
        throughput = (sent - first_bytes) / (now_s - first_s) if now_s > first_s else 0.0
        dirty = float(info.ram.dirty_pages_rate * info.ram.page_size)
        return MigrationProgressed(
            guest=self.guest,
            status=info.status,
            elapsed_ms=(now_s - self.started_s) * 1000,
            total_bytes=info.ram.total,
            remaining_bytes=info.ram.remaining,
            transferred_bytes=sent,
            dirty_rate_bytes_per_s=dirty,
            throughput_bytes_per_s=throughput,
            iteration=info.ram.dirty_sync_count,
            expected_end_s=expected_end_s(info.ram.remaining, throughput, dirty),
        )


def expected_end_s(remaining_bytes: int, throughput_bytes_per_s: float, dirty_rate_bytes_per_s: float) -> float | None:
    """Seconds until what remains is sent while new pages are dirtied; None: it does not converge at these rates."""
    net = throughput_bytes_per_s - dirty_rate_bytes_per_s
    return remaining_bytes / net if net > 0 else None
