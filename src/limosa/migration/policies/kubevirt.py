"""KubeVirt: by time alone (its default), with a pause that grows, or by stalls.

KubeVirt 1.9 (commit d923fdb), pkg/virt-launcher/virtwrap/live-migration-source.go and stall-detector.go; VEPs 248 and
291 of kubevirt/enhancements. Defaults of pkg/virt-config: 150 s for each GB, 150 s without progress, pause 900 ms at
most. Where post-copy is allowed, "workload disruption" is, as there; else it is where a longer pause is better than
giving up. Its eight multifd connections do not go with post-copy, and are left out where that is allowed.
"""

from __future__ import annotations

import math

import msgspec

from limosa.migration.history import History
from limosa.migration.policies.policy import (
    MOST_DOWNTIME_MS,
    POST_COPY,
    Action,
    Brief,
    Judgement,
    Policy,
    cancel,
    elapsed,
    pause_of,
)
from limosa.spec.migration_options import Value

_TICK_S = 0.4
_PER_GB_S, _PROGRESS_S = 150.0, 150.0
_MOST_MS, _FIRST_MS, _RAMP_STEPS, _RAMP_EVERY_S, _RAMP_FROM_PASS = 900, 150, 7, 10.0, 3
_CONNECTIONS = 8

_STALL_S, _SAME, _NEAR, _PATIENCE_S, _LESS = 40.0, 0.96, 1.04, 40.0, 0.5
"""A boundary at 0.96 of the least of those that are 40 s old or older is a stall; one within 1.04 of the least is a
local minimum, which is waited for 40 s, then half as long, and so on."""
_SOFT, _ALPHA, _SWITCH_S = 1.5, 0.4, 60.0

_SOURCE = "KubeVirt 1.9 (d923fdb), pkg/virt-launcher/virtwrap"


def _timeout_s(brief: Brief) -> float:
    return brief.seconds(_PER_GB_S * max(1, math.ceil(brief.memory_bytes / 1e9)))


def _connections(brief: Brief) -> dict[str, Value]:
    return {} if brief.may_post_copy else {"multifd-channels": _CONNECTIONS}


# -- by time ----------------------------------------------------------------------------------------------------------


class _Timed(msgspec.Struct, frozen=True):
    left_bytes: int | None = None
    """What was left at the last look."""
    progress_s: float = 0.0
    """When less was left than at the look before."""
    raised: int = 0
    """How often the pause was."""
    raised_s: float = 0.0
    over: bool = False


def _by_time(seen: History, brief: Brief, memory: _Timed) -> Judgement:
    now, timeout_s = seen.now, _timeout_s(brief)
    if memory.over:
        return Judgement(memory=memory)
    if now.remaining_bytes is not None:
        less = memory.left_bytes is None or now.remaining_bytes < memory.left_bytes
        progress_s = now.at_s if less else memory.progress_s
        memory = msgspec.structs.replace(memory, left_bytes=now.remaining_bytes, progress_s=progress_s)
    over = msgspec.structs.replace(memory, over=True)
    late = f"it has taken {elapsed(seen)}, and the completion timeout is {timeout_s:g} s"
    if now.at_s > timeout_s and brief.may_post_copy:
        return Judgement(POST_COPY, late, over)
    if now.at_s - memory.progress_s > brief.seconds(_PROGRESS_S):
        return Judgement(cancel(), f"no look found less left for {now.at_s - memory.progress_s:.1f} s", over)
    if now.at_s > timeout_s:
        return Judgement(cancel(), late, over)
    return Judgement(memory=memory)


def _tuning(seen: History, brief: Brief, memory: _Timed) -> Judgement:
    judged = _by_time(seen, brief, memory)
    if judged.action is not None or judged.memory.over:
        return judged
    memory, number = judged.memory, seen.now.iteration or 0
    due = seen.now.at_s - memory.raised_s >= brief.seconds(_RAMP_EVERY_S)
    if number < _RAMP_FROM_PASS or not due or memory.raised == _RAMP_STEPS:
        return judged
    raised = memory.raised + 1
    limit_ms = _FIRST_MS + raised * (_MOST_MS - _FIRST_MS) / _RAMP_STEPS
    why = f"pass {number} after {elapsed(seen)}: step {raised} of {_RAMP_STEPS} up to {_MOST_MS} ms"
    after = msgspec.structs.replace(memory, raised=raised, raised_s=seen.now.at_s)
    return Judgement(pause_of(limit_ms), why, after)


def _begins_tuning(brief: Brief) -> dict[str, Value]:
    return {**_connections(brief), "downtime-limit": _FIRST_MS}


# -- by stalls --------------------------------------------------------------------------------------------------------


class _Stalled(msgspec.Struct, frozen=True):
    boundaries: tuple[tuple[float, float], ...] = ()
    """When each pass was seen to begin, and with how many bytes."""
    bytes_per_s: float | None = None
    """A moving average of samples, 0.4 s apart."""
    sampled_s: float = 0.0
    stall_s: float | None = None
    """When it was found to stall."""
    best_bytes: float = 0.0
    best_since_s: float = 0.0
    patience: float = 1.0
    switching_s: float | None = None
    """When a longer pause was allowed."""
    over: bool = False


