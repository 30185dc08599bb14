"""Proxmox VE: doubles the pause whenever a sixth look found more left than the one before it. It never gives up.

qemu-server 9.2.6 (commit e6352be), src/PVE/QemuMigrate.pm and QemuMigrate/Helpers.pm. Its looks are 1 s apart, and
0.1 s for good once less is left than went over between two looks on average.
"""

from __future__ import annotations

import msgspec

from limosa.migration.history import History
from limosa.migration.policies.policy import MOST_DOWNTIME_MS, Brief, Judgement, Policy, pause_of
from limosa.spec.migration_options import Value

_FIRST_MS, _RISES, _CACHE_SHARE, _FASTEST_BYTES_PER_S = 100, 5, 0.1, 16 << 30
_SLOW_TICK_S, _QUICK_TICK_S = 1.0, 0.1


class _Memory(msgspec.Struct, frozen=True):
    limit_ms: int = _FIRST_MS
    next_s: float = 0.0
    """When it looks again."""
    ticks: int = 0
    rises: int = 0
    sent_bytes: int = 0
    """At the last look at which bytes had moved."""
    left_bytes: int | None = None
    """Likewise what was left."""
    quick: bool = False


def _begins(brief: Brief) -> dict[str, Value]:
    cache = 1 << max(12, int(brief.memory_bytes * _CACHE_SHARE - 1).bit_length())
    return {
        "auto-converge": True,
        "xbzrle": True,
        "xbzrle-cache-size": cache,
        "downtime-limit": _FIRST_MS,
        "max-bandwidth": brief.max_bandwidth_bytes_per_s or _FASTEST_BYTES_PER_S,
    }


def _step(seen: History, brief: Brief, memory: _Memory) -> Judgement:
    now = seen.now
    if now.at_s < memory.next_s or now.sent_bytes is None or now.remaining_bytes is None:
        return Judgement(memory=memory)
    ticks = memory.ticks + 1
    quick = memory.quick or now.remaining_bytes < now.sent_bytes / ticks
    after = msgspec.structs.replace(
        memory, ticks=ticks, quick=quick, next_s=now.at_s + brief.seconds(_QUICK_TICK_S if quick else _SLOW_TICK_S)
    )
    if now.sent_bytes <= memory.sent_bytes:
        return Judgement(memory=after)
    rose = memory.left_bytes is not None and now.remaining_bytes > memory.left_bytes
    rises = memory.rises + (rose or now.remaining_bytes == 0)
    after = msgspec.structs.replace(after, sent_bytes=now.sent_bytes, left_bytes=now.remaining_bytes, rises=rises)
    if rises <= _RISES or memory.limit_ms == MOST_DOWNTIME_MS:
        return Judgement(memory=after)
    limit_ms = min(MOST_DOWNTIME_MS, memory.limit_ms * 2)
    why = f"{rises} looks found more left than the one before: the pause is doubled"
    return Judgement(pause_of(limit_ms), why, msgspec.structs.replace(after, rises=0, limit_ms=limit_ms))


POLICIES = (
    Policy(
        name="proxmox",
        says="throttles, sends differences (xbzrle), and doubles the pause from 100 ms on as often as it takes",
        source="Proxmox VE, qemu-server 9.2.6 (e6352be), src/PVE/QemuMigrate.pm",
        begins=_begins,
        step=_step,
        memory=_Memory(),
    ),
)
