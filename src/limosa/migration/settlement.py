"""Settling an interrupted migration: stop what is under way, look at both sides, carry out what ``rescue`` decides.

The driver uses it when a step fails or is cancelled, and a later command when the controller itself died.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import msgspec

from limosa.deadline import Deadline
from limosa.errors import DecisionError, LimosaError, QmpError, StateError, UnreachableError
from limosa.migration.rescue.before_switch import Situation, decide
from limosa.migration.rescue.fate import GONE, UNREACHABLE, Verdict
from limosa.qemu.guest_process import QemuProcess
from limosa.qemu.monitor import FINAL
from limosa.qemu.stream import Stream

CANCEL_S = 20.0
"""How long a cancelled source may take to say so."""

LOOK_S = 5.0
"""A source that does not answer within this stands still: it sends what is left, and its main loop waits for that."""

HANG_S = 0.5
"""How long a cancelled source may hold on to its connection before that is cut: a link that is there takes no time."""

_NEVER_CONNECTED = frozenset({"none", "setup"})
_NOT_STARTED = frozenset({"paused", "prelaunch"})


class Settlement:
    """Both sides of one migration; a side of which no QEMU was found is None.

    *end_target* ends whatever QEMU the target host has for this guest; it is used when no connection to it exists.
    *sent*: whether the source may have been told to migrate. *watched*: whether the connection to the target is older
    than that, so that its RESUME cannot have been missed. *unknown*: hosts of which nothing can be learnt: a QEMU that
    was not found there may run all the same. *hand_over_s*: what is left of the time that the target has to start, from
    when the source had sent everything. *stream*: the connection that the source sends over; None when it was never
    told to. *find_source* looks again for a source that was there and did not answer; it raises StateError when that
    still does not. *paused*: whether the move's policy may have had the guest paused.
    """

    def __init__(
        self,
        *,
        guest: str,
        source_host: str,
        target_host: str,
        source: QemuProcess | None,
        target: QemuProcess | None,
        end_target: Callable[[], Awaitable[None]],
        sent: bool,
        watched: bool,
        unknown: frozenset[str] = frozenset(),
        hand_over_s: float = 60.0,
        stream: Stream | None = None,
        find_source: Callable[[], Awaitable[QemuProcess | None]] | None = None,
        paused: bool = False,
    ) -> None:
        self.guest, self.source_host, self.target_host = guest, source_host, target_host
        self.source, self.target, self.end_target = source, target, end_target
        self.sent, self.watched, self.unknown, self.hand_over_s = sent, watched, unknown, hand_over_s
        self.stream, self.find_source, self.paused = stream, find_source, paused

    async def settle(self) -> Verdict:
        """End with the guest in one place, and say which: KEEP_SOURCE, RESUME_SOURCE, KEEP_TARGET, or LOST.

        Raises DecisionError when only a person can decide.
        """
        await self._free_source()
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
        return Situation(source, target, target_may_have_run=may_have_run, target_receives=receives, paused=self.paused)

    async def _status(self, side: QemuProcess | None, host: str) -> str:
        """A side's run state, GONE or UNREACHABLE."""
        if side is None:
            return UNREACHABLE if host in self.unknown else GONE
        return await _asked(side)

    async def _free_source(self) -> None:
        """Let a source go on that stands still in its last phase, because the link went dark while it sent the rest.

        It goes on with the guest by itself then. So a target that waits is ended first: should the rest have arrived
        after all, it must not start too. One that runs, or has run, leaves the source as it is. Of one that nobody
        can ask, the connection is cut by the kernel, which drops what has not been sent: a link that comes back must
        not bring it the rest.
        """
        silent = self.source_host in self.unknown if self.source is None else not await self._source_answers()
        if self.stream is None or not silent:
            return
        if await self._status(self.target, self.target_host) == "inmigrate":
            self.watched = True
            await self._end_target()
        now = await self._status(self.target, self.target_host)
        ran = self.target is not None and self.target.control.moment("RESUME") is not None
        if ran or now not in {GONE, UNREACHABLE}:
            return
        if now != GONE or self.source is None or not await self.source.control.yank_migration():
            await self.stream.cut()
        async for _ in Deadline.after(CANCEL_S).ticks(0.1):
            if await self._source_answers():
                return

    async def _source_answers(self) -> bool:
        if self.source is not None:
            try:
                await self.source.observe.status(answer_s=LOOK_S)
            except QmpError as error:
                return error.error_class != "Silent"  # else it is gone, or will say so
            return True
        if self.find_source is None:
            return False
        try:
            self.source = await self.find_source()
        except StateError:
            return False
        self.unknown -= {self.source_host}
        return True

    async def _cancel(self) -> None:
        """Give up on the source's side where it still sends, and see it say so."""
        if self.source is None:
            return
        with contextlib.suppress(QmpError):
            if (await self.source.observe.migrate_info()).status in {"none", *FINAL}:
                return
            await self.source.control.cancel_migration()
            hang, cut = Deadline.after(HANG_S), False
            async for _ in Deadline.after(CANCEL_S).ticks(0.01):
                if await self.source.observe.migration_over():
                    return
                if hang.passed and not cut and self.stream is not None:
                    cut = True
                    await self.stream.cut()

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
        if now.target in _NOT_STARTED and (self.paused or not now.target_may_have_run):
            # It has everything but did not start, for instance because it could not get its disk's lock; or it arrived
            # as it had left, paused.
            try:
                await target.control.resume()
            except QmpError:
                if now.source != "postmigrate" or now.target_may_have_run:
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
