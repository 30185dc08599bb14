"""Limosa's own: keeps what clients miss within a limit, and takes the shortest way there that was allowed.

It judges where QEMU has just looked at its dirty log, since only what passes begin with can be compared. It begins with
a pause that is much shorter than allowed, for guests that need no more, and allows more only when waiting does not
pay: a pass more costs as long as it takes, and spares a tenth of that in outage at least, or it is not worth it. Where
passes have stopped to get shorter it takes a pass that happens to be short, then what was allowed: a throttle, a
post-copy, a longer pause; or gives up, and says what would have worked. Nothing that cannot be undone is done while the
link is bad.
"""

from __future__ import annotations

import itertools
import math
import statistics

import msgspec

from limosa.migration.history import History
from limosa.migration.passes import come_down_to
from limosa.migration.policies.policy import (
    MOST_DOWNTIME_MS,
    POST_COPY,
    Action,
    Brief,
    Judgement,
    Policy,
    cancel,
    pause_of,
)
from limosa.spec.migration_options import Value
from limosa.units import format_bytes, format_bytes_per_s, format_duration

LEAST_MS = 10
"""A shorter pause cannot be planned, nor one told from another that is shorter by less: QEMU sends in slices of 50
ms."""
_FIRST_SHARE, _FIRST_MS = 1 / 5, 30
"""The pause that it begins with: this share of what is allowed, or this, if that is more."""
_PAYS = 0.9
"""Waiting for a pass that would be this share of the one before, or more, does not pay: a second of migration is worth
a tenth of a second of outage."""
_ROOM, _ROOM_MS = 1.1, 10
"""By how much more than what is needed is allowed: QEMU's own estimate of the rate differs a little each time."""
_SAME = 0.97
"""Passes of which each begins with this share of the one before, or more, come to no end that is worth waiting for."""
_JUDGED = 3
"""So many shares, the last ones, say whether passes get shorter."""
_NEAR_PLATEAU = 1.15
_SHORT_PASS = 1.04
"""A pass within this of the shortest is as short as they get."""
_PATIENCE = (4, 2, 1)
"""For so many passes a short one is waited for; then so many for the next larger, and so on."""
_BAD_LINK, _HELD_S = 0.3, 5.0
"""Under this share of the best rate the link is bad, and waited for so long."""
_GIVE_UP_PASSES, _GIVE_UP_S = 8, 5.0
_THROTTLED_PASSES = 4
_SWITCH_WORTH_S = 3.0
"""So much longer than post-copy takes may be waited for the end of passes: the tenth part of it in outage."""
_LAST_RESORT = 1.2
"""The last resort is taken when this many times what it needs is left of the deadline."""


class _Memory(msgspec.Struct, frozen=True):
    stalled: int = 0
    """How many passes in a row have brought nothing."""
    stalled_s: float = 0.0
    """When the first of them began."""
    shortest: tuple[float, ...] = ()
    """What they began with, bytes."""
    best_rate: float = 0.0
    bad_s: float | None = None
    """Since when the link has been bad; None: it is not."""
    limit_ms: float = 0.0
    """The pause that is allowed by now, where more than at first."""
    throttled_at: int | None = None
    """The pass at which the guest was throttled."""
    throttle_over: bool = False
    over: bool = False


def most_pause_s(brief: Brief, rate: float | None) -> float:
    """The pause that QEMU may plan for, so that clients miss no more than they are to. *rate*: of the link, bytes/s."""
    held_s = brief.held_bytes / rate if rate else 0.0
    return max(LEAST_MS / 1000, brief.outage_s - brief.gap_s - brief.fixed_s - held_s)


def post_copy_outage_s(brief: Brief, rate: float) -> float:
    """What clients miss when post-copy begins: what the target begins with goes behind all that the kernel holds, and
    so does the first page that it waits for."""
    return brief.gap_s + brief.fixed_s + 2 * brief.held_bytes / rate


def _begins(brief: Brief) -> dict[str, Value]:
    most_ms = most_pause_s(brief, None) * 1000
    options: dict[str, Value] = {"downtime-limit": round(min(most_ms, max(_FIRST_MS, most_ms * _FIRST_SHARE)))}
    if brief.throttle_percent:
        parked = {"cpu-throttle-initial": 1, "cpu-throttle-increment": 1, "max-cpu-throttle": 1}
        options |= {"auto-converge": True, **parked}
    return options


