"""The driver of a migration: phase by phase, each on disk before it begins; ``rescue`` is plan B."""

from __future__ import annotations

import asyncio
import contextlib

from limosa.errors import LimosaError, MigrationError
from limosa.migration import phases
from limosa.migration.methods import pre_copy
from limosa.migration.phases import Phase
from limosa.migration.rescue import Verdict, lost
from limosa.migration.settlement import Settlement
from limosa.migration.transfer import Outcome, Transfer
from limosa.tasks import to_the_end


class Driver:
    """Takes one transfer to its end, whatever happens on the way."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer

    async def run(self) -> Outcome:
        """Move the guest. Raises MigrationError (the guest is on the source), DecisionError, or LimosaError (lost).

        Cancelled, it cancels the migration, says where the guest is, then lets the cancellation go on.
        """
        transfer, plan = self.transfer, self.transfer.plan
        transfer.journal.begin()
        try:
            await self._steps(Phase.STARTING_TARGET)
        except asyncio.CancelledError:
            moved, _ = await to_the_end(self.rescue("cancelled", Phase.CANCELLED))
            place = f"had moved already and is on {plan.target.host}" if moved else f"is on {plan.source.host}"
            transfer.events.note(f"the migration was cancelled; {plan.guest} {place}", level="warning")
            raise
        except Exception as error:  # whatever it is, even a bug of ours: the guest comes first
            known = _known(error)
            moved, cancelled = await to_the_end(self.rescue(known.message if known else repr(error), Phase.FAILED))
            if cancelled:
                raise asyncio.CancelledError from error
            if not moved and known is None:
                raise
            if not moved and known is not None:
                raise self._failed(known) from error
        return transfer.outcome()

    async def _steps(self, phase: Phase) -> None:
        """One after another, until there is nothing left to do. What a method does not allow is an error of ours."""
        while phase not in phases.FINAL:
            try:
                self.transfer.journal.write(phase)
            except LimosaError:
                if phase is not Phase.ENDING_SOURCE:  # the guest has moved: a full disk must not keep its old copy
                    raise
            after = await pre_copy.STEPS[phase](self.transfer)
            if after not in phases.PRE_COPY[phase]:
                raise LimosaError(f"a migration cannot go from {phase} to {after}")
            phase = after
        self.transfer.journal.close(phase)

    def _failed(self, error: LimosaError) -> MigrationError:
        guest, host = self.transfer.plan.guest, self.transfer.plan.source.host
        text = f"the migration failed: {error.message}; {guest} is on {host}"
        return MigrationError(text, hint=error.hint, guest_host=host)

    async def rescue(self, why: str, final: Phase) -> bool:
        """Keep the guest where it is or can be. True: it had moved after all and runs on the target.

        Raises DecisionError when only a person can decide, LimosaError when the guest is lost.
        """
        transfer, plan = self.transfer, self.transfer.plan
        sent = transfer.reached(Phase.MOVING)
        with contextlib.suppress(LimosaError):
            transfer.journal.write(Phase.RESCUING, why)
        settlement = Settlement(
            guest=plan.guest,
            source_host=plan.source.host,
            target_host=plan.target.host,
            source=transfer.source,
            target=transfer.target,
            end_target=transfer.port.end,
            sent=sent,
            watched=True,
            hand_over_s=plan.hand_over_s if transfer.hand_over is None else transfer.hand_over.left_s,
            stream=transfer.stream,
        )
        verdict = await settlement.settle()
        if verdict is Verdict.KEEP_TARGET and transfer.target is not None:
            transfer.note_moments()
            transfer.journal.close(Phase.COMPLETED, why)
            return True
        transfer.journal.close(Phase.FAILED if verdict is Verdict.LOST else final, why)
        if verdict is Verdict.LOST:
            raise lost(plan.guest, plan.source.host)
        return False


def _known(error: BaseException) -> LimosaError | None:
    """The first error of ours in *error*, which may be a task group's."""
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := _known(inner))), None)
    return error if isinstance(error, LimosaError) else None
