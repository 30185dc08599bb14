"""What a person may choose about a migration."""

from __future__ import annotations

from typing import Any

import msgspec

from limosa.errors import SpecError
from limosa.migration import limits

UNLIMITED_BYTES_PER_S = 1 << 50
"""What "no limit" is in QEMU's ``max-bandwidth``: 1 PiB/s. (Its own default is 128 MiB/s.)"""
_MOST = (1 << 63) - 1


class Settings(msgspec.Struct, frozen=True):
    """Sensible by default: bandwidth unlimited, downtime limit 300 ms as QEMU's own.

    Raises SpecError for limits that no QEMU keeps, in ``parameters`` too.
    """

    max_bandwidth_bytes_per_s: int | None = None
    """The most that QEMU may send; None: as much as the link takes."""
    downtime_limit_ms: int = 300
    """How long the guest may stand still at the end, as QEMU estimates it."""
    timeout_s: float | None = None
    """Give up after this; None: as long as it takes."""
    stall_s: float = 15.0
    """Give up when nothing at all was transferred for this long: the link is cut."""
    hand_over_s: float = 60.0
    """How long the target may take to start the guest once the source has sent everything: device state under load."""
    poll_s: float = 0.02
    """How often query-migrate is asked."""
    capabilities: tuple[str, ...] = ()
    """Further migration capabilities, set on both sides."""
    parameters: tuple[tuple[str, Any], ...] = ()
    """Further migration parameters, set on both sides."""

    def __post_init__(self) -> None:
        asked = self.qemu_parameters()
        _check("downtime limit", asked["downtime-limit"], "ms", 0, limits.MOST_DOWNTIME_MS, limits.WHY_MOST)
        bandwidth = asked["max-bandwidth"]
        _check("bandwidth", bandwidth, "bytes/s", limits.LEAST_BYTES_PER_S, _MOST, limits.WHY_LEAST)

    def qemu_parameters(self) -> dict[str, Any]:
        """As ``migrate-set-parameters`` takes them: bytes/s and ms."""
        limit = self.max_bandwidth_bytes_per_s
        return {
            "max-bandwidth": UNLIMITED_BYTES_PER_S if limit is None else limit,
            "downtime-limit": self.downtime_limit_ms,
            **dict(self.parameters),
        }


def _check(what: str, value: object, unit: str, least: int, most: int, why: str) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise SpecError(f"a {what} of {value} {unit} cannot be: it is from {least} to {most} {unit}", hint=why)