def _step(seen: History, brief: Brief, memory: _Memory) -> Judgement:
    rate = seen.wire_bytes_per_s
    if memory.over or rate is None or seen.now.remaining_bytes is None:
        return Judgement(memory=memory)
    memory = _with_link(seen, memory)
    if _time_is_up(seen, brief, rate):
        return _last_resort(seen, brief, memory, rate)
    if not seen.boundary or len(seen.passes) < 2:
        return Judgement(memory=memory)
    memory = _with_pass(seen, memory)
    if memory.bad_s is not None and seen.now.at_s - memory.bad_s <= _HELD_S:
        return Judgement(memory=memory)
    return _at_boundary(seen, brief, memory, rate)


def _with_link(seen: History, memory: _Memory) -> _Memory:
    """What is known of the link after this look: its best rate, and whether it is bad."""
    now = seen.rate(1.0)
    if now is None or not _sends_data(seen):
        return memory
    if now < _BAD_LINK * memory.best_rate:
        return memory if memory.bad_s is not None else msgspec.structs.replace(memory, bad_s=seen.now.at_s)
    return msgspec.structs.replace(memory, bad_s=None, best_rate=max(memory.best_rate, now))


def _sends_data(seen: History) -> bool:
    """Whether what goes over now is data: pages of zeros take hardly anything on the wire."""
    settled, throughput = seen.settled_bytes_per_s, seen.throughput_bytes_per_s
    return settled is not None and throughput is not None and throughput >= settled / 2


def _with_pass(seen: History, memory: _Memory) -> _Memory:
    """What is known of the passes at a boundary: for how long they have brought nothing."""
    begins = seen.passes[-1].start_bytes
    plateau = come_down_to(seen.passes)
    last = seen.passes[1:][-_JUDGED - 1 :]  # the first goes over all memory
    shares = [
        after.start_bytes / before.start_bytes for before, after in itertools.pairwise(last) if before.start_bytes
    ]
    same = bool(shares) and statistics.median(shares) >= _SAME
    if not (same or (plateau and begins <= _NEAR_PLATEAU * plateau)):
        return msgspec.structs.replace(memory, stalled=0, shortest=())
    began_s = seen.passes[-1].began_s if memory.stalled == 0 else memory.stalled_s
    shortest = tuple(sorted((*memory.shortest, begins)))[: len(_PATIENCE)]
    return msgspec.structs.replace(memory, stalled=memory.stalled + 1, stalled_s=began_s, shortest=shortest)


def _at_boundary(seen: History, brief: Brief, memory: _Memory, rate: float) -> Judgement:
    begins, most_s = seen.passes[-1].start_bytes, most_pause_s(brief, rate)
    needed_s, share = begins / rate, seen.share
    if needed_s <= most_s and (memory.stalled or (share is not None and share >= _PAYS)):
        return _allow(memory, needed_s, most_s, _said(seen, rate, needed_s))
    if memory.stalled == 0:
        return _converging(seen, brief, memory, rate)
    if memory.shortest[0] / rate <= most_s and memory.stalled <= sum(_PATIENCE):
        return Judgement(memory=memory)  # one that fits was seen: the next of its kind is waited for
    return _stalled(seen, brief, memory, rate)


def _converging(seen: History, brief: Brief, memory: _Memory, rate: float) -> Judgement:
    """Passes get shorter; post-copy where that would go on for much longer than it takes."""
    share, needed_s = seen.share, seen.passes[-1].start_bytes / rate
    if brief.post_copy != "ok" or share is None or not _may_switch(brief, memory, rate):
        return Judgement(memory=memory)
    wait_s = needed_s / (1 - share) if share < 1 else math.inf
    if wait_s <= needed_s + _SWITCH_WORTH_S:
        return Judgement(memory=memory)
    why = f"{_said(seen, rate, needed_s)}; passes would go on for {format_duration(min(wait_s, 86400.0))} or longer"
    return Judgement(POST_COPY, why, msgspec.structs.replace(memory, over=True))


def _may_switch(brief: Brief, memory: _Memory, rate: float) -> bool:
    """Whether post-copy keeps to the limit, and the link is one to rely on."""
    return post_copy_outage_s(brief, rate) <= brief.outage_s and memory.bad_s is None


def _allow(memory: _Memory, needed_s: float, most_s: float, why: str) -> Judgement:
    limit_ms = min(most_s * 1000, _ROOM * needed_s * 1000 + _ROOM_MS)
    if limit_ms < memory.limit_ms + LEAST_MS:
        return Judgement(memory=memory)
    return Judgement(pause_of(limit_ms), why, msgspec.structs.replace(memory, limit_ms=limit_ms))


