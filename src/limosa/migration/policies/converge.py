"""A plain ladder, to compare with: zstd over several connections, then a throttle, then, where allowed, post-copy.

One rung after the other, whenever passes have stopped to get shorter. Compression has to be chosen before the move, and
does not go with post-copy in QEMU before 10.2: where post-copy is allowed, it is left out.
"""

from __future__ import annotations

import msgspec

from limosa.migration.history import History
from limosa.migration.policies.policy import POST_COPY, Action, Brief, Judgement, Policy
from limosa.spec.migration_options import Value

STALLED_AT = 0.9
"""A pass that begins with this share of the one before, or more, has brought nothing."""
_PARKED = {"cpu-throttle-initial": 1, "cpu-throttle-increment": 1, "max-cpu-throttle": 1}
_THROTTLE = Action("set", {"max-cpu-throttle": 99, "cpu-throttle-increment": 20, "cpu-throttle-initial": 50})
_PATIENCE = (1, 4)
"""After how many passes that brought nothing each rung is taken: the throttle works two passes later at the soonest."""


class _Memory(msgspec.Struct, frozen=True):
    rung: int = 0
    stalled: int = 0
    """How many passes have brought nothing since the last rung."""


def _begins(brief: Brief) -> dict[str, Value]:
    compressed: dict[str, Value] = {} if brief.may_post_copy else {"multifd-compression": "zstd"}
    return {"auto-converge": True, **_PARKED, **compressed}


def _step(seen: History, brief: Brief, memory: _Memory) -> Judgement:
    rungs = (_THROTTLE, POST_COPY) if brief.may_post_copy else (_THROTTLE,)
    if not seen.boundary or seen.share is None or memory.rung == len(rungs):
        return Judgement(memory=memory)
    stalled = memory.stalled + 1 if seen.share >= STALLED_AT else 0
    if stalled < _PATIENCE[memory.rung]:
        return Judgement(memory=_Memory(memory.rung, stalled))
    why = f"pass {seen.now.iteration} begins with {seen.share:.0%} of what the one before began with"
    return Judgement(rungs[memory.rung], why, _Memory(memory.rung + 1))


POLICIES = (
    Policy(
        name="converge",
        says="a plain ladder: zstd, then a throttle of 50 % and more, then post-copy where that is allowed",
        source="to compare with",
        begins=_begins,
        step=_step,
        memory=_Memory(),
        post_copy="may",
    ),
)
