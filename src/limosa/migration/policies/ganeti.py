"""Ganeti: a pause of 30 ms at 32 MiB/s; where post-copy is allowed, it begins with the second pass.

Ganeti 3.1.0 (commit c35736d), src/Ganeti/Constants.hs and lib/hypervisor/hv_kvm/__init__.py.
"""

from __future__ import annotations

from limosa.migration.history import History
from limosa.migration.policies.policy import POST_COPY, Brief, Judgement, Policy
from limosa.spec.migration_options import Value

_BYTES_PER_S, _SECOND_PASS = 32 << 20, 2


def _begins(brief: Brief) -> dict[str, Value]:
    limits: dict[str, Value] = {"max-bandwidth": _BYTES_PER_S, "downtime-limit": 30}
    return {**limits, "max-postcopy-bandwidth": _BYTES_PER_S} if brief.may_post_copy else limits


def _step(seen: History, brief: Brief, done: bool) -> Judgement:
    if done or not brief.may_post_copy or (seen.now.iteration or 0) < _SECOND_PASS:
        return Judgement(memory=done)
    return Judgement(POST_COPY, f"pass {seen.now.iteration} has begun", memory=True)


POLICIES = (
    Policy(
        name="ganeti",
        says="allows a pause of 30 ms at 32 MiB/s; post-copy from the second pass on where that is allowed",
        source="Ganeti 3.1.0 (c35736d), lib/hypervisor/hv_kvm/__init__.py",
        begins=_begins,
        step=_step,
        memory=False,
        tick_s=1.0,
        post_copy="may",
    ),
)