def _stalled(seen: History, brief: Brief, memory: _Memory, rate: float) -> Judgement:
    """Passes do not get shorter, and none of them fits."""
    needed_s = memory.shortest[0] / rate
    said = f"{_said(seen, rate, seen.passes[-1].start_bytes / rate)}; {_limit(brief, rate)}"
    if brief.post_copy == "ok" and memory.stalled >= 2 and _may_switch(brief, memory, rate):
        return Judgement(POST_COPY, said, msgspec.structs.replace(memory, over=True))
    if brief.throttle_percent and not memory.throttle_over:
        return _throttle(seen, brief, memory, said)
    if brief.deadline_s is not None or memory.stalled < _GIVE_UP_PASSES:
        return Judgement(memory=memory)
    if seen.now.at_s - memory.stalled_s < _GIVE_UP_S:
        return Judgement(memory=memory)
    over = msgspec.structs.replace(memory, over=True)
    if brief.post_copy == "last" and _may_switch(brief, memory, rate):
        return Judgement(POST_COPY, said, over)
    if brief.exceed:
        return Judgement(pause_of((needed_s * _ROOM) * 1000 + _ROOM_MS), said, over)
    return Judgement(cancel(_what_would_do(brief, needed_s, rate)), said, over)


def _throttle(seen: History, brief: Brief, memory: _Memory, said: str) -> Judgement:
    """Once, up to what is allowed; where passes do not get shorter of it, it is taken back for good."""
    number = len(seen.passes)
    if memory.throttled_at is None:
        action = Action(
            "set", {"max-cpu-throttle": brief.throttle_percent, "cpu-throttle-increment": brief.throttle_percent}
        )
        return Judgement(action, said, msgspec.structs.replace(memory, throttled_at=number))
    if number - memory.throttled_at < _THROTTLED_PASSES:
        return Judgement(memory=memory)
    why = f"passes are no shorter {number - memory.throttled_at} passes after the guest was throttled"
    action = Action("set", {"cpu-throttle-increment": 1, "max-cpu-throttle": 1})
    return Judgement(action, why, msgspec.structs.replace(memory, throttle_over=True, stalled=1))


def _time_is_up(seen: History, brief: Brief, rate: float) -> bool:
    if brief.deadline_s is None:
        return False
    if len(seen.passes) < 2:
        return False
    return seen.now.at_s >= brief.deadline_s - _LAST_RESORT * (_left(seen) / rate + brief.fixed_s)


def _left(seen: History) -> float:
    """What there would be to send if the guest stood still now: what of this pass is not sent, and what was written
    meanwhile; no more than it began with, mostly."""
    return max(seen.passes[-1].start_bytes, seen.now.remaining_bytes or 0)


def _last_resort(seen: History, brief: Brief, memory: _Memory, rate: float) -> Judgement:
    left = round(_left(seen))
    needed_s = left / rate
    why = (
        f"{format_bytes(left)} are left after {seen.now.at_s:.1f} s, the deadline is {brief.deadline_s:g} s, and at "
        f"{format_bytes_per_s(rate)} they take {format_duration(needed_s)}"
    )
    over = msgspec.structs.replace(memory, over=True)
    if needed_s <= most_pause_s(brief, rate):
        return Judgement(pause_of(most_pause_s(brief, rate) * 1000), why, over)
    if brief.exceed:
        return Judgement(pause_of(MOST_DOWNTIME_MS), why, over)
    if brief.may_post_copy and _may_switch(brief, memory, rate):
        return Judgement(POST_COPY, why, over)
    return Judgement(cancel(_what_would_do(brief, needed_s, rate)), why, over)


def _said(seen: History, rate: float, needed_s: float) -> str:
    before, now = (format_bytes(round(each.start_bytes)) for each in seen.passes[-2:])
    pause = f"at {format_bytes_per_s(rate)} a pause of {format_duration(needed_s)}"
    return f"pass {len(seen.passes)} begins with {now}, the one before with {before}: {pause}"


def _limit(brief: Brief, rate: float) -> str:
    allowed = format_duration(most_pause_s(brief, rate))
    return f"{allowed} of it are allowed, for an outage of {format_duration(brief.outage_s)}"


def _what_would_do(brief: Brief, needed_s: float, rate: float) -> str:
    """What would have worked, with its price."""
    outage_s = needed_s * _ROOM + brief.gap_s + brief.fixed_s + brief.held_bytes / rate
    ways = [f"--outage '{format_duration(outage_s)}'"]
    switch_s = post_copy_outage_s(brief, rate)
    if switch_s < outage_s:
        limit = "" if switch_s <= brief.outage_s else f" --outage '{format_duration(switch_s * _ROOM)}'"
        ways.append(f"--post-copy ok{limit} (it is lost if a host goes down before all has arrived)")
    return f"it would get across with {', or with '.join(ways)}"


POLICIES = (
    Policy(
        name="auto",
        says="keeps what clients miss within --outage by the shortest way that is allowed, and says why where none is",
        source="Limosa's own",
        begins=_begins,
        step=_step,
        memory=_Memory(),
        post_copy="may",
    ),
)
