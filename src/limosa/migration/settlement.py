"""Settling an interrupted migration: stop what is under way, look at both sides, carry out what ``rescue`` decides.

The engine uses it when a step fails or is cancelled, and a later command when the controller itself died.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, QmpError, StateError, UnreachableError
from limosa.migration.rescue import GONE, UNREACHABLE, Situation, Verdict, decide
from limosa.qemu.monitor import FINAL
from limosa.qemu.process import QemuProcess

CANCEL_S = 20.0
"""How long a cancelled source may take to say so."""

_NEVER_CONNECTED = frozenset({"none", "setup"})
_NOT_STARTED = frozenset({"paused", "prelaunch"})


class Settlement(msgspec.Struct):
    """Both sides of one migration; a side of which no QEMU was found is None."""

    guest: str
    source_host: str
    target_host: str
    source: QemuProcess | None
    target: QemuProcess | None
    end_target: Callable[[], Awaitable[None]]
    """Ends whatever QEMU the target host has for this guest; used when no connection to it exists."""
    sent: bool
    """Whether the source may have been told to migrate."""
    watched: bool
    """Whether the connection to the target is older than that, so that its RESUME cannot have been missed."""
    unknown: frozenset[str] = frozenset()
    """Hosts of which nothing can be learnt: a QEMU that was not found there may run all the same."""
    hand_over_s: float = 60.0

    async def settle(self) -> Verdict:
        """End with the guest in one place, and say which: KEEP_SOURCE, RESUME_SOURCE, KEEP_TARGET, or LOST.

        Raises DecisionError when only a person can decide.
        """
        await self._cancel()
        async for _ in Deadline.after(self.hand_over_s).ticks(0.02):
            now = await self.situation()
            verdict = decide(now)
            if verdict is not Verdict.WAIT:
                return await self._carry_out(verdict, now)
        if now.target == "inmigrate":
            # What it waits for does not come. Once it has ended, it is known for sure whether it ever ran.
            await self._end_target()
            now = await self.situation()
        return await self._carry_out(decide(now), now)

    async def situation(self) -> Situation:
        """What is known now."""
        source = await self._status(self.source, self.source_host)
        target = await self._status(self.target, self.target_host)
        if target == "inmigrate":
            self.watched = True
        resumed = self.target is None or self.target.control.moment("RESUME") is not None
        receives = True
        if source == GONE and target == "inmigrate" and self.target is not None:
            with contextlib.suppress(QmpError):
                receives = (await self.target.observe.migrate_info()).status not in _NEVER_CONNECTED
        # A source comes to postmigrate in one way only, whatever else is known of what was sent.
        sent = self.sent or source == "postmigrate"
        may_have_run = sent and (resumed or not self.watched)
        return Situation(source, target, target_may_have_run=may_have_run, target_receives=receives)

    async def _status(self, side: QemuProcess | None, host: str) -> str:
        """A side's run state, GONE or UNREACHABLE."""
        if side is None:
            return UNREACHABLE if host in self.unknown else GONE
        return await _asked(side)

    async def _cancel(self) -> None:
        """Give up on the source's side where it still sends, and see it say so."""
        if self.source is None:
            return
        with contextlib.suppress(QmpError):
            if (await self.source.observe.migrate_info()).status in {"none", *FINAL}:
                return
            await self.source.control.cancel_migration()
            async for _ in Deadline.after(CANCEL_S).ticks(0.01):
                if (await self.source.observe.migrate_info()).status in FINAL:
                    return

    async def _carry_out(self, verdict: Verdict, now: Situation) -> Verdict:
        if verdict is Verdict.KEEP_TARGET and self.target is not None:
            return await self._keep_target(self.target, now)
        if verdict is Verdict.RESUME_SOURCE and self.source is not None:
            await self._end_target()
            try:
                await self.source.control.resume()
            except QmpError as error:
                raise self._ask(now, error.message) from error
            return verdict
        if verdict in {Verdict.KEEP_SOURCE, Verdict.LOST}:
            await self._end_target()
            return verdict
        raise self._ask(now, "continuing either copy could damage its disk")

    async def _keep_target(self, target: QemuProcess, now: Situation) -> Verdict:
        if now.target in _NOT_STARTED and not now.target_may_have_run:
            # It has everything but did not start, for instance because it could not get its disk's lock.
            try:
                await target.control.resume()
            except QmpError:
                if now.source != "postmigrate":
                    raise
                return await self._carry_out(Verdict.RESUME_SOURCE, msgspec.structs.replace(now, target=GONE))
        if self.source is not None:
            await self.source.end()
        return Verdict.KEEP_TARGET

    async def _end_target(self) -> None:
        if self.target is not None:
            await self.target.end()
        else:
            await self.end_target()

    def _ask(self, now: Situation, why: str) -> DecisionError:
        return DecisionError(
            f"{self.guest} is {now.source} on {self.source_host} and {now.target} on {self.target_host} "
            f"after an interrupted migration; {why}",
            hint=f"end the copy you do not want, the other goes on: limosa stop {self.guest} --host HOST --force",
        )


async def _asked(side: QemuProcess) -> str:
    """A QEMU's run state, GONE or UNREACHABLE. A namespace host that is off has ended all that ran on it."""
    try:
        return await side.status()
    except UnreachableError:  # a machine of its own may go on with the guest
        return UNREACHABLE
    except StateError:
        await side.control.wait_ended(Deadline.after(1))
        return GONE
    except LimosaError:
        return UNREACHABLE
