"""The driver of a migration: phase by phase, each on disk before it begins; ``rescue`` is plan B."""

from __future__ import annotations

import asyncio
import contextlib

from limosa.errors import LimosaError, MigrationError
from limosa.migration import phases
from limosa.migration.between import Between
from limosa.migration.journal import became_post_copy, paused_guest
from limosa.migration.methods import post_copy, pre_copy
from limosa.migration.phases import Phase
from limosa.migration.rescue.fate import Verdict, ended_by_itself, lost, lost_between
from limosa.migration.settlement import Settlement
from limosa.migration.transfer import Outcome, Transfer
from limosa.tasks import each, to_the_end


class Driver:
    """Takes one transfer to its end, whatever happens on the way."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.steps = post_copy.STEPS if transfer.plan.may_switch else pre_copy.STEPS
        self.follows = phases.POST_COPY if transfer.plan.may_switch else phases.PRE_COPY

    async def run(self) -> Outcome:
        """Move the guest. Raises MigrationError (the guest is on the source), DecisionError, LimosaError (lost), or
        StateError (post-copy waits for its link, and the patience for it is over).

        Cancelled before post-copy, it cancels the migration and says where the guest is; in post-copy it leaves it,
        and says so. Then it lets the cancellation go on.
        """
        self.transfer.journal.begin()
        return await self._driven(Phase.STARTING_TARGET)

    async def go_on(self) -> Outcome:
        """Take up a post-copy that another command began, from wherever it is. Raises what ``run`` does."""
        return await self._driven(Phase.POST_COPY)

    async def _driven(self, first: Phase) -> Outcome:
        transfer, plan = self.transfer, self.transfer.plan
        try:
            await self._take_steps(first)
        except asyncio.CancelledError:
            if self._between:
                transfer.events.note(_LEFT.format(plan=plan), level="warning")
                raise
            moved, _ = await to_the_end(self.rescue("cancelled", Phase.CANCELLED))
            place = f"had moved already and is on {plan.target.host}" if moved else f"is on {plan.source.host}"
            transfer.events.note(f"the migration was cancelled; {plan.guest} {place}", level="warning")
            raise
        except post_copy.Unmendable as error:
            transfer.journal.close(Phase.LOST, error.message)
            end = lost_between(plan.guest, plan.source.host, plan.target.host)
            raise LimosaError(f"{plan.guest} is lost: {error.message}", hint=end.hint) from error
        except Exception as error:  # whatever it is, even a bug of ours: the guest comes first
            known = _known(error)
            moved, cancelled = await to_the_end(self.rescue(known.message if known else repr(error), Phase.FAILED))
            if cancelled:
                raise asyncio.CancelledError from error
            if moved is None and known is not None:
                raise known from error
            if not moved and known is None:
                raise
            if not moved and known is not None:
                raise self._failed(known) from error
        return transfer.outcome()

    @property
    def _between(self) -> bool:
        """Whether the guest's memory is on both hosts."""
        entries = self.transfer.journal.entries
        return bool(entries) and entries[-1].phase in phases.BETWEEN

    async def _take_steps(self, phase: Phase) -> None:
        """One after another, until there is nothing left to do. What a method does not allow is an error of ours."""
        while phase not in phases.FINAL:
            try:
                self.transfer.journal.write(phase)
            except LimosaError:
                # The guest has moved, or is on its way: a full disk must not keep it from arriving whole.
                if phase not in phases.AFTER_SWITCH - {Phase.STARTING_POST_COPY, Phase.SWITCHED}:
                    raise
            after = await self.steps[phase](self.transfer)
            if after not in self.follows[phase]:
                raise LimosaError(f"a migration cannot go from {phase} to {after}")
            phase = after
        self.transfer.journal.close(phase)

    def _failed(self, error: LimosaError) -> MigrationError:
        guest, host = self.transfer.plan.guest, self.transfer.plan.source.host
        text = f"the migration failed: {error.message}; {guest} is on {host}"
        return MigrationError(text, hint=error.hint, guest_host=host)

    async def rescue(self, why: str, final: Phase) -> bool | None:
        """Keep the guest where it is or can be. True: it had moved after all and runs on the target. None: post-copy is
        not over, and nothing was ended.

        Raises DecisionError when only a person can decide, LimosaError when the guest is lost.
        """
        transfer, plan = self.transfer, self.transfer.plan
        if await self._ended_at_target():
            await each([transfer.source.end(), transfer.receiver.end()])
            transfer.journal.close(Phase.FAILED, why)
            raise ended_by_itself(plan.guest)
        switched = became_post_copy(transfer.journal.entries)
        with contextlib.suppress(LimosaError):
            if not switched:  # else the last phase tells the next command what there is
                transfer.journal.write(Phase.RESCUING, why)
        verdict = await (self._settled_between() if switched else self._settled())
        if verdict is Verdict.GO_ON:
            return None
        if verdict is Verdict.KEEP_TARGET and transfer.target is not None:
            transfer.note_moments()
            transfer.journal.close(Phase.COMPLETED, why)
            return True
        if verdict is Verdict.LOST and self._powered_off():
            await transfer.source.end()  # in post-copy it has what is left of the guest
            transfer.journal.close(Phase.FAILED, why)
            raise ended_by_itself(plan.guest)
        if verdict is Verdict.LOST and switched:
            transfer.journal.close(Phase.LOST, why)
            raise lost_between(plan.guest, plan.source.host, plan.target.host)
        transfer.journal.close(Phase.FAILED if verdict is Verdict.LOST else final, why)
        if verdict is Verdict.LOST:
            raise lost(plan.guest, plan.source.host)
        return False

    async def _ended_at_target(self) -> bool:
        """Whether the guest ran at the target and shut itself down there: then there is none to be kept."""
        target = self.transfer.target
        if target is None:
            return False
        if not (target.control.connected and target.observe.connected):
            with contextlib.suppress(LimosaError):
                await target.status()  # of one that is gone, all that it had said is read then
        return target.control.powered_off()

    def _powered_off(self) -> bool:
        """Whether either side's QEMU has said, before it ended, that the guest shut itself down."""
        sides = (self.transfer.source, self.transfer.target)
        return any(side is not None and side.control.powered_off() for side in sides)

    async def _settled(self) -> Verdict:
        transfer, plan = self.transfer, self.transfer.plan
        settlement = Settlement(
            guest=plan.guest,
            source_host=plan.source.host,
            target_host=plan.target.host,
            source=transfer.source,
            target=transfer.target,
            end_target=transfer.port.end,
            sent=transfer.reached(Phase.MOVING),
            watched=True,
            hand_over_s=plan.hand_over_s if transfer.hand_over is None else transfer.hand_over.left_s,
            stream=transfer.stream,
            paused=paused_guest(transfer.journal.entries),
        )
        return await settlement.settle()

    async def _settled_between(self) -> Verdict:
        transfer, plan = self.transfer, self.transfer.plan
        between = Between(
            guest=plan.guest,
            hosts=(plan.source.host, plan.target.host),
            source=transfer.source,
            target=transfer.target,
            end_target=transfer.port.end,
            hand_over_s=plan.hand_over_s,
        )
        return await between.settle()


_LEFT = (
    "post-copy cannot be cancelled: the memory of {plan.guest} is on {plan.source.host} and on {plan.target.host}. "
    "It goes on without this command; limosa recover {plan.guest} waits for its end, and mends it where its link is cut"
)


def _known(error: BaseException) -> LimosaError | None:
    """The first error of ours in *error*, which may be a task group's."""
    if isinstance(error, BaseExceptionGroup):
        return next((known for inner in error.exceptions if (known := _known(inner))), None)
    return error if isinstance(error, LimosaError) else None
