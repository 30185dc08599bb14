"""A policy at the helm of a migration under way: when it is asked, and what becomes of what it decides.

Every action is in the journal before it is done, with its reason, and told.
"""

from __future__ import annotations

from limosa.errors import LimosaError, QmpError
from limosa.migration.history import History
from limosa.migration.plan import MigrationPlan
from limosa.migration.policies import policy_table
from limosa.migration.policies.policy import Action, Judgement
from limosa.migration.transfer import Transfer


class Steering:
    """What the policy of *plan* decides, look by look."""

    def __init__(self, plan: MigrationPlan) -> None:
        assert plan.brief is not None, "a policy steers it"
        self._policy, self._brief = policy_table.named(plan.policy), plan.brief
        self._memory = self._policy.memory
        self._tick_s = plan.brief.seconds(self._policy.tick_s)
        self._next_s = self._tick_s

    def judge(self, seen: History) -> Judgement:
        """What is to be done at the last look, if it is time for the policy to look."""
        if seen.now.at_s < self._next_s:
            return Judgement()
        self._next_s = seen.now.at_s + self._tick_s
        judged = self._policy.step(seen, self._brief, self._memory)
        self._memory = judged.memory
        return judged


def of(plan: MigrationPlan) -> Steering | None:
    """What steers a move; None: QEMU's own loop alone."""
    return None if plan.brief is None else Steering(plan)


async def steer(transfer: Transfer, steering: Steering | None) -> bool:
    """Have the policy look, and do what it decides; whether the target is to go on without the rest.

    Raises LimosaError where it gives the move up.
    """
    if steering is None:
        return False
    judged = steering.judge(transfer.progress.seen)
    if judged.action is None:
        return False
    transfer.decide(judged.action, judged.why)
    return await _do(transfer, judged.action, judged.why)


async def _do(transfer: Transfer, action: Action, why: str) -> bool:
    control, plan = transfer.source.control, transfer.plan
    if action.kind == "cancel":
        raise LimosaError(f"the policy {plan.policy} gives it up: {why}", hint=action.hint)
    if action.kind == "pause":
        await control.pause()
    elif action.kind == "set":
        try:
            await control.set_parameters(plan.told(action.options))
        except QmpError as error:
            if error.error_class in {"Gone", "Silent"}:
                raise
            transfer.events.note(f"{error.message}: {action.words}", level="warning")
    return action.kind == "post-copy"
