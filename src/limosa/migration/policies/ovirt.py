"""oVirt: a schedule of actions, at most one at a look each 10 s, by how many passes there were since the first look.

vdsm 4.50.7 (commit fd4b0df), lib/vdsm/virt/migration.py (``MonitorThread``); the schedules are ovirt-engine's
(0111fc6), packaging/dbscripts/upgrade/pre_upgrade/0000_config.sql. Bandwidth, parallel connections and zero-copy of
"very large" are chosen by its engine from the network, and are not reproduced.
"""

from __future__ import annotations

import functools

import msgspec

from limosa.migration.history import History
from limosa.migration.policies.policy import POST_COPY, Action, Brief, Judgement, Policy, cancel, elapsed, pause_of
from limosa.spec.migration_options import Value

_TICK_S = 10.0
_ABORT, _AT_NEXT = cancel(), -1
_UP_TO_500 = ((1, pause_of(150)), (2, pause_of(200)), (3, pause_of(300)), (4, pause_of(400)), (6, pause_of(500)))
_SOURCE = "oVirt, vdsm 4.50.7 (fd4b0df), lib/vdsm/virt/migration.py, and ovirt-engine (0111fc6)"

Schedule = tuple[tuple[int, Action], ...]
"""More passes than this since the first look, and what is done then."""


class _Memory(msgspec.Struct, frozen=True):
    done: int = 0
    """How many actions of the schedule."""
    zero: int | None = None
    """The pass at the first look."""
    last: int = 0
    """The pass at the last one."""


def _step(seen: History, _brief: Brief, memory: _Memory, *, schedule: Schedule) -> Judgement:
    number = seen.now.iteration
    if number is None:
        return Judgement(memory=memory)
    if memory.zero is None:
        return Judgement(memory=_Memory(0, number, number))
    if memory.done == len(schedule) or number <= memory.last:
        return Judgement(memory=memory)
    limit, action = schedule[memory.done]
    passes = number - memory.zero
    if passes <= limit:
        return Judgement(memory=_Memory(memory.done, memory.zero, number))
    why = f"{passes} passes since the first look, after {elapsed(seen)}: action {memory.done + 1} of {len(schedule)}"
    return Judgement(action, why, _Memory(memory.done + 1, memory.zero, number))


def _policy(name: str, says: str, first_ms: int, schedule: Schedule, **options: Value) -> Policy:
    begins: dict[str, Value] = {"auto-converge": True, "downtime-limit": first_ms, **options}
    return Policy(
        name=name,
        says=says,
        source=_SOURCE,
        begins=lambda _brief: dict(begins),
        step=functools.partial(_step, schedule=schedule),
        memory=_Memory(),
        tick_s=_TICK_S,
        post_copy="must" if POST_COPY in (action for _, action in schedule) else "no",
    )


POLICIES = (
    _policy(
        "ovirt-minimal",
        "“Minimal downtime”: raises the pause from 100 to 500 ms by passes, then gives up",
        100,
        (*_UP_TO_500, (_AT_NEXT, _ABORT)),
    ),
    _policy(
        "ovirt-post-copy",
        "“Post-copy migration”: raises the pause to 200 ms by passes, then goes over to post-copy",
        100,
        (*_UP_TO_500[:2], (_AT_NEXT, POST_COPY), (_AT_NEXT, _ABORT)),
    ),
    _policy(
        "ovirt-suspend",
        "“Suspend workload if needed”: raises the pause to 500 ms by passes, then to 5 s, then gives up",
        100,
        (*_UP_TO_500, (_AT_NEXT, pause_of(5000)), (_AT_NEXT, _ABORT)),
        xbzrle=True,
    ),
    _policy(
        "ovirt-very-large",
        "“Very large VMs”: raises the pause from 300 ms to 1.5 s by passes, then to 5 s, then gives up",
        300,
        (
            (1, pause_of(400)),
            (2, pause_of(500)),
            (3, pause_of(700)),
            (4, pause_of(1000)),
            (6, pause_of(1500)),
            (_AT_NEXT, pause_of(5000)),
            (_AT_NEXT, _ABORT),
        ),
    ),
)
