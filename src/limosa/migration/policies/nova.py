"""OpenStack Nova: the pause grows by elapsed time alone, in ten steps; at the timeout it is given up, or forced.

Nova 33.0 (commit 00a0304), nova/virt/libvirt/migration.py (``downtime_steps``, ``should_abort``) and driver.py. The
defaults of conf/libvirt.py: ``live_migration_downtime`` 500 ms in 10 steps, 75 s apart for each GiB, and
``live_migration_completion_timeout`` 800 s for each. A guest counts as two GiB at least; disks are not copied here.
"""

from __future__ import annotations

import math

from limosa.migration.history import History
from limosa.migration.policies.policy import (
    GIB,
    PAUSE,
    POST_COPY,
    Brief,
    Judgement,
    Policy,
    cancel,
    elapsed,
    pause_of,
)
from limosa.spec.migration_options import Value

_DOWNTIME_MS, _STEPS, _DELAY_S, _TIMEOUT_S, _LEAST_GIB = 500, 10, 75, 800, 2
_TICK_S = 0.5
_FIRST_MS = _DOWNTIME_MS // _STEPS
_SOURCE = "OpenStack Nova 33.0 (00a0304), nova/virt/libvirt/migration.py"


def _size(brief: Brief) -> int:
    return max(_LEAST_GIB, math.ceil(brief.memory_bytes / GIB))


def _begins(_brief: Brief) -> dict[str, Value]:
    return {"downtime-limit": _FIRST_MS}


def _pause_ms(number: int) -> int:
    """Step *number*, from 0."""
    return int(_FIRST_MS + number * (_DOWNTIME_MS - _FIRST_MS) / _STEPS)


def _step(seen: History, brief: Brief, memory: int, *, force: bool) -> Judgement:
    """*memory*: the number of the step that is in force; -1: it was forced."""
    if memory < 0:
        return Judgement(memory=memory)
    size = _size(brief)
    timeout_s = brief.seconds(_TIMEOUT_S * size)
    if seen.now.at_s > timeout_s:
        why = f"it has taken {elapsed(seen)}, and the completion timeout is {timeout_s:g} s"
        forced = POST_COPY if brief.may_post_copy else PAUSE
        return Judgement(forced if force else cancel(), why, memory=-1)
    number = min(_STEPS, int(seen.now.at_s / brief.seconds(int(_DELAY_S * size))))
    if number <= memory:
        return Judgement(memory=memory)
    why = f"step {number} of {_STEPS}, after {elapsed(seen)}"
    return Judgement(pause_of(_pause_ms(number)), why, memory=number)


def _aborts(seen: History, brief: Brief, memory: int) -> Judgement:
    return _step(seen, brief, memory, force=False)


def _forces(seen: History, brief: Brief, memory: int) -> Judgement:
    return _step(seen, brief, memory, force=True)


POLICIES = (
    Policy(
        name="nova",
        says="raises the pause from 50 to 500 ms by elapsed time, and gives up at its timeout",
        source=_SOURCE,
        begins=_begins,
        step=_aborts,
        memory=0,
        tick_s=_TICK_S,
    ),
    Policy(
        name="nova-force",
        says="as nova; at its timeout it pauses the guest, or goes over to post-copy where that is allowed",
        source=_SOURCE,
        begins=_begins,
        step=_forces,
        memory=0,
        tick_s=_TICK_S,
        post_copy="may",
    ),
)
