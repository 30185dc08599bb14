"""Cloud Hypervisor: between two passes it is judged whether the next one would fit into the pause; an hour at most.

Cloud Hypervisor 53.0 (commit ae44c29), vmm/src/lib.rs and vm-migration/src/context.rs: downtime 300 ms, timeout 3600 s,
strategy ``cancel``, or ``ignore``: then it stops at the timeout, whatever that takes (here where a longer pause is
better than giving up). QEMU, which would stop in the middle of a pass, is held back by a limit of 1 ms until then.
"""

from __future__ import annotations

from limosa.migration.history import History
from limosa.migration.policies.policy import MOST_DOWNTIME_MS, Brief, Judgement, Policy, cancel, elapsed, pause_of
from limosa.spec.migration_options import Value

_DOWNTIME_S, _TIMEOUT_S, _HELD_BACK_MS = 0.3, 3600.0, 1


def _begins(_brief: Brief) -> dict[str, Value]:
    return {"downtime-limit": _HELD_BACK_MS}


def _last_rate(seen: History) -> float | None:
    """At how many bytes/s the last whole pass went over."""
    if len(seen.passes) < 2:
        return None
    before, now = seen.passes[-2:]
    return before.start_bytes / (now.began_s - before.began_s) if now.began_s > before.began_s else None


def _step(seen: History, brief: Brief, done: bool) -> Judgement:
    rate = _last_rate(seen)
    if done or not seen.boundary or not rate:
        return Judgement(memory=done)
    needed_s = seen.passes[-1].start_bytes / rate
    if needed_s <= _DOWNTIME_S:
        why = f"the next pass would take {needed_s * 1000:.0f} ms, and {_DOWNTIME_S * 1000:.0f} ms are allowed"
        return Judgement(pause_of(MOST_DOWNTIME_MS), why, memory=True)
    if seen.now.at_s < brief.seconds(_TIMEOUT_S):
        return Judgement(memory=done)
    why = f"it has taken {elapsed(seen)}, and the timeout is {brief.seconds(_TIMEOUT_S):g} s"
    return Judgement(pause_of(MOST_DOWNTIME_MS) if brief.exceed else cancel(), why, memory=True)


POLICIES = (
    Policy(
        name="cloud-hypervisor",
        says="judges between two passes whether the next would fit into 300 ms, and gives up after an hour",
        source="Cloud Hypervisor 53.0 (ae44c29), vmm/src/lib.rs, vm-migration/src/context.rs",
        begins=_begins,
        step=_step,
        memory=False,
    ),
)
