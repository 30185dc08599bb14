"""Ganeti: a pause of 30 ms at 32 MiB/s; where post-copy is allowed, it begins with the second pass.

Ganeti 3.1.0 (commit c35736d), src/Ganeti/Constants.hs and lib/hypervisor/hv_kvm/__init__.py.
"""

from __future__ import annotations

from limosa.migration.history import History
from limosa.migration.policies.policy import Brief, Judgement, Policy, at_second_pass
from limosa.spec.migration_options import Value

_BYTES_PER_S = 32 << 20


def _begins(brief: Brief) -> dict[str, Value]:
    limits: dict[str, Value] = {"max-bandwidth": _BYTES_PER_S, "downtime-limit": 30}
    return {**limits, "max-postcopy-bandwidth": _BYTES_PER_S} if brief.may_post_copy else limits


def _step(seen: History, brief: Brief, done: bool) -> Judgement:
    return at_second_pass(seen, brief, done) if brief.may_post_copy else Judgement(memory=done)


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
