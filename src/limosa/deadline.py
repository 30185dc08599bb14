"""A moment on the monotonic clock by which something has to be done; passed along instead of seconds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

FOREVER_S = 365 * 86400.0


class Deadline:
    """``at_s`` is a time.monotonic() value."""

    __slots__ = ("at_s",)

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The moment that many seconds from now; None is a year."""
        return cls(time.monotonic() + (FOREVER_S if seconds is None else seconds))

    @property
    def left_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return time.monotonic() >= self.at_s

    async def ticks(self, every_s: float) -> AsyncIterator[None]:
        """Yield at once, then every *every_s* seconds until the moment has passed: for polling as a fallback."""
        import asyncio

        while True:
            yield
            if self.passed:
                return
            await asyncio.sleep(min(every_s, self.left_s))
