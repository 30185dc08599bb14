"""Which pages of a guest are dirty, as QEMU's bitmap has it while it sends them. Pure.

Nothing is known of single pages, only W(t): how many bytes a guest dirties, each counted once, within t seconds. That
is enough, as two intervals that meet dirty together what one interval of their joint length does: a page that was
visited is dirty by W of all the time since the look before that visit, however often it was looked at since. So memory
is kept in stretches of address that were visited alike, in the order in which QEMU goes over them, round and round;
what is dirty in one is the share of W that falls there.

Of an emulated guest the log is cleared by a look, so what is written between a look and a visit is dirty again at the
next look. Under KVM QEMU clears the log of what it is about to send, 1 GiB at a time (``clear_bmap_shift`` of its
ram.c, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2): then it is the visit that counts, not the look before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

_NOTHING_BYTES = 1.0
"""Less is what rounding left."""
_LONGEST_S, _STEPS = 1e4, 60


class Region(msgspec.Struct, frozen=True):
    """A stretch of a guest's memory, in the order of addresses. The same within: pages of zeros, and those that are
    written, lie anywhere in it."""

    size_bytes: float
    zero_share: float = 0.0
    """Of its pages, as the move begins."""
    written_share: float = 1.0
    """Of what the guest writes, what falls here. Over all regions it comes to 1."""


class Stretch:
    """Part of a region all of which was visited alike. Its zeros are those of what is dirty in it."""

    __slots__ = ("dirty_bytes", "region", "since_s", "size_bytes", "zero_share")

    def __init__(
        self, region: Region, size_bytes: float, dirty_bytes: float, zero_share: float, since_s: float | None
    ) -> None:
        self.region, self.size_bytes, self.dirty_bytes, self.zero_share = region, size_bytes, dirty_bytes, zero_share
        self.since_s = since_s
        """From when on what is written makes it dirty, in seconds of the guest's. None: it was never visited."""


class DirtyMemory:
    """All of a guest's memory, all dirty at first. *dirtied* is W(t), in seconds of the guest's time and bytes."""

    def __init__(self, regions: Sequence[Region], dirtied: Callable[[float], float], *, by_visit: bool = False) -> None:
        self._dirtied, self._by_visit = dirtied, by_visit
        self._stretches = deque(
            Stretch(each, each.size_bytes, each.size_bytes, each.zero_share, None) for each in regions
        )
        self.total_bytes = sum(each.size_bytes for each in regions)
        self.remaining_bytes = self.total_bytes
        """Dirty, and not sent yet."""
        self._looked_s = 0.0

    def take_up(self, remaining_bytes: float) -> None:
        """So much is dirty of memory all of which was visited: by a guest that has written for as long as that takes,
        by W; what W never comes to was left over."""
        since_s = -_time_for(self._dirtied, remaining_bytes)
        regions = [stretch.region for stretch in self._stretches]
        fitting = [min(region.size_bytes, remaining_bytes * region.written_share) for region in regions]
        scale = remaining_bytes / sum(fitting)
        self._stretches = deque(
            Stretch(region, region.size_bytes, scale * fits, 0.0, since_s)
            for region, fits in zip(regions, fitting, strict=True)
        )
        self.remaining_bytes, self._looked_s = remaining_bytes, 0.0

    def next(self) -> Stretch:
        """Where QEMU is about to send from. There has to be something dirty."""
        while self._stretches[0].dirty_bytes <= 0:
            self._stretches.rotate(-1)
        return self._stretches[0]

    def send(self, size_bytes: float, now_s: float) -> None:
        """So many dirty bytes of the next stretch are sent."""
        stretch = self._stretches[0]
        since_s = now_s if self._by_visit else self._looked_s
        if size_bytes >= stretch.dirty_bytes - _NOTHING_BYTES:
            size_bytes = stretch.dirty_bytes
            self._stretches.popleft()
            visited_bytes = stretch.size_bytes
        else:
            visited_bytes = stretch.size_bytes * size_bytes / stretch.dirty_bytes
            stretch.size_bytes -= visited_bytes
            stretch.dirty_bytes -= size_bytes
        self._join(Stretch(stretch.region, visited_bytes, 0.0, 0.0, since_s))
        self.remaining_bytes -= size_bytes
        if self.remaining_bytes < _NOTHING_BYTES:
            self.remaining_bytes = 0.0

    def look(self, now_s: float) -> float:
        """QEMU looks at the dirty log; how many bytes are dirty that were not before."""
        before, known = self.remaining_bytes, dict[float, float]()
        stretches, self._stretches, self.remaining_bytes, self._looked_s = self._stretches, deque(), 0.0, now_s
        for stretch in stretches:
            since_s, region = stretch.since_s, stretch.region
            if since_s is not None:
                if since_s not in known:
                    known[since_s] = self._dirtied(now_s - since_s)
                dirty_share = min(1.0, known[since_s] * region.written_share / region.size_bytes)
                stretch.dirty_bytes = stretch.size_bytes * dirty_share
            self.remaining_bytes += stretch.dirty_bytes
            self._join(stretch)
        return max(0.0, self.remaining_bytes - before)

    def _join(self, stretch: Stretch) -> None:
        """Put it behind the others; with the last of them it is one where both were visited alike."""
        last = self._stretches[-1] if self._stretches else None
        if (
            last is not None
            and last.region is stretch.region
            and last.since_s == stretch.since_s
            and (last.dirty_bytes > 0) == (stretch.dirty_bytes > 0)
        ):
            last.size_bytes += stretch.size_bytes
            last.dirty_bytes += stretch.dirty_bytes
        else:
            self._stretches.append(stretch)


def _time_for(dirtied: Callable[[float], float], size_bytes: float) -> float:
    """The t of W(t) = *size_bytes*, in seconds; the longest there is where W does not come to that."""
    low, high = 0.0, _LONGEST_S
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if dirtied(middle) < size_bytes else (low, middle)
    return high
