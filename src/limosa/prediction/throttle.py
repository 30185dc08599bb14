"""How QEMU slows down a guest that writes too fast, as ``auto-converge`` has it. Pure.

After ``migration_trigger_throttle`` and ``mig_throttle_guest_down`` in QEMU's ram.c; a guest that is throttled by p
percent sleeps p / (100 - p) times as long as it runs (cpu-throttle.c).
"""

from __future__ import annotations

from collections.abc import Mapping

from limosa.spec.migration_options import Value


class Throttle:
    """What a guest is slowed down by. *options* are read anew each time: they can be set under way."""

    def __init__(self, options: Mapping[str, Value], busy_share: float) -> None:
        self._options, self._busy_share = options, busy_share
        self.percent = 0
        self.speed = 1.0
        """What is left of the guest's own speed."""
        self._high = 0

    @property
    def on(self) -> bool:
        """Whether QEMU may slow the guest down."""
        return bool(self._options["auto-converge"])

    def judge(self, dirtied_bytes: float, sent_bytes: float) -> None:
        """At a look at the dirty log, a second or more after the one before: every second time that too much was
        dirtied the guest is slowed down by a step."""
        allowed = sent_bytes * int(self._options["throttle-trigger-threshold"]) / 100
        if not self.on or dirtied_bytes <= allowed:
            return
        self._high += 1
        if self._high < 2:
            return
        self._high = 0
        self.take(min(99, max(1, self._next(allowed / dirtied_bytes))))

    def take(self, percent: int) -> None:
        """So much of its time is taken from the guest."""
        self.percent = percent
        self.speed = min(1.0, (1 - self.percent / 100) / self._busy_share) if self._busy_share > 0 else 1.0

    def _next(self, enough: float) -> int:
        """Percent, where the guest wrote *enough*⁻¹ times what it may."""
        if not self.percent:
            return int(self._options["cpu-throttle-initial"])
        step = int(self._options["cpu-throttle-increment"])
        if self._options["cpu-throttle-tailslow"]:
            left = 100 - self.percent
            step = min(step, int(left - left * enough))
        return min(int(self._options["max-cpu-throttle"]), self.percent + step)