def _sampled(seen: History, memory: _Stalled) -> _Stalled:
    rate = seen.rate(_TICK_S)
    if rate is None or seen.now.at_s - memory.sampled_s < _TICK_S:
        return memory
    old = memory.bytes_per_s
    average = rate if old is None else _ALPHA * rate + (1 - _ALPHA) * old
    return msgspec.structs.replace(memory, bytes_per_s=average, sampled_s=seen.now.at_s)


def _stalls(memory: _Stalled, at_s: float, left: float, brief: Brief) -> bool:
    old = [size for began_s, size in memory.boundaries if began_s <= at_s - brief.seconds(_STALL_S)]
    return bool(old) and left >= _SAME * min(old)


def _by_stalls(seen: History, brief: Brief, memory: _Stalled) -> Judgement:
    memory = _sampled(seen, memory)
    at_s = seen.now.at_s
    if memory.over:
        return Judgement(memory=memory)
    if memory.switching_s is not None:
        if at_s - memory.switching_s <= brief.seconds(_SWITCH_S):
            return Judgement(memory=memory)
        why = f"it has not switched within {brief.seconds(_SWITCH_S):g} s of a longer pause"
        return Judgement(cancel(), why, msgspec.structs.replace(memory, over=True))
    if at_s > _timeout_s(brief):
        left = seen.now.remaining_bytes
        late = f"it has taken {elapsed(seen)}, and the completion timeout is {_timeout_s(brief):g} s"
        return _end(seen, brief, memory, left or 0.0, late, or_cancel=True)
    if not seen.boundary:
        return Judgement(memory=memory)
    return _at_boundary(seen, brief, memory, seen.passes[-1].start_bytes)


def _at_boundary(seen: History, brief: Brief, memory: _Stalled, left: float) -> Judgement:
    at_s = seen.now.at_s
    stalls = memory.stall_s is not None or _stalls(memory, at_s, left, brief)
    memory = msgspec.structs.replace(memory, boundaries=(*memory.boundaries, (at_s, left)))
    if not stalls:
        return Judgement(memory=memory)
    if memory.stall_s is None:
        best = min(size for _, size in memory.boundaries)
        memory = msgspec.structs.replace(memory, stall_s=at_s, best_bytes=best, best_since_s=at_s)
    elif at_s - memory.best_since_s > brief.seconds(_PATIENCE_S) * memory.patience:
        since = [size for began_s, size in memory.boundaries if began_s >= (memory.stall_s or 0.0)]
        larger = [size for size in since if size > memory.best_bytes]
        best = min(larger, default=memory.best_bytes)
        memory = msgspec.structs.replace(memory, best_bytes=best, best_since_s=at_s, patience=memory.patience * _LESS)
    if left > _NEAR * memory.best_bytes:
        return Judgement(memory=memory)
    why = (
        f"it stalls, and this pass begins with {left / 2**20:.1f} MiB, the least being {memory.best_bytes / 2**20:.1f}"
    )
    return _end(seen, brief, memory, left, why, or_cancel=False)


def _end(seen: History, brief: Brief, memory: _Stalled, left: float, why: str, *, or_cancel: bool) -> Judgement:
    """What a stall, or the timeout, leads to. *or_cancel*: rather than to wait for a link that is down."""
    needed_s = left / memory.bytes_per_s if memory.bytes_per_s else math.inf
    over = msgspec.structs.replace(memory, over=True)
    if needed_s > 2 * _timeout_s(brief) - seen.now.at_s:
        return Judgement(cancel(), why, over) if or_cancel else Judgement(memory=memory)
    action = _means(brief, needed_s)
    waits = msgspec.structs.replace(memory, switching_s=seen.now.at_s)
    after = waits if action.kind == "set" else over
    return Judgement(action, f"{why}; the rest would take a pause of {needed_s:.1f} s", after)


def _means(brief: Brief, needed_s: float) -> Action:
    if brief.may_post_copy:
        return POST_COPY
    if brief.exceed:
        return pause_of(MOST_DOWNTIME_MS)
    return pause_of(_MOST_MS) if needed_s * 1000 <= _SOFT * _MOST_MS else cancel()


def _begins_by_stalls(brief: Brief) -> dict[str, Value]:
    return {**_connections(brief), "downtime-limit": min(_MOST_MS, 300)}


POLICIES = (
    Policy(
        name="kubevirt",
        says="leaves the pause alone; after 150 s for each GB it gives up, or goes over to post-copy where allowed",
        source=_SOURCE,
        begins=_connections,
        step=_by_time,
        memory=_Timed(),
        tick_s=_TICK_S,
        post_copy="may",
    ),
    Policy(
        name="kubevirt-tuning",
        says="as kubevirt, and raises the pause from 150 to 900 ms from the third pass on (VEP 291)",
        source=_SOURCE,
        begins=_begins_tuning,
        step=_tuning,
        memory=_Timed(),
        tick_s=_TICK_S,
        post_copy="may",
    ),
    Policy(
        name="kubevirt-stall",
        says="finds stalls, waits for a local minimum, then post-copy, a longer pause, or gives up (VEP 248)",
        source=_SOURCE,
        begins=_begins_by_stalls,
        step=_by_stalls,
        memory=_Stalled(),
        post_copy="may",
    ),
)
