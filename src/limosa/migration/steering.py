"""A policy at the helm of a migration under way: when it is asked, and what becomes of what it decides.

Every action is in the journal before it is done, with its reason, and told.
"""

from __future__ import annotations

from limosa.errors import LimosaError, QmpError
from limosa.migration.plan import MigrationPlan
from limosa.migration.policies import policy_table
from limosa.migration.policies.helm import Helm
from limosa.migration.policies.policy import Action
from limosa.migration.transfer import Transfer


def of(plan: MigrationPlan) -> Helm | None:
    """What steers a move; None: QEMU's own loop alone."""
    return None if plan.brief is None else Helm(policy_table.named(plan.policy), plan.brief)


async def steer(transfer: Transfer, helm: Helm | None) -> bool:
    """Have the policy look, and do what it decides; whether the target is to go on without the rest.

    Raises LimosaError where it gives the move up.
    """
    action, why = (None, "") if helm is None else helm.judge(transfer.progress.seen)
    if action is None:
        return False
    transfer.decide(action, why)
    return await _do(transfer, action, why)


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
